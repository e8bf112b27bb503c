package bootloader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// What systemd-boot reads of a UKI, and how little it checks (systemd 262, src/boot/pe.c): the
// section table, and of it the sections it shows in the menu. It does not look whether the file is
// complete, so a UKI that was cut off while it was copied is listed, chosen, and fails to load.
// internal/pe refuses such files; a menu must not.
const (
	dosHeaderSize = 64
	// with the PE32+ optional header and 16 directories: the loader reads that much
	peHeaderSize   = 24 + 240
	sectionSize    = 40
	maxProfiles    = 256
	maxTextSection = 1 << 20
)

// A peSection is a row of the section table as far as it is looked at.
type peSection struct {
	name         string
	offset, size int64 // in the file, without padding
	virtualEnd   int64
	rawEnd       int64
}

// readSections reads the section table as the loader does.
func readSections(r io.ReaderAt, architecture string, known rules) (list []peSection, sizeOfImage int64, err error) {
	le := binary.LittleEndian
	var dos [dosHeaderSize]byte
	if err := readFull(r, dos[:], 0); err != nil {
		return nil, 0, fmt.Errorf("MS-DOS header: %w", err)
	}
	at := int64(le.Uint32(dos[0x3c:]))
	if dos[0] != 'M' || dos[1] != 'Z' || at < dosHeaderSize {
		return nil, 0, errors.New("not a PE image")
	}
	var h [peHeaderSize]byte
	if err := readFull(r, h[:], at); err != nil {
		return nil, 0, fmt.Errorf("PE header: %w", err)
	}
	if string(h[:4]) != "PE\x00\x00" {
		return nil, 0, errors.New("not a PE image")
	}
	if a, ok := arch.ByEFI(architecture); ok && le.Uint16(h[4:]) != a.Machine {
		return nil, 0, fmt.Errorf("machine type %#04x: %w", le.Uint16(h[4:]), errNotForHere)
	}
	count, optional := int(le.Uint16(h[6:])), int64(le.Uint16(h[20:]))
	directories := int64(112)
	switch le.Uint16(h[24:]) {
	case 0x20b:
	case 0x10b:
		directories = 96
	default:
		return nil, 0, errors.New("optional header is neither PE32 nor PE32+")
	}
	// The loader wants the first six data directories.
	if count == 0 || optional < directories+6*8 || le.Uint32(h[24+directories-4:]) <= 5 {
		return nil, 0, errors.New("PE header without sections or data directories")
	}
	if known.maxSections > 0 && count > known.maxSections {
		return nil, 0, fmt.Errorf("%d sections: want at most %d for this systemd-boot release", count, known.maxSections)
	}
	table := make([]byte, count*sectionSize) // at most 2.6 MB
	if err := readFull(r, table, at+24+optional); err != nil {
		return nil, 0, fmt.Errorf("section table: %w", err)
	}
	for i := range count {
		row := table[i*sectionSize:][:sectionSize]
		name := row[:8]
		for i, c := range name {
			if c == 0 {
				name = name[:i]
				break
			}
		}
		virtual, raw, offset := int64(le.Uint32(row[8:])), int64(le.Uint32(row[16:])), int64(le.Uint32(row[20:]))
		list = append(list, peSection{string(name), offset, min(virtual, raw), int64(le.Uint32(row[12:])) + virtual, offset + raw})
	}
	return list, int64(le.Uint32(h[24+56:])), nil
}

// menuSections are the sections of a UKI that the menu shows.
type menuSections struct{ osrel, cmdline, profile *peSection }

// locate picks the first of each name from a slice of the table, over what is there already.
// Sections that end outside the image in memory do not count. Before 257 the last one counts, and a
// longer name that begins so is as good.
func (m *menuSections) locate(list []peSection, sizeOfImage int64, known rules) {
	for name, p := range map[string]**peSection{".osrel": &m.osrel, ".cmdline": &m.cmdline, ".profile": &m.profile} {
		if known.lastSection {
			for i := range list {
				if strings.HasPrefix(list[i].name, name) {
					*p = &list[i]
				}
			}
			continue
		}
		for i := range list {
			if s := &list[i]; s.name == name && s.virtualEnd <= sizeOfImage {
				*p = s
				break
			}
		}
	}
}

