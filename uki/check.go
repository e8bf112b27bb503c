package uki

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"sort"
	"strings"

	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sbat"
	"github.com/osmith-dev/osmith/internal/sdstub"
	"github.com/osmith-dev/osmith/uki/hwid"
)

// Severity says what a [Finding] means for a boot.
type Severity int

const (
	// SeverityWarning: the image boots with lenient stubs and firmware, or a part of it has no
	// effect.
	SeverityWarning Severity = iota + 1
	// SeverityError: some firmware, boot loader or stub refuses the image, or does not do what the
	// image seems to say.
	SeverityError
	// SeverityUnknown: it is unknown whether the image boots; treat it as a no.
	SeverityUnknown
)

func (s Severity) String() string {
	switch s {
	case SeverityWarning:
		return "warning"
	case SeverityError:
		return "error"
	case SeverityUnknown:
		return "unknown"
	}
	return fmt.Sprintf("severity %d", int(s))
}

// A Finding is a fault of an image for firmware, boot loader or stub.
type Finding struct {
	Severity Severity
	Code     string // stable, for programs: "no-osrel", "stub-too-old"...
	Section  string // "" if it is about the image as a whole
	Profile  int    // -1: the finding is about sections that all profiles share
	Text     string // for people: the fault and its effect
}

func (f Finding) String() string {
	where := ""
	if f.Section != "" {
		where = " section " + f.Section
		if f.Profile >= 0 {
			where += fmt.Sprintf(" of profile %d", f.Profile)
		}
		where += ":"
	}
	return fmt.Sprintf("%s:%s %s (%s)", f.Severity, where, f.Text, f.Code)
}

// Check lists the faults of the image for firmware, boot loaders and the embedded stub, in the
// order of the file. An image that ukify or Assemble makes from good parts has none. Faults that
// make an image unreadable are errors of Open. Kernels and text sections are read, initrds are not.
func (f *File) Check() []Finding {
	c := &checker{f: f, payload: f.firstPayload(), versions: make(map[fileRange]string)}
	var err error
	if c.row, err = knownRelease(f.version, f.versionErr, f.assume); err != nil && f.kind == kindImage {
		c.warn("stub-unknown", -1, "", "%v: its measurements are unknown", err)
	}
	c.geometry()
	c.sections()
	if f.kind == kindImage {
		c.profiles()
		c.signatures()
		c.sbat()
	}
	return c.out
}

// CheckAddon lists why the stub of the image would skip an add-on, and the faults of the add-on:
// the findings of Check for the add-on, and a .uname that differs from the kernel of one of the
// image's profiles. It does not judge whether the device trees of an add-on match the machine,
// which it does not know.
func (f *File) CheckAddon(addon *File) []Finding {
	out := addon.Check()
	for profile := range max(len(f.profiles), 1) {
		h, err := f.handover(Boot{Profile: profile})
		if err == nil {
			_, err = h.applyAddon("", addon)
		}
		skipped, ok := errors.AsType[*SkippedAddonError](err)
		at := profile
		if len(f.profiles) == 0 {
			at = -1
		}
		switch {
		case ok && skipped.Got != "":
			out = append(out, Finding{SeverityError, "addon-uname", ".uname", at, skipped.Text + ": the stub passes over it"})
		case errors.Is(err, ErrUnknownStub):
			out = append(out, Finding{SeverityUnknown, "addon-unknown", "", at, prefix.Bare(err).Error()})
		}
	}
	if f.pe.Machine != addon.pe.Machine {
		out = append(out, Finding{SeverityError, "machine", "", -1,
			fmt.Sprintf("the add-on is for machine type %#04x, the image for %#04x: firmware refuses to load it", addon.pe.Machine, f.pe.Machine)})
	}
	return out
}

// A checker collects findings about one file.
type checker struct {
	f       *File
	row     sdstub.Release // of the stub; its Number is 0 if that is unknown
	payload int            // the first section that is not the stub's own

	versions map[fileRange]string // of kernels that have been searched
	out      []Finding
}

func (c *checker) fail(code string, profile int, section, format string, args ...any) {
	c.out = append(c.out, Finding{SeverityError, code, section, profile, fmt.Sprintf(format, args...)})
}

