package bootloader

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// ConfigEdit says what to change in a loader.conf. The zero value changes nothing.
type ConfigEdit struct {
	Set *Config // new values for its fields that are set; Ignored does not count
	// keys of loader.conf(5) to remove, such as "timeout", so that the loader's defaults apply
	Remove []string
}

// IsZero reports whether the edit changes no file.
func (e ConfigEdit) IsZero() bool { return e.Set == nil && len(e.Remove) == 0 }

// EditConfig changes keys of loader.conf and leaves every other line as it is: comments, unknown
// keys, blanks, line ends, and text after a NUL byte, which the loader does not read. Of several
// lines with a key the last valid one counts (systemd 262, src/boot/boot.c,
// config_defaults_load_from_file), so the last one is changed; a key that already has the value,
// for every release of [Releases], is not changed. A new key is added at the end, with the line end
// of the text. Removing a key removes all its lines. For a value that the loader would ignore, the
// error wraps [ErrConfigValue]; for an unknown key to remove, [ErrConfigKey].
func EditConfig(text []byte, e ConfigEdit) (edited []byte, err error) {
	defer prefix.Add("bootloader", &err)
	return editConfig(text, e)
}

func editConfig(text []byte, e ConfigEdit) ([]byte, error) {
	for _, name := range e.Remove {
		if !slices.ContainsFunc(configKeys, func(k configKey) bool { return k.name == name }) {
			return nil, fmt.Errorf("loader.conf: remove %q: %w: name one of loader.conf(5)", name, ErrConfigKey)
		}
	}
	set := e.Set
	if set == nil {
		set = new(Config)
	}
	for _, k := range configKeys {
		value, err := k.value(set)
		switch {
		case err != nil:
			return nil, err
		case slices.Contains(e.Remove, k.name) && value != "":
			return nil, fmt.Errorf("loader.conf: %s listed under both Set and Remove: want one of them", k.name)
		case slices.Contains(e.Remove, k.name):
			text = removeKey(text, k.name)
		case value != "":
			text = k.setIn(text, set, value)
		}
	}
	return text, nil
}

// setIn makes a key have a value, as it is in set and as it is written.
func (k configKey) setIn(text []byte, set *Config, value string) []byte {
	if k.hasIn(text, set) {
		return text
	}
	var last *line
	for l := range lines(text, " \t", newest().rules) {
		if l.key == k.name {
			last = &l
		}
	}
	if last != nil {
		return slices.Concat(text[:last.valueAt], []byte(value), text[last.valueEnd:])
	}
	end := len(text)
	if i := bytes.IndexByte(text, 0); i >= 0 {
		end = i // what is behind it is not read
	}
	lineEnd := lineEndOf(text[:end])
	added := k.name + " " + value + lineEnd
	if end > 0 && text[end-1] != '\n' && text[end-1] != '\r' {
		added = lineEnd + added
	}
	return slices.Concat(text[:end], []byte(added), text[end:])
}

// hasIn reports whether every release that reads the key has the value from the text: not all of
// them take the same quotes off.
func (k configKey) hasIn(text []byte, set *Config) bool {
	for _, r := range releases {
		if k.since <= r.Number && !k.same(parseConfig(text, r), set) {
			return false
		}
	}
	return true
}

// same reports whether a key has the same value in both.
func (k configKey) same(a, b *Config) bool {
	if k.flag != nil {
		return *k.flag(a) == *k.flag(b)
	}
	return *k.text(a) == *k.text(b)
}

// lineEndOf is how the first line ends, LF if there is none that does.
func lineEndOf(text []byte) string {
	i := bytes.IndexAny(text, "\r\n")
	switch {
	case i < 0 || text[i] == '\n':
		return "\n"
	case i+1 < len(text) && text[i+1] == '\n':
		return "\r\n"
	}
	return "\r"
}

// removeKey takes the lines with a key away.
func removeKey(text []byte, key string) []byte {
	var kept []byte
	at := 0
	for l := range lines(text, " \t", newest().rules) {
		if l.key == key {
			kept = append(kept, text[at:l.start]...)
			at = l.end
		}
	}
	return append(kept, text[at:]...)
}
