package upgrade

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
)

// configPath is the loader's configuration.
const configPath = "loader/loader.conf"

// preferMark is the line in front of a `preferred` that a downgrade has put there, and that the
// next upgrade takes away.
const preferMark = "# osmith: an older version is wanted, until the next upgrade"

// prefer has the loader choose the new entry where its place in the menu would not do: by
// `preferred` in loader.conf for a downgrade, which passes over an entry without tries left, so
// that the machine still falls back (systemd-boot 260 and later). What an earlier downgrade has
// left there goes.
func (p *Plan) prefer() error {
	p.choice, p.choiceErr = p.chosenAfter()
	if p.choiceErr != nil || p.choice.entry == nil || p.choice.entry.Path == p.Entry {
		return nil
	}
	conf, err := fs.ReadFile(p.state.esp, configPath)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if rest := withoutPreference(conf); len(rest) != len(conf) {
		p.config = rest
		if p.choice, p.choiceErr = p.chosenAfter(); p.choiceErr != nil || p.choice.entry != nil && p.choice.entry.Path == p.Entry {
			return nil
		}
		conf = rest
	}
	i := slices.IndexFunc(p.choice.menu.Entries, func(e *bootloader.Entry) bool { return e.Path == p.Entry })
	if !p.isDowngrade() || i < 0 {
		return nil
	}
	p.config = preferring(conf, p.choice.menu.Entries[i].ID)
	p.choice, p.choiceErr = p.chosenAfter()
	return nil
}

// withoutPreference is the configuration without the lines of a downgrade.
func withoutPreference(conf []byte) []byte {
	var out strings.Builder
	ours := false
	for line := range strings.Lines(string(conf)) {
		text := strings.TrimSpace(line)
		if ours && strings.HasPrefix(text, "preferred") {
			ours = false
			continue
		}
		if ours = text == preferMark; !ours {
			out.WriteString(line)
		}
	}
	return []byte(out.String())
}

// preferring is the configuration with an entry preferred: the last assignment of a key holds. The
// loader reads up to a NUL byte.
func preferring(conf []byte, id string) []byte {
	conf, _, _ = bytes.Cut(conf, []byte{0})
	out := slices.Clone(conf)
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, '\n')
	}
	return append(out, preferMark+"\npreferred "+id+"\n"...)
}

func bytesSource(b []byte) osmith.Source { return bytes.NewReader(b) }