func (c *checker) warn(code string, profile int, section, format string, args ...any) {
	c.out = append(c.out, Finding{SeverityWarning, code, section, profile, fmt.Sprintf(format, args...)})
}

// text reads a section for a check; what cannot be read is a finding.
func (c *checker) text(i int) ([]byte, bool) {
	b, err := c.f.text(i)
	if err != nil {
		s := c.f.sections[i]
		c.fail("unreadable", s.Profile, s.Name, "%v", prefix.Bare(err))
	}
	return b, err == nil
}

// Section flags (Microsoft PE Format, "Section Flags").
const (
	flagExecute = 0x20000000
	flagWrite   = 0x80000000
)

// pageSize is the granularity in which firmware protects memory.
const pageSize = 4096

// geometry checks what the loader of the firmware looks at.
func (c *checker) geometry() {
	f, p := c.f, c.f.pe
	if size := f.src.Size(); size > math.MaxUint32 {
		c.fail("too-large", -1, "", "%d bytes: offsets in a PE image end at 4 GiB", size)
	} else if size > math.MaxInt32 {
		c.warn("too-large", -1, "", "%d bytes: firmware rarely has that much contiguous memory, and systemd-pcrlock accepts at most 2 GiB", size)
	}
	if p.SectionAlignment < pageSize {
		c.warn("section-alignment", -1, "", "SectionAlignment is %d: firmware that protects memory in pages of %d bytes cannot do so", p.SectionAlignment, pageSize)
	}
	if p.SizeOfImage%p.SectionAlignment != 0 {
		c.fail("size-of-image", -1, "", "SizeOfImage %#x is not a multiple of SectionAlignment %#x", p.SizeOfImage, p.SectionAlignment)
	}
	if end := p.DataEnd(); p.Certificates.Size == 0 && p.Size > end || p.Certificates.Size > 0 && (p.Certificates.Offset-end >= 8 || p.Certificates.End() < p.Size) {
		c.warn("trailing-data", -1, "", "data after the last section, at %#x, belongs to no section: signing tools and firmware may hash it differently", end)
	}
	for i, s := range f.sections {
		if s.VirtualAddress%int64(p.SectionAlignment) != 0 {
			report := c.fail
			if i < c.payload {
				// stubs up to 253 are like that, and boot on all but the strictest firmware
				report = c.warn
			}
			report("alignment", s.Profile, s.Name, "address %#x is not a multiple of SectionAlignment %#x: firmware that protects memory stops there", s.VirtualAddress, p.SectionAlignment)
		}
		if s.RawSize > 0 && (s.Offset%int64(p.FileAlignment) != 0 || s.RawSize%int64(p.FileAlignment) != 0) {
			c.warn("file-alignment", s.Profile, s.Name, "offset %#x or size %#x in the file is not a multiple of FileAlignment %#x", s.Offset, s.RawSize, p.FileAlignment)
		}
		if s.VirtualAddress+s.Size > int64(p.SizeOfImage) {
			c.fail("size-of-image", s.Profile, s.Name, "ends at address %#x, beyond SizeOfImage %#x", s.VirtualAddress+s.Size, p.SizeOfImage)
		}
		if i > 0 && s.VirtualAddress < f.sections[i-1].VirtualAddress {
			c.warn("order", s.Profile, s.Name, "comes after section %s in the section table but before it in memory", f.sections[i-1].Name)
		}
		if flags := p.Sections[i].Characteristics; flags&flagExecute != 0 && flags&flagWrite != 0 {
			c.fail("write-execute", s.Profile, s.Name, "both writable and executable: firmware with memory protection refuses the image")
		}
	}
	c.overlaps("overlap", "in memory", func(s SectionInfo) (int64, int64) { return s.VirtualAddress, s.Size })
	c.overlaps("file-overlap", "in the file", func(s SectionInfo) (int64, int64) { return s.Offset, s.RawSize })
}

