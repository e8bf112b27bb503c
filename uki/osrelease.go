package uki

import (
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// OSRelease holds the fields of an os-release file, unquoted. Boot loaders use PRETTY_NAME,
// IMAGE_ID, NAME and ID, and IMAGE_VERSION, VERSION, VERSION_ID and BUILD_ID.
type OSRelease map[string]string

// ParseOSRelease reads os-release(5) text
// (https://www.freedesktop.org/software/systemd/man/latest/os-release.html): lines of KEY=VALUE
// with shell quoting but no expansion, blank lines and comments. A key that is listed twice has its
// last value. Any other line is a [*osmith.FormatError] with the offset of the line.
func ParseOSRelease(b []byte) (_ OSRelease, err error) {
	defer prefix.Add("uki", &err)
	fields := make(OSRelease)
	offset := int64(0)
	for line := range strings.SplitAfterSeq(string(b), "\n") {
		at := offset
		offset += int64(len(line))
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, quoted, ok := strings.Cut(line, "=")
		if !ok || !validKey(key) {
			return nil, &osmith.FormatError{Offset: at, Field: "os-release", Err: fmt.Errorf("line %q is not KEY=VALUE", firstRunes(line, 40))}
		}
		value, err := unquote(quoted)
		if err != nil {
			return nil, &osmith.FormatError{Offset: at, Field: "os-release field " + key, Err: err}
		}
		fields[key] = value
	}
	return fields, nil
}

func validKey(s string) bool {
	for i, c := range []byte(s) {
		if c != '_' && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// unquote undoes the quoting that a shell would: single quotes, double quotes with backslashes,
// backslashes alone, and any of them side by side.
func unquote(s string) (string, error) {
	var out strings.Builder
	quote := byte(0)
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case quote == '\'' && c != '\'', quote == '"' && c != '"' && c != '\\':
			out.WriteByte(c)
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\':
			i++
			if i == len(s) {
				return "", fmt.Errorf("ends with a backslash")
			}
			if quote == '"' && strings.IndexByte("\"$`\\", s[i]) < 0 {
				out.WriteByte('\\') // inside double quotes a backslash is special only before these
			}
			out.WriteByte(s[i])
		case c == '\'' || c == '"':
			quote = c
		case c == ' ' || c == '\t':
			return "", fmt.Errorf("unquoted white space in %q", firstRunes(s, 40))
		default:
			out.WriteByte(c)
		}
	}
	if quote != 0 {
		return "", fmt.Errorf("no closing %c", quote)
	}
	return out.String(), nil
}
