package uki

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// ProfileInfo describes one profile of an image.
type ProfileInfo struct {
	Index int    // what boot loaders and the stub know it by: "@1"
	ID    string // "" if the text names none
	Title string // for menus, "" if the text names none
}

// Profiles lists the profiles of the image, none for one without .profile sections, which boots as profile 0. Text in a
// .profile that is not of the form KEY=VALUE is passed over, as boot loaders do.
func (f *File) Profiles() []ProfileInfo { return append([]ProfileInfo(nil), f.profiles...) }

// ProfileSection is the data, as loaded, of the section of that name that counts in a profile: the first one of the
// profile if that has one, else the first one of the sections shared by all profiles. For -1 only the shared ones
// count. Of .dtbauto and .efifw, of which the stub picks one by the hardware, it is the first.
func (f *File) ProfileSection(profile int, name string) (*io.SectionReader, bool) {
	if profile != -1 && f.checkProfile(profile) != nil {
		return nil, false
	}
	i := f.profileIndex(profile, name)
	if i < 0 {
		return nil, false
	}
	return f.data(i), true
}

func (f *File) checkProfile(profile int) error {
	if profile < 0 || profile >= max(len(f.profiles), 1) {
		return fmt.Errorf("uki: profile %d: the image has %d", profile, len(f.profiles))
	}
	return nil
}

// readProfiles reads the text of all profiles, which together must be as small as any other text.
func (f *File) readProfiles() error {
	room := int64(maxText)
	for i, s := range f.sections {
		if s.Name != ".profile" {
			continue
		}
		b, err := readAll(f.data(i), s.Size, room)
		if err != nil {
			return &FormatError{s.Offset, "section .profile", err}
		}
		room -= s.Size
		fields := profileFields(b)
		f.profiles = append(f.profiles, ProfileInfo{len(f.profiles), fields["ID"], fields["TITLE"]})
	}
	return nil
}

// profileFields is a .profile as boot loaders read it (systemd 262, src/boot/util.c, line_get_key_value): line by line,
// what is no KEY=VALUE is passed over, quotes around all of a value are removed and nothing else is. The last one of a
// key counts.
func profileFields(b []byte) map[string]string {
	fields := make(map[string]string)
	b, _, _ = bytes.Cut(b, []byte{0})
	for line := range strings.Lines(string(b)) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || key == "" || key[0] == '#' {
			continue
		}
		if n := len(value); n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
			value = value[1 : n-1]
		}
		fields[key] = value
	}
	return fields
}
