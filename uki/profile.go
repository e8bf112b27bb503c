package uki

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sdstub"
	"github.com/osmith-dev/osmith/uki/hwid"
)

// Profile is a further profile of an [Image]: a further way to boot it, which the boot menu shows
// as a separate entry. Parts of the profile are measured and used in place of the image's parts of
// the same name; all other parts are those of the image. A part that is nil or empty does not
// override; the parts have the same meaning as in an Image.
//
// The stub looks for the HWIDs of a DeviceTreeAuto or Firmware in the same profile, so give them in
// that profile.
type Profile struct {
	Profile []byte // required: os-release-like text with the fields ID and TITLE

	OSRelease      []byte
	Cmdline        string
	DeviceTree     osmith.Source
	DeviceTreeAuto []osmith.Source
	HWIDs          []hwid.Record
	Uname          string // empty: found by ProbeUname if there is a Linux
	OmitUname      bool
	Splash         osmith.Source
	PCRPublicKey   []byte
	Linux          osmith.Source
	Initrd         []osmith.Source
	Firmware       []Firmware
	Microcode      osmith.Source

	// Sections are further sections, and known sections with bytes that no field above allows. A
	// .sbat is possible, as the stub measures it, but shim refuses an image that has two.
	Sections []Section

	// Each profile has its own measurements, and therefore its own signature.
	PCRSignature        []byte
	PCRSignatureReserve int
}

// contents are the profile's sections in the order of the file, the first one .profile.
func (p *Profile) contents(where string) ([]content, error) {
	if len(p.Profile) == 0 {
		return nil, &PartError{where + "Profile", ErrMissing}
	}
	for _, s := range p.Sections {
		if s.Name == ".profile" {
			return nil, &PartError{where + "Sections", fmt.Errorf("a .profile section would begin a new profile")}
		}
	}
	uname, err := unameOf(where, p.Uname, p.OmitUname, p.Linux)
	if err != nil {
		return nil, err
	}
	all := &parts{
		where: where, osrel: p.OSRelease, cmdline: p.Cmdline, uname: uname, splash: p.Splash, pcrpkey: p.PCRPublicKey,
		linux: p.Linux, initrd: p.Initrd, ucode: p.Microcode, dtb: p.DeviceTree, dtbauto: p.DeviceTreeAuto, hwids: p.HWIDs,
		firmware: p.Firmware, sections: p.Sections, pcrsig: p.PCRSignature, reserve: p.PCRSignatureReserve, profile: p.Profile,
	}
	return all.contents()
}

// Assemble makes a PE image of the profile alone, as ukify build --profile= does on an add-on stub:
// it carries a profile to be joined to an image (see [ProfileOf]) and cannot be booted. It has no
// .sbat, and is laid out as [Image.Assemble] says.
func (p *Profile) Assemble(stub osmith.Source) (_ *Assembled, err error) {
	defer prefix.Add("uki", &err)
	if stub == nil {
		return nil, &PartError{"Stub", ErrMissing}
	}
	plan, err := planOn(stub, "")
	if err != nil {
		return nil, err
	}
	if p.Linux != nil {
		k, err := parseKernel("Linux", p.Linux)
		if err != nil {
			return nil, err
		}
		plan.linux = append(plan.linux, k)
	}
	if plan.added, err = p.contents(""); err != nil {
		return nil, err
	}
	if err := plan.checkNames(); err != nil {
		return nil, err
	}
	return plan.layout()
}

// OpenProfile is [Open] for an image that has profiles and need not have a kernel, such as those of
// ukify build --profile= and [Profile.Assemble]. If it has no .profile section, the error is an
// [ErrNotProfile].
func OpenProfile(src osmith.Source) (_ *File, err error) {
	defer prefix.Add("uki", &err)
	return open(src, kindProfile)
}

// ProfileOf is profile n of an existing image, to be joined to a different image. The existing
// image is a multi-profile image, or a PE image that ukify build --profile= or [Profile.Assemble]
// made, whose only profile is 0. The result has all sections of that profile, also those that ukify
// --join-profile drops (.dtbauto, .hwids, .efifw, .pcrpkey, .sbat, .pcrsig and unknown ones), but
// not those that the image shares between its profiles. The image is read only when the result is
// read.
//
// A section that no field can hold byte for byte is in Sections. PCRSignature was made for the
// original image: make a new one if a section that the profile does not override differs in the new
// image.
func ProfileOf(f *File, n int) (_ Profile, err error) {
	defer prefix.Add("uki", &err)
	var p Profile
	seen := make(map[string]bool)
	for i, s := range f.sections {
		if s.Profile != n || n < 0 {
			continue
		}
		if k := sdstub.SectionOf(s.Name); seen[s.Name] && (k == nil || !k.Repeats) {
			return Profile{}, &osmith.FormatError{Offset: s.Offset, Field: "section " + s.Name, Err: fmt.Errorf("profile %d has two", n)}
		}
		seen[s.Name] = true
		fits, err := p.take(s.Name, f.data(i))
		if err != nil {
			return Profile{}, &osmith.FormatError{Offset: s.Offset, Field: "section " + s.Name, Err: err}
		}
		if !fits {
			p.Sections = append(p.Sections, Section{s.Name, f.data(i)})
		}
	}
	if !seen[".profile"] {
		return Profile{}, fmt.Errorf("profile %d: the image has %d", n, f.profileCount())
	}
	p.OmitUname = p.Linux != nil && p.Uname == ""
	return p, nil
}