// overlaps checks that no two sections share a byte.
func (c *checker) overlaps(code, where string, extent func(SectionInfo) (off, size int64)) {
	var order []int
	for i, s := range c.f.sections {
		if _, size := extent(s); size > 0 {
			order = append(order, i)
		}
	}
	sort.SliceStable(order, func(a, b int) bool {
		x, _ := extent(c.f.sections[order[a]])
		y, _ := extent(c.f.sections[order[b]])
		return x < y
	})
	last := -1
	for _, i := range order {
		s := c.f.sections[i]
		off, size := extent(s)
		if last >= 0 {
			o := c.f.sections[last]
			before, n := extent(o)
			switch {
			case off >= before+n:
			case code == "overlap" && c.f.onlySBATOverlaps(last, i):
				c.warn(code, s.Profile, s.Name, "overlaps section %s %s, whose end is overwritten in memory; shim reads it from the file, and this stub does not measure it", o.Name, where)
			default:
				c.fail(code, s.Profile, s.Name, "overlaps section %s %s", o.Name, where)
			}
			if off+size <= before+n {
				continue
			}
		}
		last = i
	}
}

// kernel checks a .linux section against the image around it.
func (c *checker) kernel(i int) {
	f, s := c.f, c.f.sections[i]
	if flags := f.pe.Sections[i].Characteristics; flags&(flagExecute|flagWrite) != 0 {
		c.warn("linux-flags", s.Profile, s.Name, "flags %#x make it executable or writable in place; the stub copies it out first, and firmware with memory protection may refuse the image", flags)
	}
	data := f.data(i)
	k, err := pe.Parse(data, data.Size())
	if err != nil {
		c.fail("linux-not-pe", s.Profile, s.Name, "the stub cannot start it: %v", formatError(err).Err)
		return
	}
	if !sameArchitecture(f.pe.Machine, k.Machine) {
		c.fail("machine", s.Profile, s.Name, "machine type %#04x, the stub's is %#04x", k.Machine, f.pe.Machine)
	} else if f.kind == kindImage { // what has no stub of its own is started by another one
		c.start(k, data, s.Profile)
	}
	if f.pe.DllCharacteristics&pe.DllNXCompat != 0 && k.DllCharacteristics&pe.DllNXCompat == 0 {
		c.fail("nx", s.Profile, s.Name, "the image promises to run without executable data (NX_COMPAT), the kernel does not: it crashes where firmware enforces that")
	}
	c.kernelSBAT(i, k)
	if at := f.profileIndex(s.Profile, ".uname"); at >= 0 {
		b, ok := c.text(at)
		if version := c.probe(i, data); ok && version != "" && version != untilNUL(b) {
			c.warn("uname", s.Profile, ".uname", "is %q, but the kernel is %q: add-ons are selected by .uname", untilNUL(b), version)
		}
	}
}

// probe is the version of a kernel, "" if it is not found. Kernels are searched once, however many
// profiles have one.
func (c *checker) probe(i int, data *io.SectionReader) string {
	r := c.f.fileRange(i)
	version, ok := c.versions[r]
	if !ok {
		var err error
		if version, err = ProbeUname(data); err != nil {
			version = "" // what it is, only the caller knows
		}
		c.versions[r] = version
	}
	return version
}

// start checks that the stub starts a kernel.
func (c *checker) start(k *pe.File, data io.ReaderAt, profile int) {
	found, err := kernelFindings(k, data, c.f.pe.Machine, c.row, profile)
	if err != nil {
		c.fail("unreadable", profile, ".linux", "%v", noEOF(err))
	}
	c.out = append(c.out, found...)
}

// profiles checks that each profile is something that can boot.
func (c *checker) profiles() {
	f := c.f
	if n := len(f.profiles); n > maxProfiles {
		c.fail("too-many-profiles", -1, ".profile", "%d profiles, want at most %d: stubs ignore the others", n, maxProfiles)
	}
	ids := make(map[string]int)
	for _, p := range f.profiles {
		if p.ID == "" {
			c.warn("profile-id", p.Index, ".profile", "has no ID: boot loaders have no name for it")
		} else if first, taken := ids[p.ID]; taken {
			c.warn("profile-id", p.Index, ".profile", "has the ID %q of profile %d", p.ID, first)
		} else {
			ids[p.ID] = p.Index
		}
	}
	for p := range min(max(len(f.profiles), 1), maxProfiles) {
		at := p
		if len(f.profiles) == 0 {
			at = -1
		}
		if f.profileIndex(p, ".linux") < 0 {
			c.fail("no-linux", at, ".linux", "missing: the profile has no kernel to boot")
		}
		if f.profileIndex(p, ".osrel") < 0 {
			c.fail("no-osrel", at, ".osrel", "missing: boot loaders do not list the image, and systemd does not recognize it as a UKI")
		}
	}
	c.cmdlineLength(min(max(len(f.profiles), 1), maxProfiles))
}

