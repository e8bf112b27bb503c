package bootloader

import (
	"bytes"
	"iter"
	"strings"
)

// A line is one assignment in a configuration file.
type line struct {
	number     int // from 1
	key, value string
}

// lines yields the assignments in b as systemd-boot reads them (systemd 262, src/boot/efi-string.c, line_get_key_value):
// the text ends at a NUL byte; lines end at CR or LF; blanks around a line and lines that begin with # are dropped; the
// key ends at the first separator, the value begins behind the last one that follows, and loses a pair of quotes around
// it. Lines without a separator are dropped, and so are bytes that are not UTF-8.
func lines(b []byte, separators string) iter.Seq[line] {
	return func(yield func(line) bool) {
		if i := bytes.IndexByte(b, 0); i >= 0 {
			b = b[:i]
		}
		number := 0
		for text := range strings.SplitSeq(strings.ReplaceAll(string(b), "\r\n", "\n"), "\n") {
			number++
			for text := range strings.SplitSeq(text, "\r") {
				text = strings.Trim(text, " \t")
				if strings.HasPrefix(text, "#") {
					continue
				}
				i := strings.IndexAny(text, separators)
				if i < 0 {
					continue
				}
				key, value := text[:i], strings.TrimLeft(text[i:], separators)
				if value != "" && (value[0] == '"' || value[0] == '\'') && value[len(value)-1] == value[0] {
					value = value[1:max(len(value)-1, 1)]
				}
				if !yield(line{number, strings.ToValidUTF8(key, ""), strings.ToValidUTF8(value, "")}) {
					return
				}
			}
		}
	}
}