func (f *File) profileCount() int {
	n := 0
	for _, s := range f.sections {
		n = max(n, s.Profile+1)
	}
	return n
}

// take puts a section into its field; false if that would not give the same section again.
func (p *Profile) take(name string, s *io.SectionReader) (bool, error) {
	switch name {
	case ".linux":
		if s.Size() == 0 { // no kernel
			return false, nil
		}
		p.Linux = s
	case ".initrd":
		p.Initrd = []osmith.Source{s}
	case ".ucode":
		p.Microcode = s
	case ".splash":
		p.Splash = s
	case ".dtb":
		p.DeviceTree = s
	case ".dtbauto":
		p.DeviceTreeAuto = append(p.DeviceTreeAuto, s)
	case ".efifw":
		fw, err := ParseFirmware(s)
		if err != nil || firmwareHeader+int64(len(fw.ID))+1+fw.Payload.Size() != s.Size() {
			return false, nil // kept as it is: the stub will not take it either way
		}
		p.Firmware = append(p.Firmware, *fw)
	case ".profile", ".osrel", ".cmdline", ".uname", ".pcrpkey", ".hwids", ".pcrsig":
		return p.takeText(name, s)
	default:
		return false, nil
	}
	return true, nil
}

func (p *Profile) takeText(name string, s *io.SectionReader) (bool, error) {
	if s.Size() == 0 { // the field would leave it out
		return false, nil
	}
	b, err := readAll(s, s.Size(), maxText)
	if err != nil {
		return false, err
	}
	hasNUL := bytes.IndexByte(b, 0) >= 0
	switch name {
	case ".profile":
		p.Profile = b
	case ".osrel":
		p.OSRelease = b
	case ".cmdline":
		p.Cmdline = string(b)
		if hasNUL {
			p.Cmdline = ""
		}
		return !hasNUL, nil
	case ".uname":
		p.Uname = string(b)
	case ".pcrpkey":
		if !isPublicKey(b) {
			return false, nil
		}
		p.PCRPublicKey = b
	case ".pcrsig":
		p.PCRSignature = b
	case ".hwids":
		ids, err := hwid.Parse(b)
		if err != nil {
			return false, nil
		}
		if again, err := hwid.Encode(ids); err != nil || !bytes.Equal(again, b) {
			return false, nil
		}
		p.HWIDs = ids
	}
	return true, nil
}

// ProfileInfo describes one profile of an image.
type ProfileInfo struct {
	Index int    // number by which boot loaders and the stub select it: "@1"
	ID    string // "" if the text names none
	Title string // for menus, "" if the text names none
}

// Profiles lists the profiles of the image, none for one without .profile sections, which boots as
// profile 0. Lines of a .profile that are not of the form KEY=VALUE are ignored, as boot loaders
// do.
func (f *File) Profiles() []ProfileInfo { return append([]ProfileInfo(nil), f.profiles...) }

// ProfileSection is the data, as loaded, of the section of that name that counts in a profile: the
// first one of the profile or, if that has none, the first of the sections shared by all profiles.
// For -1 only the shared ones count. Of several .dtbauto and .efifw sections, among which the stub
// chooses by the hardware, it is the first.
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
		return fmt.Errorf("profile %d: the image has %d", profile, len(f.profiles))
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
			return &osmith.FormatError{Offset: s.Offset, Field: "section .profile", Err: err}
		}
		room -= s.Size
		fields := profileFields(b)
		f.profiles = append(f.profiles, ProfileInfo{len(f.profiles), fields["ID"], fields["TITLE"]})
	}
	return nil
}

// profileFields is a .profile as boot loaders read it (systemd 262, src/boot/util.c,
// line_get_key_value): line by line, what is no KEY=VALUE is passed over, quotes around all of a
// value are removed and nothing else is. The last one of a key counts.
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
