package uki

import (
	"bytes"
	"strings"

	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// profiles checks that each profile is something that can boot.
func (c *checker) profiles() {
	f := c.f
	if n := len(f.profiles); n > maxProfiles {
		c.fail("too-many-profiles", -1, ".profile", "there are %d, stubs know %d", n, maxProfiles)
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
			c.fail("no-osrel", at, ".osrel", "missing: boot loaders do not list the image, and systemd does not take it for one")
		}
	}
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
			c.warn("no-pcrpkey", f.sections[at].Profile, ".pcrpkey", "missing: the signatures in .pcrsig are of no use to a system that does not have the key from elsewhere")
		}
		if name := c.behind(at, p); name != "" {
			c.warn("pcrsig-order", f.sections[at].Profile, ".pcrsig", "stands before section %s, which it covers: it cannot be made while the image is written", name)
		}
	}
	if len(checked) == 0 {
		return
	}
	for _, p := range unsigned {
		c.warn("no-pcrsig", p, ".pcrsig", "missing, while other profiles have one: what is sealed to their policies cannot be unsealed in this one")
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
	b, ok := c.text(first)
	if !ok {
		return
	}
	lines, err := sbatLines(b, true)
	if err != nil {
		c.fail("sbat", -1, ".sbat", "%s", plain(err))
		return
	}
	// Up to 257 stubs bring the section without room for more lines; from 258 on it has 1024 bytes, and what puts the
	// merged text anywhere else, as ukify before 257.9 does, leaves shim with the stub's lines alone.
	if first >= c.payload && c.release >= 258 {
		c.warn("sbat-layout", -1, ".sbat", "appended, while stubs of systemd 258 and later have it among their own sections: the image was made by a tool for older stubs")
	}
	if c.release > 0 && !hasComponent(lines, "systemd-stub") && !hasComponent(lines, "systemd") {
		c.warn("sbat-stub", -1, ".sbat", "has no line of the stub (systemd-stub): it cannot be revoked")
	}
}

// hasComponent looks for a line about a component or one of its flavours: "systemd-stub" or "systemd-stub.debian".
func hasComponent(lines []string, name string) bool {
	for _, l := range lines {
		component, _, _ := strings.Cut(l, ",")
		if component == name || strings.HasPrefix(component, name+".") {
			return true
		}
	}
	return false
}

// kernelSBAT checks that the lines of a kernel are among those of the image, which is all that shim sees.
func (c *checker) kernelSBAT(i int, kernel *pe.File) {
	f, s := c.f, c.f.sections[i]
	data := f.data(i)
	lines, err := sbatOf(data, kernel)
	if err != nil {
		c.warn("sbat-kernel", s.Profile, s.Name, "its own SBAT: %s", plain(err))
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
			c.warn("sbat-kernel", s.Profile, ".sbat", "lacks the line %q of the kernel: it cannot be revoked by it", l)
			return
		}
	}
}
