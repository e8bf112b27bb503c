package uki

import (
	"fmt"
	"strings"
)

// Severity says what a [Finding] means for a boot.
type Severity int

const (
	// SeverityWarning: it boots where nobody looks closely, or something in it has no effect.
	SeverityWarning Severity = iota + 1
	// SeverityError: some firmware, boot loader or stub refuses the image or does something else than it seems to say.
	SeverityError
)

func (s Severity) String() string {
	switch s {
	case SeverityWarning:
		return "warning"
	case SeverityError:
		return "error"
	}
	return fmt.Sprintf("severity %d", int(s))
}

// A Finding is something about an image that firmware, boot loader or stub would dislike.
type Finding struct {
	Severity Severity
	Code     string // stable, for programs: "no-osrel", "stub-too-old"...
	Section  string // "" if it is about the image as a whole
	Profile  int    // -1: about what all profiles share
	Text     string // for people: what it is and what comes of it
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

// Check lists what firmware, boot loaders and the embedded stub would dislike about the image, in the order of the
// file; nothing for an image that ukify or Assemble makes of good parts. What makes it impossible to tell at all has been
// an error of Open. Kernels and text sections are read, initrds are not.
func (f *File) Check() []Finding {
	c := &checker{f: f, payload: f.firstPayload()}
	row, err := knownRelease(f.version, f.versionErr, 0)
	if c.release = row.Number; err != nil && f.kind == kindImage {
		c.warn("stub-unknown", -1, "", "%v: what it measures cannot be told", err)
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

// CheckAddon lists why the stub of the image would pass over an add-on, or dislike it: Check of the add-on, and a .uname
// of another kernel.
func (f *File) CheckAddon(addon *File) []Finding {
	out := addon.Check()
	ours, theirs := f.Uname(), addon.Uname()
	if ours != "" && theirs != "" && ours != theirs {
		out = append(out, Finding{SeverityError, "addon-uname", ".uname", -1,
			fmt.Sprintf("the add-on is for kernel %q, the image has %q: the stub passes over it", theirs, ours)})
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
	release int // of the stub, 0: unknown
	payload int // the first section that is not the stub's own
	out     []Finding
}

func (c *checker) fail(code string, profile int, section, format string, args ...any) {
	c.out = append(c.out, Finding{SeverityError, code, section, profile, fmt.Sprintf(format, args...)})
}

func (c *checker) warn(code string, profile int, section, format string, args ...any) {
	c.out = append(c.out, Finding{SeverityWarning, code, section, profile, fmt.Sprintf(format, args...)})
}

// plain is the text of an error without the name of the package.
func plain(err error) string { return strings.TrimPrefix(err.Error(), "uki: ") }

// text reads a section for a check; what cannot be read is a finding.
func (c *checker) text(i int) ([]byte, bool) {
	b, err := c.f.text(i)
	if err != nil {
		s := c.f.sections[i]
		c.fail("unreadable", s.Profile, s.Name, "%s", plain(err))
	}
	return b, err == nil
}
