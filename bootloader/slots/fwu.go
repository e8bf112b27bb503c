package slots

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// FWUOptions are facts that metadata of version 1 does not contain.
type FWUOptions struct {
	Banks, Images int // for version 1: number of banks, from 1 to 4, and of images, from 1 to 255
}

// Sizes of the structures, all little-endian (Arm DEN0118, "Platform Security Firmware Update for
// the A-profile Arm Architecture", 1.0 for version 2, beta for version 1; struct fwu_metadata of
// TF-A).
const (
	fwuHeader1    = 16 // crc_32, version, active_index, previous_active_index
	fwuHeader2    = 32 // and metadata_size, descriptor_offset, reserved, bank_state[4], reserved
	fwuStoreDesc  = 8  // num_banks, reserved, num_images, img_entry_size, bank_info_entry_size
	fwuImageEntry = 32 // two GUIDs, then one fwuBankInfo for each bank
	fwuBankInfo   = 24 // a GUID, accepted, reserved
	fwuMaxBanks   = 4
	maxFWU        = 1 << 20
)

// FWUBankState is the state of a bank in metadata of version 2.
type FWUBankState uint8

// The states.
const (
	FWUBankAccepted FWUBankState = 0xfc
	FWUBankValid    FWUBankState = 0xfe // completely written, and not accepted
	FWUBankInvalid  FWUBankState = 0xff
)

// FWUImage is an image of firmware, which each bank has one of.
type FWUImage struct {
	Type     osmith.GUID
	Location osmith.GUID
	Accepted []bool // by bank
}

// FWU is metadata of Arm's firmware update (PSA FWU), of which a machine has two copies. It is
// read-only in this package: secure firmware decides what starts, and the metadata does not have
// its number of tries.
type FWU struct {
	Version  int // 1 or 2
	Active   int // bank that is started
	Previous int // bank that was started before
	Banks    int
	States   []FWUBankState // by bank; nil for version 1
	Images   []FWUImage     // none: metadata of version 2 without image descriptors

	copies  [][]byte
	damaged []int
}

// ParseFWU reads one copy of the metadata or two. The first valid copy counts, as in TF-A;
// [FWU.Damaged] lists the others. If no copy is valid, the error is that of the first one. Two
// valid copies that differ are an error, because it is unknown which of them firmware reads.
func ParseFWU(o FWUOptions, copies ...[]byte) (f *FWU, err error) {
	defer prefix.Add("slots", &err)
	if len(copies) < 1 || len(copies) > 2 {
		return nil, fmt.Errorf("FWU metadata: %d copies, want 1 or 2", len(copies))
	}
	var first error
	var damaged []int
	used := -1
	for i, c := range copies {
		parsed, err := parseFWU(o, c)
		switch {
		case err != nil:
			damaged = append(damaged, i+1)
			if first == nil {
				first = err
			}
		case f == nil:
			f, used = parsed, i
		case !bytes.Equal(c, copies[used]):
			return nil, errors.New("FWU metadata: both copies are valid but differ, as after an interrupted update: reboot so that firmware repairs them")
		}
	}
	if f == nil {
		return nil, first
	}
	f.damaged = damaged
	for _, c := range copies {
		f.copies = append(f.copies, bytes.Clone(c))
	}
	return f, nil
}