// signatures checks each .pcrsig against what it covers.
func (c *checker) signatures() {
	f := c.f
	var unsigned []int
	checked := make(map[int]bool)
	for p := range min(max(len(f.profiles), 1), maxProfiles) {
		at := f.profileIndex(p, ".pcrsig")
		if at < 0 {
			unsigned = append(unsigned, p)
			continue
		}
		if checked[at] {
			continue
		}
		checked[at] = true
		if f.profileIndex(p, ".pcrpkey") < 0 {
			c.warn("no-pcrpkey", f.sections[at].Profile, ".pcrpkey", "missing: the system can use the signatures in .pcrsig only if it has the key from elsewhere")
		}
		if name := c.behind(at, p); name != "" {
			c.warn("pcrsig-order", f.sections[at].Profile, ".pcrsig", "comes before section %s, which it covers: the signature cannot be made while the image is written", name)
		}
	}
	if len(checked) == 0 {
		return
	}
	for _, p := range unsigned {
		c.warn("no-pcrsig", p, ".pcrsig", "missing, while other profiles have one: secrets sealed to their policies cannot be unsealed in this profile")
	}
}

// behind names a section behind a .pcrsig that a profile measures.
func (c *checker) behind(pcrsig, profile int) string {
	for i := pcrsig + 1; i < len(c.f.sections); i++ {
		s := c.f.sections[i]
		if k := sdstub.SectionOf(s.Name); k == nil || !k.Measured || s.Size == 0 || s.Profile >= 0 && s.Profile != profile {
			continue
		} else if k.Repeats || c.f.profileIndex(profile, s.Name) == i {
			return s.Name
		}
	}
	return ""
}

// sbat checks the section that shim reads, which is the first of that name.
func (c *checker) sbat() {
	f := c.f
	first := -1
	for i, s := range f.sections {
		if s.Name == ".sbat" && s.Profile < 0 {
			first = i
			break
		}
	}
	if first < 0 {
		c.warn("no-sbat", -1, ".sbat", "missing: shim refuses the image, and it cannot be revoked by generation")
		return
	}
	s := f.sections[first]
	if s.RawSize < s.Size {
		c.fail("sbat", -1, ".sbat", "has %d bytes in the file and %d in memory: shim ignores the section and refuses the image for lacking one", s.RawSize, s.Size)
		return
	}
	// shim reads the padding as well
	b, err := readAll(offsetReader{f.src, s.Offset}, s.RawSize, sbat.MaxSize)
	if err != nil {
		c.fail("unreadable", -1, ".sbat", "%v", err)
		return
	}
	for _, s := range f.sections[first+1:] {
		if s.Name == ".sbat" {
			c.fail("sbat-repeated", s.Profile, ".sbat", "is present twice: shim refuses the image")
			return
		}
	}
	if _, err := sbat.Parse(b); err != nil {
		c.fail("sbat", -1, ".sbat", "shim cannot read it, and does not start the image: %v", err)
		return
	}
	lines, err := sbatLines(b, true)
	if err != nil {
		c.fail("sbat", -1, ".sbat", "shim does not read it as it is written: %v", prefix.Bare(err))
		return
	}
	for _, l := range lines {
		if !sbat.IsASCII(l) {
			c.warn("sbat-ascii", -1, ".sbat", "%q is not ASCII: readers other than shim may refuse it", l)
			break
		}
	}
	// Up to 257 stubs bring the section without room for more lines; from 258 on it has 1024 bytes,
	// and what puts the merged text anywhere else, as ukify before 257.9 does, leaves shim with the
	// stub's lines alone.
	if first >= c.payload && c.row.Number >= 258 {
		c.warn("sbat-layout", -1, ".sbat", "appended, while stubs of systemd 258 and later have it among their own sections: the image was made by a tool for older stubs")
	}
	if c.row.Number > 0 && !hasComponent(lines, "systemd-stub") && !hasComponent(lines, "systemd") {
		c.warn("sbat-stub", -1, ".sbat", "has no line of the stub (systemd-stub): it cannot be revoked")
	}
}

