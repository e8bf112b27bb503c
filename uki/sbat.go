package uki

import (
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/sbat"
)

// The line every SBAT section begins with, and the component lines of images and add-ons whose
// builder names none. All as ukify 262 writes them
// (https://github.com/rhboot/shim/blob/main/SBAT.md).
const (
	sbatHeader  = "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md"
	sbatDefault = "uki,1,UKI,uki,1,https://uapi-group.org/specifications/specs/unified_kernel_image/"
	// for stubs without room for more; component and generation are what revokes
	sbatShort = "uki,1,UKI,uki,1,-"
	sbatAddon = "uki-addon,1,UKI Addon,addon,1,https://www.freedesktop.org/software/systemd/man/latest/systemd-stub.html"
)

// sbatLines returns the component lines of an SBAT text, without the header line and NUL padding.
// What shim would refuse, or would read in another way than it is written, is an error: an image of
// which shim cannot read the section does not start.
func sbatLines(b []byte, headerRequired bool) ([]string, error) {
	lines, err := sbat.Lines(b)
	if err != nil {
		return nil, err
	}
	if len(lines) == 0 {
		return nil, nil
	}
	if strings.HasPrefix(lines[0], "sbat,") {
		return lines[1:], nil
	}
	if headerRequired {
		return nil, fmt.Errorf("SBAT begins with %q instead of sbat,", firstRunes(lines[0], 20))
	}
	return lines, nil
}

// sbatOf reads the component lines of a PE image's own .sbat section; an image without one has
// none.
func sbatOf(src osmith.Source, f *pe.File) ([]string, error) {
	s, ok := f.Section(".sbat")
	if !ok {
		return nil, nil
	}
	b, err := readAll(offsetReader{src, int64(s.Offset)}, int64(s.RawSize), sbat.MaxSize)
	if err != nil {
		return nil, fmt.Errorf("section .sbat: %w", err)
	}
	return sbatLines(b, true)
}

// mergeSBAT is one header line and the component lines of stub, kernel and caller, so that each can
// be revoked.
func mergeSBAT(parts ...[]string) []byte {
	b := []byte(sbatHeader + "\n")
	for _, lines := range parts {
		for _, l := range lines {
			b = append(append(b, l...), '\n')
		}
	}
	return b
}

// notIn is the lines that stand in none of the parts: two kernels of one distribution bring the
// same ones.
func notIn(lines []string, parts [][]string) []string {
	have := make(map[string]bool)
	for _, p := range parts {
		for _, l := range p {
			have[l] = true
		}
	}
	var out []string
	for _, l := range lines {
		if !have[l] {
			out = append(out, l)
		}
	}
	return out
}

func firstRunes(s string, n int) string {
	for i := range s {
		if n--; n < 0 {
			return s[:i]
		}
	}
	return s
}
