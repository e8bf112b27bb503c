package slots

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// Where Android keeps the state of slots: 32 bytes at 2048 of the partition misc (AOSP,
// bootloader_message.h, struct bootloader_message_ab and struct bootloader_control).
const (
	androidOffset = 2048
	androidSize   = 32
	maxMisc       = 64 << 20
)

// AndroidForm is which of two structures misc has.
type AndroidForm uint8

// The forms.
const (
	// struct bootloader_control of AOSP: magic BCAB, four slots, a little-endian CRC
	AndroidControl AndroidForm = iota + 1
	// AvbABData of libavb_ab: magic \0AB0, two slots, a big-endian CRC
	AndroidLibAVB
)

// String is "bootloader_control" or "libavb_ab".
func (f AndroidForm) String() string {
	return name("AndroidForm", int(f), 1, "bootloader_control", "libavb_ab")
}

// AndroidSlot is a slot of Android.
type AndroidSlot struct {
	Priority        int // 0 to 15: the highest is started first, and 0 never
	Tries           int // tries left, 0 to 7
	Successful      bool
	VerityCorrupted bool // of AndroidControl only
}

// AndroidMisc is the state of slots in Android's partition misc. It is read-only in this package:
// no tool of a distribution writes it, and vendors' loaders follow rules of their own.
type AndroidMisc struct {
	Form    AndroidForm
	Version int
	// "_a": slot_suffix, which some loaders write for the slot that runs, and others once; "" for
	// AndroidLibAVB
	Suffix        string
	RecoveryTries int // starts of the recovery system that are left
	Android       []AndroidSlot

	raw []byte
}

// ParseAndroidMisc reads the partition, or the first 2080 bytes of it at least. If the checksum is
// wrong, the error is [ErrChecksum]: loaders then start with seven tries for each slot.
func ParseAndroidMisc(misc []byte) (a *AndroidMisc, err error) {
	defer prefix.Add("slots", &err)
	bad := func(at int, field string, err error) (*AndroidMisc, error) {
		return nil, &osmith.FormatError{Offset: androidOffset + int64(at), Field: "misc: " + field, Err: err}
	}
	if len(misc) < androidOffset+androidSize || len(misc) > maxMisc {
		return bad(-androidOffset, "size", fmt.Errorf("%d bytes, want %d to %d", len(misc), androidOffset+androidSize, maxMisc))
	}
	b := misc[androidOffset:][:androidSize]
	a = &AndroidMisc{raw: bytes.Clone(misc)}
	var stored uint32
	switch {
	case string(b[4:8]) == "BCAB":
		a.Form, a.Version, stored = AndroidControl, int(b[8]), binary.LittleEndian.Uint32(b[28:])
	case string(b[:4]) == "\x00AB0":
		a.Form, a.Version, stored = AndroidLibAVB, int(b[4]), binary.BigEndian.Uint32(b[28:])
	default:
		return bad(4, "magic", errors.New("want magic BCAB, or \\0AB0 at the start"))
	}
	if a.Version != 1 {
		return bad(8, "version", fmt.Errorf("%d, want 1", a.Version))
	}
	count := 2
	if a.Form == AndroidControl {
		if count = int(b[9] & 7); count > 4 {
			return bad(9, "nb_slot", fmt.Errorf("%d, want at most 4", count))
		}
	}
	if got := crc32.ChecksumIEEE(b[:28]); got != stored {
		return bad(28, "crc32_le", fmt.Errorf("%w: 0x%08x, want 0x%08x", ErrChecksum, stored, got))
	}
	if a.Form == AndroidControl {
		a.Suffix = string(bytes.TrimRight(b[:4], "\x00"))
		a.RecoveryTries = int(b[9] >> 3 & 7)
	}
	for i := range count {
		if a.Form == AndroidLibAVB {
			s := b[8+4*i:]
			a.Android = append(a.Android, AndroidSlot{Priority: int(s[0]), Tries: int(s[1]), Successful: s[2] != 0})
			continue
		}
		s := b[12+2*i:]
		a.Android = append(a.Android, AndroidSlot{Priority: int(s[0] & 15), Tries: int(s[0] >> 4 & 7), Successful: s[0]>>7 != 0, VerityCorrupted: s[1]&1 != 0})
	}
	return a, nil
}

// MarshalBinary is the partition as it was read.
func (a *AndroidMisc) MarshalBinary() ([]byte, error) { return bytes.Clone(a.raw), nil }

// Properties are documented with [Reader].
func (a *AndroidMisc) Properties() Properties {
	return Properties{
		Name: "misc of Android, " + a.Form.String(), Evidence: EvidenceSource,
		Counts: AnswerUnknown, FallsBack: AnswerUnknown, TellsGood: AnswerYes, TellsRunning: AnswerUnknown, KeepsValid: AnswerNo, Torn: AnswerNo,
	}
}

func androidName(i int) string { return "_" + string(rune('a'+i)) }

func (s AndroidSlot) bootable() bool {
	return s.Priority > 0 && !s.VerityCorrupted && (s.Successful || s.Tries > 0)
}

// Slots are documented with [Reader].
func (a *AndroidMisc) Slots() (all []Slot) {
	for i, s := range a.Android {
		all = append(all, Slot{Name: androidName(i), Bootable: answer(s.bootable()), Good: answer(s.Successful), Tries: s.Tries, Priority: s.Priority})
	}
	return all
}

// Boot is documented with [Reader]. The rule is that of libavb_ab and of AOSP's boot control: the
// slot with the highest priority is started, of equal ones the first, and a slot that is not
// successful loses a try. A vendor's loader may have a different rule, so the next start is unknown
// if two slots have the same priority.
func (a *AndroidMisc) Boot() (Start, Reader) {
	best := -1
	for i, s := range a.Android {
		switch {
		case !s.bootable():
		case best < 0 || s.Priority > a.Android[best].Priority:
			best = i
		case s.Priority == a.Android[best].Priority && s.Successful != a.Android[best].Successful:
			return Start{Reason: fmt.Sprintf("slots %s and %s have the same priority, and loaders differ in which of them they start", androidName(best), androidName(i))}, nil
		}
	}
	if best < 0 {
		return Start{Outcome: OutcomeNothing, Reason: "no slot can be started: the loader asks for recovery"}, nil
	}
	start := Start{Outcome: OutcomeSlot, Slot: androidName(best), Reason: fmt.Sprintf("priority %d", a.Android[best].Priority)}
	if a.Android[best].Successful {
		return start, a
	}
	next := *a
	next.Android = slices.Clone(a.Android)
	next.Android[best].Tries--
	return start, next.encoded()
}

// encoded is the state with its tries in the bytes, as a loader writes them.
func (a AndroidMisc) encoded() *AndroidMisc {
	a.raw = bytes.Clone(a.raw)
	b := a.raw[androidOffset:][:androidSize]
	for i, s := range a.Android {
		if a.Form == AndroidLibAVB {
			b[8+4*i+1] = byte(s.Tries)
			continue
		}
		b[12+2*i] = b[12+2*i]&^0x70 | byte(s.Tries)<<4
	}
	if sum := crc32.ChecksumIEEE(b[:28]); a.Form == AndroidLibAVB {
		binary.BigEndian.PutUint32(b[28:], sum)
	} else {
		binary.LittleEndian.PutUint32(b[28:], sum)
	}
	return &a
}