// hasComponent looks for a line about a component or one of its flavours: "systemd-stub" or
// "systemd-stub.debian".
func hasComponent(lines []string, name string) bool {
	for _, l := range lines {
		component, _, _ := strings.Cut(l, ",")
		if component == name || strings.HasPrefix(component, name+".") {
			return true
		}
	}
	return false
}

// kernelSBAT checks that the lines of a kernel are among those of the image, which is all that shim
// sees.
func (c *checker) kernelSBAT(i int, kernel *pe.File) {
	f, s := c.f, c.f.sections[i]
	data := f.data(i)
	lines, err := sbatOf(data, kernel)
	if err != nil {
		c.warn("sbat-kernel", s.Profile, s.Name, "its own SBAT: %v", prefix.Bare(err))
		return
	}
	at := f.profileIndex(-1, ".sbat")
	if at < 0 || len(lines) == 0 {
		return
	}
	b, ok := c.text(at)
	if !ok {
		return
	}
	for _, l := range lines {
		if l != "" && !bytes.Contains(b, []byte(l+"\n")) && !bytes.HasSuffix(bytes.TrimRight(b, "\x00"), []byte(l)) {
			c.warn("sbat-kernel", s.Profile, ".sbat", "lacks the line %q of the kernel: it cannot be revoked by that line", l)
			return
		}
	}
}

// sections checks each section by itself.
func (c *checker) sections() {
	for i, s := range c.f.sections {
		k := sdstub.SectionOf(s.Name)
		if k == nil {
			continue
		}
		if !k.Repeats && c.f.first[sectionKey{s.Profile, s.Name}] != i {
			c.fail("duplicate", s.Profile, s.Name, "present more than once: the stub uses the first and ignores this one")
			continue
		}
		if s.Size == 0 {
			c.warn("empty", s.Profile, s.Name, "empty: the stub treats it as absent")
			continue
		}
		if s.Size > s.RawSize {
			c.warn("zero-fill", s.Profile, s.Name, "%d bytes in memory, %d in the file: the rest is zeros", s.Size, s.RawSize)
		}
		// Stubs that do not read .uname and .sbat lose nothing: the former is for other readers,
		// too, the latter for shim.
		if c.row.Number > 0 && c.row.Number < k.Since && s.Name != ".uname" && s.Name != ".sbat" {
			c.fail("stub-too-old", s.Profile, s.Name, "the stub of systemd %d does not know this section, which needs systemd %d", c.row.Number, k.Since)
		}
		c.content(i)
	}
}

// content checks what is in a section.
func (c *checker) content(i int) {
	s := c.f.sections[i]
	switch s.Name {
	case ".linux":
		c.kernel(i)
	case ".osrel":
		c.osRelease(i)
	case ".cmdline":
		c.cmdline(i)
	case ".splash":
		c.magic(i, "BM", "splash", "is no BMP image: the stub does not show it")
	case ".dtb", ".dtbauto":
		if _, err := DeviceTreeCompatible(c.f.data(i)); err != nil {
			c.fail("device-tree", s.Profile, s.Name, "%v", prefix.Bare(err))
		}
		if s.Name == ".dtbauto" && !c.hasHWIDs(s.Profile) {
			c.warn("no-hwids", s.Profile, s.Name, "no .hwids section: this section is selected only on firmware that provides a device tree itself")
		}
	case ".hwids":
		if b, ok := c.text(i); ok {
			if _, err := hwid.Parse(b); err != nil {
				c.fail("hwids", s.Profile, s.Name, "%v", prefix.Bare(err))
			}
		}
	case ".efifw":
		if _, err := ParseFirmware(c.f.data(i)); err != nil {
			c.fail("efifw", s.Profile, s.Name, "the stub does not accept it: %v", prefix.Bare(err))
		}
		if !c.hasHWIDs(s.Profile) {
			c.fail("no-hwids", s.Profile, s.Name, "no .hwids section: no machine will ever select this section")
		}
	case ".pcrpkey":
		if b, ok := c.text(i); ok && !isPublicKey(bytes.TrimRight(b, "\x00")) {
			c.fail("pcrpkey", s.Profile, s.Name, `is not a PEM block of type "PUBLIC KEY"`)
		}
	case ".pcrsig":
		c.signatureText(i)
	}
}

