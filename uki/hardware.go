package uki

import (
	"errors"
	"fmt"
	"io"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sdstub"
	"github.com/osmith-dev/osmith/uki/hwid"
)

// Hardware holds the facts by which the stub chooses .dtbauto and .efifw sections.
type Hardware struct {
	// DeviceTree is the first compatible string of the device tree that the firmware itself
	// provides (see [DeviceTreeCompatible]; what Linux shows in /sys/firmware/fdt may have come
	// from an image); "": the firmware provides none, as on most machines that have ACPI.
	DeviceTree string
	SMBIOS     *hwid.SMBIOS // nil: none
	// identifier of the display ([hwid.PanelID]); "": the firmware does not know it
	Panel string
}

// Choose says which variant the embedded stub boots on a machine: which .dtbauto and .efifw section
// of a profile it chooses. As the stub does, it first compares trees with the firmware's own, and
// uses .hwids if the firmware has none; a section of the profile replaces a shared one; for the
// sections of a profile and for shared ones it reads only the .hwids among them; and it skips
// tables and trees that it cannot read.
func (f *File) Choose(profile int, hw Hardware) (_ Variant, err error) {
	defer prefix.Add("uki", &err)
	list, release, err := f.contents()
	if err != nil {
		return Variant{}, err
	}
	s, err := scopeOf(list, profile, release)
	if err != nil {
		return Variant{}, err
	}
	v := Variant{Profile: profile}
	for _, r := range []span{s.base, s.own} {
		m, err := newMatcher(list[r.from:r.to], hw, release)
		if err != nil {
			return Variant{}, err
		}
		for name, ordinal := range map[string]*int{".dtbauto": &v.DeviceTree, ".efifw": &v.Firmware} {
			for n, i := range s.candidates(name) {
				if i < r.from || i >= r.to {
					continue
				}
				ok, err := m.takes(list[i])
				if err != nil {
					return Variant{}, err
				}
				if ok {
					*ordinal = n + 1
					break
				}
			}
		}
	}
	return v, nil
}

// A matcher is what a slice of the image is scanned for.
type matcher struct {
	tree     *string // compatible string to look for
	firmware *string // id to look for
}

// newMatcher finds out what to look for in a slice: systemd 262, src/boot/pe.c, pe_locate_sections
// and pe_use_this_dtb.
func newMatcher(slice []content, hw Hardware, release int) (*matcher, error) {
	m := new(matcher)
	if hw.DeviceTree != "" {
		m.tree = &hw.DeviceTree
	}
	for _, c := range slice {
		if c.name != ".hwids" || release < sdstub.SectionOf(".hwids").Since {
			continue
		}
		if c.size > hwid.MaxTable {
			return nil, &osmith.FormatError{Offset: 0, Field: "section .hwids", Err: fmt.Errorf("%d bytes, want %d or fewer", c.size, hwid.MaxTable)}
		}
		b, err := readAll(c.src, c.size, hwid.MaxTable)
		if err != nil {
			return nil, fmt.Errorf("section .hwids: %w", err)
		}
		if m.tree == nil {
			m.tree = match(b, hwid.TypeDeviceTree, hw, release)
		}
		m.firmware = match(b, hwid.TypeFirmware, hw, release)
		break // the first one counts
	}
	return m, nil
}

// takes says whether a section is the one looked for. Only a failure to read is an error.
func (m *matcher) takes(c content) (bool, error) {
	src := &failureNoter{Source: io.NewSectionReader(c.src, 0, c.size)}
	ok := false
	if c.name == ".dtbauto" && m.tree != nil {
		text, err := DeviceTreeCompatible(src)
		ok = err == nil && text == *m.tree
	}
	if c.name == ".efifw" && m.firmware != nil {
		fw, err := ParseFirmware(src)
		ok = err == nil && fw.ID == *m.firmware
	}
	if src.err != nil {
		return false, fmt.Errorf("section %s: %w", c.name, src.err)
	}
	return ok, nil
}

// A failureNoter remembers that its source could not be read, which is something else than unusable
// content.
type failureNoter struct {
	osmith.Source
	err error
}

func (n *failureNoter) ReadAt(b []byte, off int64) (int, error) {
	k, err := n.Source.ReadAt(b, off)
	if err != nil && !errors.Is(err, io.EOF) {
		n.err = err
	}
	return k, err
}

// match is the string that the stub finds for the machine; nil if it finds none.
func match(table []byte, kind hwid.Type, hw Hardware, release int) *string {
	if text, ok := hwid.Match(table, kind, hw.SMBIOS, hw.Panel, release); ok {
		return &text
	}
	return nil
}
