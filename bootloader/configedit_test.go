package bootloader

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEditConfig(t *testing.T) {
	three := ConfigEdit{Set: &Config{Timeout: "3"}}
	for name, c := range map[string]struct {
		text string
		edit ConfigEdit
		want string
	}{
		"nothing":                     {"# a\n\ntimeout 5", ConfigEdit{}, "# a\n\ntimeout 5"},
		"empty file":                  {"", three, "timeout 3\n"},
		"its value":                   {"# a\ntimeout 5\nother x\n", three, "# a\ntimeout 3\nother x\n"},
		"has it already":              {"timeout 5\ntimeout \"3\"\ntimeout soon\n", three, "timeout 5\ntimeout \"3\"\ntimeout soon\n"},
		"has it for 257 and later":    {"timeout '3'\n", three, "timeout 3\n"},
		"same switch, another word":   {"editor off\n", ConfigEdit{Set: &Config{Editor: SwitchNo}}, "editor off\n"},
		"of releases that read it":    {"auto-reboot 1\npreferred \"a\"\n", ConfigEdit{Set: &Config{AutoReboot: SwitchYes, Preferred: "a"}}, "auto-reboot 1\npreferred \"a\"\n"},
		"the last one holds":          {"timeout 3\ntimeout 5\n", three, "timeout 3\ntimeout 3\n"},
		"the last one is not valid":   {"timeout 5\ntimeout soon\n", three, "timeout 5\ntimeout 3\n"},
		"blanks and quotes":           {"\t timeout \t \"5\" \t\r\nx y\r\n", three, "\t timeout \t 3 \t\r\nx y\r\n"},
		"last line without its end":   {"x y\ntimeout 5", three, "x y\ntimeout 3"},
		"added":                       {"x y\n", three, "x y\ntimeout 3\n"},
		"added to a line with no end": {"# a\r\nx y", three, "# a\r\nx y\r\ntimeout 3\r\n"},
		"added to the only line":      {"x y", three, "x y\ntimeout 3\n"},
		"added with CR":               {"x y\r", three, "x y\rtimeout 3\r"},
		"added in front of NUL":       {"x y\x00timeout 3\n", three, "x y\ntimeout 3\n\x00timeout 3\n"},
		"a comment is no assignment":  {"#timeout 5\n", three, "#timeout 5\ntimeout 3\n"},
		"a bare word is none":         {"timeout\n", three, "timeout\ntimeout 3\n"},
		"capitals are another key":    {"Timeout 5\n", three, "Timeout 5\ntimeout 3\n"},
		"removed, all of them":        {"# a\r\ntimeout 5\r\nx y\r\ntimeout soon\rdefault d\ntimeout 1", ConfigEdit{Remove: []string{"timeout"}}, "# a\r\nx y\r\ndefault d\n"},
		"removed, and not there":      {"x y", ConfigEdit{Remove: []string{"timeout"}}, "x y"},
		"several": {"default a\neditor yes\n", ConfigEdit{Set: &Config{Editor: SwitchNo, LogLevel: "debug", Timeout: "menu-hidden"}, Remove: []string{"default"}},
			"editor no\ntimeout menu-hidden\nlog-level debug\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := EditConfig([]byte(c.text), c.edit)
			require.NoError(t, err)
			assert.Equal(t, c.want, string(got))
			again, err := EditConfig(got, c.edit)
			require.NoError(t, err)
			assert.Equal(t, c.want, string(again), "a second time")
		})
	}
	_, err := EditConfig(nil, ConfigEdit{Set: &Config{Timeout: "soon"}})
	require.ErrorIs(t, err, ErrConfigValue)
	_, err = EditConfig(nil, ConfigEdit{Set: &Config{Default: "a\neditor yes"}})
	require.ErrorIs(t, err, ErrConfigValue)
	_, err = EditConfig(nil, ConfigEdit{Remove: []string{"timeuot"}})
	require.ErrorIs(t, err, ErrConfigKey)
	_, err = EditConfig([]byte("timeout 1\n"), ConfigEdit{Set: &Config{Timeout: "3"}, Remove: []string{"timeout"}})
	require.EqualError(t, err, "bootloader: loader.conf: timeout listed under both Set and Remove: want one of them")
	before := []byte("timeout 5\nx")
	_, err = EditConfig(before, three)
	require.NoError(t, err)
	require.Equal(t, "timeout 5\nx", string(before), "what was given stays")
}

// FuzzEditConfig: what is set is what systemd-boot reads of every release, what is removed it does
// not read, and all other lines are the same bytes.
func FuzzEditConfig(f *testing.F) {
	f.Add([]byte("# c\ntimeout 5\r\nx y\ntimeout 7"), "3", "os_*.efi", uint8(SwitchNo), "editor")
	f.Add([]byte("tim\xffeout '5'\r\reditor yes\n\n\x00timeout 1\n"), "menu-force", "", uint8(SwitchYes), "beep")
	f.Add([]byte(" \t default \"a\"\tx \r\n"), "", "@saved", uint8(0), "timeout")
	f.Fuzz(func(t *testing.T, text []byte, timeout, def string, editor uint8, remove string) {
		set := &Config{Timeout: timeout, Default: def, Editor: Switch(editor)}
		e := ConfigEdit{Set: set, Remove: []string{remove}}
		got, err := EditConfig(text, e)
		require.Equal(t, err == nil, got != nil || len(text) == 0 && err == nil)
		if err != nil {
			return
		}
		touched := map[string]bool{remove: true, "timeout": timeout != "", "default": def != "", "editor": editor != 0}
		for _, r := range Releases() {
			before, after := parseConfig(text, r), parseConfig(got, r)
			for _, k := range configKeys {
				switch {
				case k.name == remove:
					require.True(t, k.same(after, new(Config)), "%s is still there: %q", k.name, got)
				case !touched[k.name]:
					require.True(t, k.same(after, before), "%s of %d: %q became %q", k.name, r.Number, text, got)
				case k.since <= r.Number:
					require.True(t, k.same(after, set), "%s of %d: %q became %q", k.name, r.Number, text, got)
				}
			}
		}
		others := func(b []byte) (list []string) {
			read, rest, _ := bytes.Cut(b, []byte{0})
			for l := range strings.FieldsFuncSeq(string(read), func(r rune) bool { return r == '\r' || r == '\n' }) {
				key := ""
				for l := range lines([]byte(l), " \t", newest().rules) {
					key = l.key
				}
				if !touched[key] {
					list = append(list, l)
				}
			}
			return append(list, string(rest))
		}
		require.Equal(t, others(text), others(got))
		again, err := EditConfig(got, e)
		require.NoError(t, err)
		require.True(t, slices.Equal(got, again), "a second time: %q became %q", got, again)
	})
}