func parseFWU(o FWUOptions, b []byte) (*FWU, error) {
	bad := func(at int, field string, format string, args ...any) (*FWU, error) {
		return nil, &osmith.FormatError{Offset: int64(at), Field: "FWU metadata: " + field, Err: fmt.Errorf(format, args...)}
	}
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
	u16 := func(at int) int { return int(binary.LittleEndian.Uint16(b[at:])) }
	if len(b) < fwuHeader1 || len(b) > maxFWU {
		return bad(0, "size", "%d bytes, want %d to %d", len(b), fwuHeader1, maxFWU)
	}
	f := &FWU{Version: int(min(u32(4), 1<<16))}
	var size, at, images int // of the metadata, of the first image entry, how many of them
	entry, info := fwuImageEntry, fwuBankInfo
	switch f.Version {
	case 1:
		if o.Banks < 1 || o.Banks > fwuMaxBanks || o.Images < 1 || o.Images > 255 {
			return bad(4, "version", "1, which does not say how many banks and images there are: got %d and %d from the caller, want 1 to 4 and 1 to 255",
				o.Banks, o.Images)
		}
		f.Banks, images, at = o.Banks, o.Images, fwuHeader1
		entry += f.Banks * info
		size = at + images*entry
	case 2:
		if len(b) < fwuHeader2 {
			return bad(0, "size", "%d bytes, want %d at least", len(b), fwuHeader2)
		}
		if u32(16) < fwuHeader2 || u32(16) > maxFWU {
			return bad(16, "metadata_size", "%d, want %d to %d", u32(16), fwuHeader2, maxFWU)
		}
		size = int(u32(16))
	default:
		return bad(4, "version", "%d, want 1 or 2", u32(4))
	}
	if size > len(b) {
		return bad(16, "metadata_size", "%d, there are %d bytes", size, len(b))
	}
	if f.Version == 2 && u16(20) != 0 {
		desc := u16(20)
		if desc < fwuHeader2 || desc+fwuStoreDesc > size {
			return bad(20, "descriptor_offset", "%d, want 0, or %d to %d", desc, fwuHeader2, size-fwuStoreDesc)
		}
		f.Banks, images, entry, info, at = int(b[desc]), u16(desc+2), u16(desc+4), u16(desc+6), desc+fwuStoreDesc
		if f.Banks < 1 || f.Banks > fwuMaxBanks || info < fwuBankInfo || entry < fwuImageEntry+f.Banks*info || int64(at)+int64(images)*int64(entry) > int64(size) {
			return bad(desc, "fw_store_desc", "%d banks, %d images of %d bytes with %d for a bank: want 1 to %d banks in entries that fit into %d bytes",
				f.Banks, images, entry, info, fwuMaxBanks, size)
		}
	}
	if got := crc32.ChecksumIEEE(b[4:size]); got != u32(0) {
		return bad(0, "crc_32", "%w: 0x%08x, want 0x%08x", ErrChecksum, u32(0), got)
	}
	if f.Version == 2 {
		if f.Banks == 0 {
			f.Banks = fwuMaxBanks // without descriptors every bank that is not invalid is there
		}
		for _, s := range b[24:][:f.Banks] {
			f.States = append(f.States, FWUBankState(s))
		}
	}
	if u32(8) >= uint32(f.Banks) {
		return bad(8, "active_index", "%d, there are %d banks", u32(8), f.Banks)
	}
	if u32(12) >= uint32(f.Banks) {
		return bad(12, "previous_active_index", "%d, there are %d banks", u32(12), f.Banks)
	}
	f.Active, f.Previous = int(u32(8)), int(u32(12))
	for i := range images {
		e := b[at+i*entry:][:entry]
		image := FWUImage{Type: diskGUID(e), Location: diskGUID(e[16:])}
		for bank := range f.Banks {
			image.Accepted = append(image.Accepted, binary.LittleEndian.Uint32(e[fwuImageEntry+bank*info+16:])&1 != 0)
		}
		f.Images = append(f.Images, image)
	}
	return f, nil
}

// diskGUID is a GUID as it lies on a disk: its first three fields are little-endian.
func diskGUID(b []byte) (g osmith.GUID) {
	copy(g[:], []byte{b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6]})
	copy(g[8:], b[8:16])
	return g
}

// Damaged are the numbers of the copies that are not valid, from 1.
func (f *FWU) Damaged() []int { return append([]int(nil), f.damaged...) }

// Copies are the copies as they were read.
func (f *FWU) Copies() (all [][]byte) {
	for _, c := range f.copies {
		all = append(all, bytes.Clone(c))
	}
	return all
}

// Properties are documented with [Reader].
func (f *FWU) Properties() Properties {
	return Properties{
		Name: fmt.Sprintf("FWU metadata of Arm, version %d", f.Version), Evidence: EvidenceSource,
		Counts: AnswerUnknown, FallsBack: AnswerUnknown, TellsGood: AnswerYes, TellsRunning: AnswerNo, KeepsValid: answer(f.Version == 2), Torn: AnswerUnknown,
	}
}

func bankName(i int) string { return fmt.Sprintf("bank %d", i) }

// good is whether a bank was accepted: by its state, and without one if all of its images are.
func (f *FWU) good(bank int) Answer {
	if f.States != nil {
		switch f.States[bank] {
		case FWUBankAccepted:
			return AnswerYes
		case FWUBankValid, FWUBankInvalid:
			return AnswerNo
		}
		return AnswerUnknown
	}
	for _, i := range f.Images {
		if !i.Accepted[bank] {
			return AnswerNo
		}
	}
	return AnswerYes
}

// Slots are documented with [Reader]: the banks, "bank 0" first.
func (f *FWU) Slots() (all []Slot) {
	for i := range f.Banks {
		s := Slot{Name: bankName(i), Good: f.good(i), Tries: -1, Priority: -1}
		if f.States != nil && f.States[i] == FWUBankInvalid {
			s.Bootable = AnswerNo
		} else if s.Good == AnswerYes {
			s.Bootable = AnswerYes
		}
		all = append(all, s)
	}
	return all
}

// Boot is documented with [Reader]. An active bank that was not accepted is in trial: the platform
// decides how often firmware starts it, so only the first start is known; after a failure firmware
// returns to [FWU].Previous.
func (f *FWU) Boot() (Start, Reader) {
	if f.States != nil && f.States[f.Active] != FWUBankAccepted && f.States[f.Active] != FWUBankValid {
		return Start{Reason: bankName(f.Active) + " is active but not valid: firmware chooses a different slot"}, nil
	}
	if f.good(f.Active) != AnswerYes {
		return Start{Outcome: OutcomeSlot, Slot: bankName(f.Active), Reason: "active, and not accepted"}, nil
	}
	return Start{Outcome: OutcomeSlot, Slot: bankName(f.Active), Reason: "active, and accepted"}, f
}
