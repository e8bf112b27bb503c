package uki

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
)

// The line every SBAT section begins with, and the component lines of images and add-ons whose builder names none. All as
// ukify 262 writes them (https://github.com/rhboot/shim/blob/main/SBAT.md).
const (
	sbatHeader  = "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md"
	sbatDefault = "uki,1,UKI,uki,1,https://uapi-group.org/specifications/specs/unified_kernel_image/"
	sbatAddon   = "uki-addon,1,UKI Addon,addon,1,https://www.freedesktop.org/software/systemd/man/latest/systemd-stub.html"
)

// maxSBAT bounds what is read of a foreign .sbat section. Real ones have a few hundred bytes.
const maxSBAT = 64 << 10

// sbatLines returns the component lines of an SBAT text, without the header line and NUL padding.
func sbatLines(b []byte, headerRequired bool) ([]string, error) {
	b = bytes.TrimRight(b, "\x00")
	if len(b) == 0 {
		return nil, nil
	}
	if !utf8.Valid(b) {
		return nil, fmt.Errorf("SBAT is not UTF-8 text")
	}
	text := strings.ReplaceAll(string(b), "\r\n", "\n")
	if i := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
		return nil, fmt.Errorf("SBAT holds the unprintable character %q", text[i])
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if strings.HasPrefix(lines[0], "sbat,") {
		return lines[1:], nil
	}
	if headerRequired {
		return nil, fmt.Errorf("SBAT begins with %q instead of sbat,", firstRunes(lines[0], 20))
	}
	return lines, nil
}

// sbatOf reads the component lines of a PE image's own .sbat section; an image without one has none.
func sbatOf(src osmith.Source, f *pe.File) ([]string, error) {
	s, ok := f.Section(".sbat")
	if !ok {
		return nil, nil
	}
	b, err := readAll(offsetReader{src, int64(s.Offset)}, int64(s.RawSize), maxSBAT)
	if err != nil {
		return nil, fmt.Errorf("section .sbat: %w", err)
	}
	return sbatLines(b, true)
}

// mergeSBAT is one header line and the component lines of stub, kernel and caller, so that each can be revoked.
func mergeSBAT(parts ...[]string) []byte {
	b := []byte(sbatHeader + "\n")
	for _, lines := range parts {
		for _, l := range lines {
			b = append(append(b, l...), '\n')
		}
	}
	return b
}

// notIn is the lines that stand in none of the parts: two kernels of one distribution bring the same ones.
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
