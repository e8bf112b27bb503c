package uki

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// Hardware is what the stub goes by when it picks .dtbauto and .efifw sections.
type Hardware struct {
	// DeviceTree is the first compatible string of the device tree that the firmware itself provides (see
	// [DeviceTreeCompatible]; what Linux shows in /sys/firmware/fdt may have come from an image); "": it provides none, as
	// on most machines that have ACPI.
	DeviceTree string
	SMBIOS     *SMBIOS // nil: none
	Panel      string  // identifier of the display ([PanelID]) if the firmware knows it; "": unknown
}

// stubCHIDOrder is the order in which a stub tries the types of hardware ids, from the most specific one. The ids with
// a display came with systemd 258 (systemd 257 and 262, src/boot/chid.c, chid_match).
var stubCHIDOrder = []int{17, 16, 15, 3, 6, 8, 10, 4, 5, 7, 9, 11}

func chidOrder(release int) []int {
	if release < 258 {
		return stubCHIDOrder[3:]
	}
	return stubCHIDOrder
}

// Choose says which variant the embedded stub boots on a machine: which .dtbauto and .efifw section of a profile it
// picks. As the stub does, it compares trees with the firmware's own first and goes by .hwids if the firmware has none,
// lets a section of the profile take the place of a shared one, reads for each of the two only the .hwids that stands
// among them, and passes over tables and trees that it cannot read.
func (f *File) Choose(profile int, hw Hardware) (Variant, error) { return f.ChooseWith(profile, hw, 0) }

// ChooseWith is Choose for a stub that behaves as the one of the systemd release named; 0: the embedded stub's own.
func (f *File) ChooseWith(profile int, hw Hardware, assumeStub int) (Variant, error) {
	list, release, err := f.contents(assumeStub)
	if err != nil {
		return Variant{}, err
	}
	s, err := scopeOf(list, profile, release)
	if err != nil {
		return Variant{}, fmt.Errorf("uki: %w", err)
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

// newMatcher finds out what to look for in a slice: systemd 262, src/boot/pe.c, pe_locate_sections and pe_use_this_dtb.
func newMatcher(slice []content, hw Hardware, release int) (*matcher, error) {
	m := new(matcher)
	if hw.DeviceTree != "" {
		m.tree = &hw.DeviceTree
	}
	for _, c := range slice {
		if c.name != ".hwids" || release < sdstub.SectionOf(".hwids").Since {
			continue
		}
		if c.size > maxHWIDs {
			return nil, &FormatError{0, "section .hwids", fmt.Errorf("%d bytes are more than the limit of %d", c.size, maxHWIDs)}
		}
		b, err := readAll(c.src, c.size, maxHWIDs)
		if err != nil {
			return nil, fmt.Errorf("uki: section .hwids: %w", err)
		}
		if m.tree == nil {
			m.tree = matchHWIDs(b, HWIDDeviceTree, hw, release)
		}
		m.firmware = matchHWIDs(b, HWIDFirmware, hw, release)
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
		return false, fmt.Errorf("uki: section %s: %w", c.name, src.err)
	}
	return ok, nil
}

// A failureNoter remembers that its source could not be read, which is something else than unusable content.
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

// matchHWIDs is the string of the record that a stub finds for the machine; nil if it finds none or does not accept the
// table. Ids that the machine does not have are zero, and a record with a zero id matches those.
func matchHWIDs(b []byte, kind HWIDType, hw Hardware, release int) *string {
	if release < 258 && kind == HWIDFirmware {
		return nil
	}
	type record struct {
		chid   osmith.GUID
		offset uint32
	}
	var records []record
	for at := 0; at+hwidRecord < len(b); at += hwidRecord {
		descriptor := binary.LittleEndian.Uint32(b[at:])
		if descriptor == 0 {
			break
		}
		if release < 258 && descriptor != uint32(HWIDDeviceTree)<<hwidTypeShift|hwidRecord {
			return nil // stubs of 257 refuse a table that has anything else
		}
		k := HWIDType(descriptor >> hwidTypeShift)
		if k != HWIDDeviceTree && k != HWIDFirmware {
			return nil
		}
		r := record{efi.GUID(b[at+4:]), binary.LittleEndian.Uint32(b[at+24:])}
		for _, offset := range []uint32{binary.LittleEndian.Uint32(b[at+20:]), r.offset} {
			if _, err := hwidBytes(b, offset); err != nil {
				return nil
			}
		}
		if k == kind {
			records = append(records, r)
		}
	}
	sm := hw.SMBIOS
	if sm == nil {
		sm = new(SMBIOS)
	}
	ids := sm.stubCHIDs(hw.Panel)
	for _, t := range chidOrder(release) {
		for _, r := range records {
			if r.chid != ids[t] {
				continue
			}
			if r.offset == 0 {
				return nil
			}
			text, _ := hwidBytes(b, r.offset)
			match := string(text)
			return &match
		}
	}
	return nil
}
