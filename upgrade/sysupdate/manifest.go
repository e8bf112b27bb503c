package sysupdate

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
)

const (
	// ManifestName is the file that says what a directory or server of versions has
	// (sysupdate.d(5), "Resource Types"). Its OpenPGP signature is beside it, as SHA256SUMS.gpg.
	ManifestName = "SHA256SUMS"
	// BestBefore begins the name of an empty file whose name ends with a date, such as
	// BEST-BEFORE-2030-12-31. After the end of that day systemd-sysupdate since 260 takes nothing
	// from a manifest that lists it.
	BestBefore = "BEST-BEFORE-"

	maxManifest = 16 << 20 // bytes
	maxPath     = 4096
)

// A Manifest lists files by name, each with its SHA-256, in the format of sha256sum(1) as
// systemd-sysupdate 262 reads it. The zero value lists none.
type Manifest struct {
	sums map[string][sha256.Size]byte
}

// ReadManifest reads SHA256SUMS. What systemd-sysupdate refuses is an error, a name that is there
// twice with different sums as well.
func ReadManifest(r io.Reader) (m *Manifest, err error) {
	defer prefix.Add("sysupdate", &err)
	b, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err != nil {
		return nil, err
	}
	fail := func(off int, format string, args ...any) (*Manifest, error) {
		return nil, &osmith.FormatError{Offset: int64(off), Field: ManifestName, Err: fmt.Errorf(format, args...)}
	}
	if len(b) > maxManifest {
		return fail(maxManifest, "more than %d bytes", maxManifest)
	}
	if i := bytes.IndexByte(b, 0); i >= 0 {
		return fail(i, "a NUL byte")
	}
	if !utf8.Valid(b) {
		return fail(0, "no UTF-8")
	}
	m = &Manifest{}
	for off := 0; off < len(b); {
		line, _, _ := bytes.Cut(b[off:], []byte("\n"))
		name, sum, err := parseSum(string(line))
		if err != nil {
			return fail(off, "%w", err)
		}
		if err := m.set(name, sum); err != nil {
			return fail(off, "%w", err)
		}
		off += len(line) + 1
	}
	return m, nil
}

// parseSum reads 64 digits, a space, a space or an asterisk, and a name.
func parseSum(line string) (name string, sum [sha256.Size]byte, err error) {
	const digits = 2 * sha256.Size
	switch {
	case strings.HasPrefix(line, `\`):
		return "", sum, errors.New("a name with escapes: systemd-sysupdate takes none")
	case len(line) < digits+2:
		return "", sum, fmt.Errorf("%q: want a checksum and a name", line)
	}
	if _, err := hex.Decode(sum[:], []byte(line[:digits])); err != nil {
		return "", sum, fmt.Errorf("%q: want a SHA-256 of %d hexadecimal digits", line[:digits], digits)
	}
	if line[digits] != ' ' || line[digits+1] != ' ' && line[digits+1] != '*' {
		return "", sum, fmt.Errorf("%q between sum and name: want a space, and a space or an asterisk", line[digits:digits+2])
	}
	name = line[digits+2:]
	return name, sum, checkName(name)
}

// checkName allows what can be a file below a directory.
func checkName(name string) error {
	if name == "" || len(name) > maxPath || !utf8.ValidString(name) || strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return fmt.Errorf("the name %q: want 1 to %d bytes of UTF-8 without control characters", name, maxPath)
	}
	for _, element := range strings.Split(name, "/") {
		if element == "" || element == "." || element == ".." {
			return fmt.Errorf("the name %q: want a path below the directory of the manifest", name)
		}
	}
	return nil
}

// OtherContentError says that a manifest has a file of that name with another content. What a
// version consists of never changes: machines may have it.
type OtherContentError struct {
	Name      string
	Want, Got [sha256.Size]byte
}

func (e *OtherContentError) Error() string {
	return fmt.Sprintf("%s changed: SHA-256 %[3]x, want %[2]x as in the manifest: publish changed content under a new version", e.Name, e.Want, e.Got)
}

// Set lists a file. It is an [*OtherContentError] if one of that name is listed with another sum.
func (m *Manifest) Set(name string, sum [sha256.Size]byte) (err error) {
	defer prefix.Add("sysupdate", &err)
	if err := checkName(name); err != nil {
		return err
	}
	return m.set(name, sum)
}

func (m *Manifest) set(name string, sum [sha256.Size]byte) error {
	if have, ok := m.sums[name]; ok && have != sum {
		return &OtherContentError{Name: name, Want: have, Got: sum}
	}
	if m.sums == nil {
		m.sums = map[string][sha256.Size]byte{}
	}
	m.sums[name] = sum
	return nil
}

// Remove takes a file off the list.
func (m *Manifest) Remove(name string) { delete(m.sums, name) }

// Names are the files that are listed, by bytes.
func (m *Manifest) Names() []string { return slices.Sorted(maps.Keys(m.sums)) }

// Sum is that of a file; false if it is not listed.
func (m *Manifest) Sum(name string) (sum [sha256.Size]byte, ok bool) {
	sum, ok = m.sums[name]
	return sum, ok
}

// SetBestBefore lists the empty file that says how long the manifest is good, and takes others off
// the list, of which any would end it. It returns the file's name. The date is YYYY-MM-DD; the day
// counts as a whole, in UTC.
func (m *Manifest) SetBestBefore(date string) (name string, err error) {
	defer prefix.Add("sysupdate", &err)
	if _, err := time.Parse(time.DateOnly, date); err != nil {
		return "", fmt.Errorf("best before %q: want a date as in 2030-12-31", date)
	}
	for _, name := range m.Names() {
		if strings.HasPrefix(name, BestBefore) {
			m.Remove(name)
		}
	}
	name = BestBefore + date
	return name, m.set(name, sha256.Sum256(nil))
}

// BestBefore is the first of the dates that are listed, "" if there is none. What is not a date is
// passed over, as by systemd-sysupdate.
func (m *Manifest) BestBefore() string {
	for _, name := range m.Names() {
		if date, ok := strings.CutPrefix(name, BestBefore); ok {
			if _, err := time.Parse(time.DateOnly, date); err == nil {
				return date
			}
		}
	}
	return ""
}

// WriteTo writes SHA256SUMS, by name. The same files give the same bytes.
func (m *Manifest) WriteTo(w io.Writer) (n int64, err error) {
	for _, name := range m.Names() {
		sum := m.sums[name]
		k, err := fmt.Fprintf(w, "%x *%s\n", sum, name)
		n += int64(k)
		if err != nil {
			return n, prefix.Error("sysupdate", err)
		}
	}
	return n, nil
}