// hasHWIDs looks in the very slice, as the stub does when it is about the sections of that slice.
func (c *checker) hasHWIDs(profile int) bool {
	i, ok := c.f.first[sectionKey{profile, ".hwids"}]
	return ok && c.f.sections[i].Size > 0
}

func (c *checker) magic(i int, want, code, text string) {
	s := c.f.sections[i]
	b := make([]byte, min(int64(len(want)), s.Size))
	if n, err := c.f.data(i).ReadAt(b, 0); n < len(b) {
		c.fail("unreadable", s.Profile, s.Name, "%v", noEOF(err))
	} else if string(b) != want {
		c.warn(code, s.Profile, s.Name, "%s", text)
	}
}

// osRelease checks for what boot loaders want of a Type #2 entry (UAPI.1 "Boot Loader
// Specification", "Type #2 EFI Unified Kernel Images", and systemd 262,
// src/fundamental/bootspec-fundamental.c).
func (c *checker) osRelease(i int) {
	s := c.f.sections[i]
	b, ok := c.text(i)
	if !ok {
		return
	}
	fields, err := ParseOSRelease(bytes.TrimRight(b, "\x00"))
	if err != nil {
		c.fail("osrel", s.Profile, s.Name, "%v", prefix.Bare(err))
		return
	}
	has := func(names ...string) bool {
		for _, n := range names {
			if fields[n] != "" {
				return true
			}
		}
		return false
	}
	if names := []string{"PRETTY_NAME", "IMAGE_ID", "NAME", "ID"}; !has(names...) {
		c.fail("osrel-name", s.Profile, s.Name, "has none of %s: boot loaders do not list the image", strings.Join(names, ", "))
	}
	if names := []string{"IMAGE_VERSION", "VERSION", "VERSION_ID", "BUILD_ID"}; !has(names...) {
		c.warn("osrel-version", s.Profile, s.Name, "has none of %s: boot loaders cannot sort the image among other versions", strings.Join(names, ", "))
	}
}

func (c *checker) cmdline(i int) {
	s := c.f.sections[i]
	b, ok := c.text(i)
	if !ok {
		return
	}
	b = bytes.TrimRight(b, "\x00") // objcopy-made images often end with one
	if at := bytes.IndexByte(b, 0); at >= 0 {
		c.fail("cmdline-nul", s.Profile, s.Name, "has a NUL byte at %d: the kernel ignores everything after it", at)
	}
	for at, ch := range b {
		if ch > '~' {
			c.warn("cmdline-ascii", s.Profile, s.Name, "has the byte %#x at %d: stubs and kernels differ in how they read text that is not ASCII", ch, at)
			break
		}
	}
}

func (c *checker) signatureText(i int) {
	s := c.f.sections[i]
	if s.Size > s.RawSize {
		c.fail("pcrsig-size", s.Profile, s.Name, "%d bytes, reserved are %d", s.Size, s.RawSize)
	}
	b, ok := c.text(i)
	if !ok {
		return
	}
	b = bytes.Trim(b, "\x00 \t\r\n")
	var banks map[string]json.RawMessage
	switch {
	case len(b) == 0 || string(b) == "{}" || bytes.Contains(b, []byte(`"tbs"`)) && !bytes.Contains(b, []byte(`"sig"`)):
		c.warn("pcrsig-blank", s.Profile, s.Name, "reserved, but not signed yet")
	case json.Unmarshal(b, &banks) != nil:
		c.fail("pcrsig", s.Profile, s.Name, "is not a JSON object: secrets sealed to its policies cannot be unsealed")
	}
}
