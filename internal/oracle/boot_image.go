package oracle

import (
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// peSection is a row of a section table.
type peSection struct {
	name         string
	address      int64 // in memory
	virtual, raw int64 // sizes in memory and in the file
	at           int64 // in the file
}

// peImage is what a boot loader and firmware look at of an EFI program.
type peImage struct {
	machine  uint16
	size     int64 // in memory
	headers  int64
	sections []peSection
}

// readPE reads the headers of a program (Microsoft PE Format).
func readPE(f BootFile) (*peImage, error) {
	le := binary.LittleEndian
	dos, err := f.bytes(0, 64)
	if err != nil {
		return nil, err
	}
	at := int64(le.Uint32(dos[60:]))
	if string(dos[:2]) != "MZ" {
		return nil, errors.New("it does not begin with MZ")
	}
	head, err := f.bytes(at, 24+112)
	if err != nil {
		return nil, err
	}
	if string(head[:4]) != "PE\x00\x00" {
		return nil, errors.New("there is no PE header")
	}
	optional := int64(le.Uint16(head[20:]))
	if magic := le.Uint16(head[24:]); magic != 0x20b && magic != 0x10b {
		return nil, fmt.Errorf("the optional header has the magic %#x", magic)
	}
	im := &peImage{machine: le.Uint16(head[4:]), size: int64(le.Uint32(head[24+56:])), headers: int64(le.Uint32(head[24+60:]))}
	count := int64(le.Uint16(head[6:]))
	table, err := f.bytes(at+24+optional, 40*count)
	if err != nil {
		return nil, err
	}
	for ; len(table) > 0; table = table[40:] {
		name, _, _ := strings.Cut(string(table[:8]), "\x00")
		im.sections = append(im.sections, peSection{name: name, virtual: int64(le.Uint32(table[8:])), address: int64(le.Uint32(table[12:])),
			raw: int64(le.Uint32(table[16:])), at: int64(le.Uint32(table[20:]))})
	}
	return im, nil
}

// Machine types of programs by EFI's names of architectures (UEFI 2.11, section 3.5.1.1).
var machineTypes = map[string]uint16{"x64": 0x8664, "aa64": 0xaa64, "ia32": 0x14c, "arm": 0x1c2, "riscv64": 0x5064, "loongarch64": 0x6264}

// loadable says why firmware does not load a program. Signatures are not looked at.
func loadable(f BootFile, architecture string) error {
	im, err := readPE(f)
	if err != nil {
		return err
	}
	if want := machineTypes[architecture]; im.machine != want {
		return fmt.Errorf("it is for the machine type %#x, want %#x", im.machine, want)
	}
	if im.headers > f.Size {
		return fmt.Errorf("its headers have %d bytes, the file %d", im.headers, f.Size)
	}
	for _, s := range im.sections {
		if n := min(s.raw, s.virtual); n > 0 && s.at+n > f.Size {
			return fmt.Errorf("section %s ends at %d, the file at %d", s.name, s.at+n, f.Size)
		}
		if s.address+s.virtual > im.size {
			return fmt.Errorf("section %s ends at %d in memory, the program at %d", s.name, s.address+s.virtual, im.size)
		}
	}
	// All of the file is read.
	_, err = f.bytes(f.Size-1, 1)
	return err
}

// maxText is the most that is read of a file or section of text. None has as much.
const maxText = 1 << 20

// text reads a section of text; "" and false if there is none.
func (s *peSection) text(f BootFile) (string, bool) {
	if s == nil {
		return "", false
	}
	b, err := f.bytes(s.at, min(s.raw, s.virtual, maxText))
	if err != nil || len(b) == 0 {
		return "", false
	}
	return string(b), true
}

// sectionsOf are the first sections of each name in a part of a table.
func (im *peImage) sectionsOf(part []peSection) map[string]*peSection {
	found := map[string]*peSection{}
	for i := range part {
		s := &part[i]
		if found[s.name] == nil && s.address+s.virtual <= im.size {
			found[s.name] = s
		}
	}
	return found
}

// maxProfiles is how many profiles a UKI can have. There is a limit in the loader, too, but no test
// has met it.
const maxProfiles = 256

// profiles are the sections that count for each profile of a UKI: its own, and those in front of
// all profiles.
func (im *peImage) profiles() (list []map[string]*peSection) {
	var starts []int
	for i, s := range im.sections {
		if s.name == ".profile" {
			starts = append(starts, i)
		}
	}
	if len(starts) == 0 {
		return []map[string]*peSection{im.sectionsOf(im.sections)}
	}
	for k, start := range starts[:min(len(starts), maxProfiles)] {
		end := len(im.sections)
		if k+1 < len(starts) {
			end = starts[k+1]
		}
		all := im.sectionsOf(im.sections[:starts[0]])
		for name, s := range im.sectionsOf(im.sections[start:end]) {
			all[name] = s
		}
		list = append(list, all)
	}
	return list
}

var loaderMarker = regexp.MustCompile(`#### LoaderInfo: systemd-boot ([0-9]+)[^#]* ####`)

// loaderVersion is the release of systemd-boot that a program says it is.
func loaderVersion(f BootFile) (version int, ok bool) {
	b, err := f.bytes(0, min(f.Size, 8<<20))
	if err != nil {
		return 0, false
	}
	m := loaderMarker.FindSubmatch(b)
	if m == nil {
		return 0, false
	}
	for _, c := range m[1] {
		if version = version*10 + int(c-'0'); version > 1<<20 {
			return 0, false
		}
	}
	return version, true
}
