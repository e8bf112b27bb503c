package uki

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/osmith-dev/osmith/internal/sdstub"
)

// sections checks each section by itself.
func (c *checker) sections() {
	for i, s := range c.f.sections {
		k := sdstub.SectionOf(s.Name)
		if k == nil {
			continue
		}
		if !k.Repeats && c.f.first[sectionKey{s.Profile, s.Name}] != i {
			c.fail("duplicate", s.Profile, s.Name, "there are several: the stub takes the first and passes over this one")
			continue
		}
		if s.Size == 0 {
			c.warn("empty", s.Profile, s.Name, "empty: the stub takes it for absent")
			continue
		}
		if s.Size > s.RawSize {
			c.warn("zero-fill", s.Profile, s.Name, "%d bytes in memory, %d in the file: the rest is zeros", s.Size, s.RawSize)
		}
		// Stubs that do not read .uname and .sbat lose nothing: the former is for other readers, too, the latter for shim.
		if c.release > 0 && c.release < k.Since && s.Name != ".uname" && s.Name != ".sbat" {
			c.fail("stub-too-old", s.Profile, s.Name, "the stub is of systemd %d and knows no such section, which came with %d", c.release, k.Since)
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
			c.fail("device-tree", s.Profile, s.Name, "%s", plain(err))
		}
		if s.Name == ".dtbauto" && !c.hasHWIDs(s.Profile) {
			c.warn("no-hwids", s.Profile, s.Name, "no .hwids stands with it: it is found only where the firmware has a device tree itself")
		}
	case ".hwids":
		if b, ok := c.text(i); ok {
			if _, err := ParseHWIDs(b); err != nil {
				c.fail("hwids", s.Profile, s.Name, "%s", plain(err))
			}
		}
	case ".efifw":
		if _, err := ParseFirmware(c.f.data(i)); err != nil {
			c.fail("efifw", s.Profile, s.Name, "the stub does not accept it: %s", plain(err))
		}
		if !c.hasHWIDs(s.Profile) {
			c.fail("no-hwids", s.Profile, s.Name, "no .hwids stands with it: no machine will ever find it")
		}
	case ".pcrpkey":
		if b, ok := c.text(i); ok && !isPublicKey(bytes.TrimRight(b, "\x00")) {
			c.fail("pcrpkey", s.Profile, s.Name, `is no PEM block of type "PUBLIC KEY"`)
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

// osRelease checks for what boot loaders want of a Type #2 entry (UAPI.1 "Boot Loader Specification", "Type #2 EFI
// Unified Kernel Images", and systemd 262, src/fundamental/bootspec-fundamental.c).
func (c *checker) osRelease(i int) {
	s := c.f.sections[i]
	b, ok := c.text(i)
	if !ok {
		return
	}
	fields, err := ParseOSRelease(bytes.TrimRight(b, "\x00"))
	if err != nil {
		c.fail("osrel", s.Profile, s.Name, "%s", plain(err))
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
		c.warn("osrel-version", s.Profile, s.Name, "has none of %s: boot loaders cannot sort the image among its like", strings.Join(names, ", "))
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
		c.fail("cmdline-nul", s.Profile, s.Name, "has a NUL byte at %d: the kernel sees nothing of what is behind it", at)
	}
	for at, ch := range b {
		if ch > '~' {
			c.warn("cmdline-ascii", s.Profile, s.Name, "has the byte %#x at %d: what stubs and kernels make of text that is not ASCII differs", ch, at)
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
		c.fail("pcrsig", s.Profile, s.Name, "is no JSON object: nothing that is sealed to its policies can be unsealed")
	}
}