// readType2 lists the entries of one UKI, one for each profile. Findings say why there are fewer
// than there could be.
func readType2(file string, r io.ReaderAt, size int64, architecture string, known Release) (list []*Entry, findings []error) {
	// reading behind the end is io.EOF, whatever the file system says
	r = io.NewSectionReader(r, 0, size)
	sections, sizeOfImage, err := readSections(r, architecture, known.rules)
	if err != nil {
		return nil, []error{err}
	}
	damage := ""
	for _, s := range sections {
		if s.rawEnd > size {
			damage = fmt.Sprintf("section %s ends at %d, the file at %d", s.name, s.rawEnd, size)
			break
		}
	}
	starts := []int{}
	for i, s := range sections {
		if s.name == ".profile" && known.Profiles {
			starts = append(starts, i)
		}
	}
	base := sections
	if len(starts) > 0 {
		base = sections[:starts[0]]
	}
	for profile := 0; profile < min(max(len(starts), 1), maxProfiles); profile++ {
		var m menuSections
		m.locate(base, sizeOfImage, known.rules)
		if profile < len(starts) {
			end := len(sections)
			if profile+1 < len(starts) {
				end = starts[profile+1]
			}
			m.locate(sections[starts[profile]:end], sizeOfImage, known.rules)
		}
		e, err := m.entry(file, r, profile, known)
		if err != nil {
			findings = append(findings, fmt.Errorf("profile %d: %w", profile, err))
			continue
		}
		e.Damage = damage
		list = append(list, e)
	}
	return list, findings
}

// entry makes the menu entry of one profile (systemd 262, src/boot/boot.c, boot_entry_add_type2,
// and src/fundamental/bootspec.c).
func (m *menuSections) entry(file string, r io.ReaderAt, profile int, known Release) (*Entry, error) {
	if m.osrel == nil || m.osrel.size == 0 {
		return nil, errors.New("no .osrel section")
	}
	osrel, err := readAssignments(r, m.osrel, known.rules)
	if err != nil {
		return nil, fmt.Errorf("section .osrel: %w", err)
	}
	title, ok := firstOf(osrel, "PRETTY_NAME", "IMAGE_ID", "NAME", "ID")
	if !ok {
		return nil, errors.New("section .osrel has no PRETTY_NAME, IMAGE_ID, NAME or ID")
	}
	e := &Entry{Type: EntryType2, Profile: profile, Title: title, rules: known.rules}
	e.Version, _ = firstOf(osrel, "IMAGE_VERSION", "VERSION", "VERSION_ID", "BUILD_ID")
	e.SortKey, e.hasSortKey = firstOf(osrel, "IMAGE_ID", "ID")
	e.setName(file, ".efi")

	var of map[string]string
	if m.profile != nil && m.profile.size > 0 && known.Profiles {
		if of, err = readAssignments(r, m.profile, known.rules); err != nil {
			return nil, fmt.Errorf("section .profile: %w", err)
		}
	}
	id, hasID := of["ID"]
	switch t, hasTitle := of["TITLE"]; {
	case hasTitle:
		e.Title += " (" + t + ")"
	case profile > 0 && hasID:
		e.Title += " (" + id + ")"
	case profile > 0:
		e.Title += " (Profile #" + strconv.Itoa(profile+1) + ")"
	}
	if profile > 0 {
		if !hasID {
			id = strconv.Itoa(profile)
		}
		e.setProfile(file, id)
	}
	if m.cmdline != nil && m.cmdline.size > 0 {
		b, err := readSection(r, m.cmdline)
		if err != nil {
			return nil, fmt.Errorf("section .cmdline: %w", err)
		}
		// The loader makes it fit for showing as the stub does before it passes it on.
		e.Options = sdstub.Text(b, sdstub.Newest())
	}
	return e, nil
}

// readSection reads a text section; one that the end of the file cuts off is shorter.
func readSection(r io.ReaderAt, s *peSection) ([]byte, error) {
	if s.size > maxTextSection {
		return nil, fmt.Errorf("%d bytes, want at most %d", s.size, maxTextSection)
	}
	b := make([]byte, s.size)
	n, err := r.ReadAt(b, s.offset)
	if n < len(b) && err != io.EOF {
		return nil, err
	}
	return b[:n], nil
}

func readAssignments(r io.ReaderAt, s *peSection, known rules) (map[string]string, error) {
	b, err := readSection(r, s)
	if err != nil {
		return nil, err
	}
	m := make(map[string]string)
	for l := range lines(b, "=", known) {
		if m[l.key] = l.value; l.value == "" && known.emptyIsUnset {
			delete(m, l.key)
		}
	}
	return m, nil
}

func firstOf(m map[string]string, keys ...string) (string, bool) {
	for _, k := range keys {
		if v, ok := m[k]; ok {
			return v, true
		}
	}
	return "", false
}

func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
