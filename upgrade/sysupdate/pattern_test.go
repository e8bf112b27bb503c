package sysupdate_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/upgrade/sysupdate"
)

// patternCases are names that a pattern matches, each with its version at the wildcard, and such
// that it does not match. TestPatternsAgainstSysupdate checks them against the program.
var patternCases = []struct {
	pattern string
	is, no  []string
}{
	{"f_@v", []string{"f_1", "f_2_verity", "f_3~2", "f_4^a", "f_5+3", "f_.", "f_-", "f_..6", "f_7."}, []string{"f_", "f_1,2", "f_1 2", "f_ü", "f_1@", "F_2", "g_1", ".f_9", "f_1:"}},
	{"f_@v_x", []string{"f_1_x", "f_a_b_x"}, []string{"f_1_x_x", "f__x", "f_x", "f_1_X"}},
	{"f_@v.d@@", []string{"f_1.d@"}, []string{"f_1.d"}},
	{"@v", []string{"1", "a", ".4"}, []string{"1@"}},
	{"f_@v+@l-@d.efi", []string{"f_1+3-0.efi", "f_4+03-001.efi", "f_5+0x3-0b1.efi", "f_6++3-0o7.efi", "f_7+ 3-4294967296.efi", "f_8+18446744073709551614-0.efi"},
		[]string{"f_1.efi", "f_2+3.efi", "f_5+a-0.efi", "f_6+3-.efi", "f_7+18446744073709551615-0.efi", "f_8+18446744073709551616-0.efi", "f_9+3-0.efi.efi", "f_1+08-0.efi", "f_2+-3-0.efi", "f_3+3 -0.efi"}},
	{"f_@v_@t", []string{"f_0_010", "f_1_0x10", "f_3_+5", "f_4_ 5", "f_5_18446744073709551614", "f_7_-0"}, []string{"f_1_08", "f_2_", "f_3_18446744073709551615", "f_4_1_", "f_5_x"}},
	{"f_@v_@m", []string{"f_0_644", "f_1_0644", "f_2_ 644", "f_3_0", "f_4_775"}, []string{"f_5_777", "f_6_1755", "f_7_+644", "f_8_0o644", "f_9_8", "f_10_0x1ff", "f_11_", "f_12_2"}},
	{"f_@v_@s", []string{"f_0_010", "f_1_5", "f_2_-0", "f_3_\t5"}, []string{"f_4_5K", "f_5_-5", "f_6_"}},
	{"f_@v_@f", []string{"f_0_10", "f_1_0x10", "f_2_+5", "f_3_ffffffffffffffff", "f_4_FF", "f_5_0b2", "f_6_-0"}, []string{"f_7_0x", "f_8_", "f_9_1ffffffffffffffff", "f_10_-1", "f_11_0o7"}},
	{"f_@v_@a_@g_@r", []string{"f_1_0_1_0", "f_2_yes_no_on", "f_3_T_OFF_y"}, []string{"f_4_2_0_0", "f_5_1_1_ 1", "f_6_1_1_"}},
	{"f_@v_@u", []string{"f_1_8b8186b1-2b4e-4eb6-ad39-8d4d18d2a8fb", "f_2_8b8186b12b4e4eb6ad398d4d18d2a8fb", "f_3_8B8186B1-2B4E-4EB6-AD39-8D4D18D2A8FB", "f_4_00000000-0000-0000-0000-000000000000"},
		[]string{"f_5_8b8186b1-2b4e-4eb6-ad39-8d4d18d2a8f", "f_6_{8b8186b1-2b4e-4eb6-ad39-8d4d18d2a8fb}", "f_7_8b8186b1-2b4e4eb6-ad39-8d4d18d2a8fb", "f_8_8b8186b1-2b4e-4eb6ad39-8d4d18d2a8fb"}},
	{"f_@v_@h", []string{"f_1_" + strings.Repeat("aA", 32)}, []string{"f_2_" + strings.Repeat("a", 62), "f_3_" + strings.Repeat("a", 66), "f_4_ " + strings.Repeat("a", 64)}},
}

func TestPatternMatch(t *testing.T) {
	for _, c := range patternCases {
		p, err := sysupdate.ParsePattern(c.pattern)
		require.NoError(t, err)
		require.Equal(t, c.pattern, p.String())
		for _, name := range c.is {
			f, ok := p.Match(name)
			require.True(t, ok, "%s %q", c.pattern, name)
			require.True(t, sysupdate.ValidVersion(f.Version))
			again, err := p.Format(f) // the one name that we write for the same
			require.NoError(t, err, "%s %q", c.pattern, name)
			g, ok := p.Match(again)
			require.True(t, ok)
			require.Equal(t, f, g)
		}
		for _, name := range c.no {
			f, ok := p.Match(name)
			require.False(t, ok, "%s %q", c.pattern, name)
			require.Zero(t, f)
		}
	}
}

// Every name of the table is listed by the program or not, as the table says.
func TestPatternsAgainstSysupdate(t *testing.T) {
	r := newRoot(t)
	for i, c := range patternCases {
		dir := fmt.Sprint("p", i)
		r.write("usr/lib/sysupdate.d/10-a.transfer", definition("", "", "Path=/"+dir+"\nMatchPattern=\nMatchPattern="+c.pattern+"\n"))
		p, err := sysupdate.ParsePattern(c.pattern)
		require.NoError(t, err)
		for _, name := range append(slices.Clone(c.is), c.no...) {
			require.NoError(t, os.RemoveAll(r.path(dir)))
			r.write(dir+"/"+name, "x")
			out := r.script("$S list --offline --json=short")
			f, ok := p.Match(name)
			want := `"all":[]`
			if ok {
				want = `"all":["` + f.Version + `"]`
			}
			require.Contains(t, out, want, "%s %q", c.pattern, name)
		}
	}
}

func TestPatternFields(t *testing.T) {
	p, err := sysupdate.ParsePattern("a_@v_@u_@f_@a@@@g@@@r_@t_@m_@s+@l-@d.@h")
	require.NoError(t, err)
	sum := [32]byte{1, 2, 3}
	id := osmith.MustParseGUID("8b8186b1-2b4e-4eb6-ad39-8d4d18d2a8fb")
	f := sysupdate.Fields{Version: "1.2", PartitionUUID: &id, PartitionFlags: new(uint64(1 << 60)), NoAuto: new(false), GrowFileSystem: new(true), ReadOnly: new(true), ModTime: new(uint64(1234)),
		Mode: new(uint32(0o644)), Size: new(uint64(4096)), TriesLeft: new(uint64(3)), TriesDone: new(uint64(0)), SHA256: &sum}
	name, err := p.Format(f)
	require.NoError(t, err)
	require.Equal(t, "a_1.2_8b8186b1-2b4e-4eb6-ad39-8d4d18d2a8fb_1000000000000000_0@1@1_1234_644_4096+3-0."+hex.EncodeToString(sum[:]), name)
	got, ok := p.Match(name)
	require.True(t, ok)
	require.Equal(t, f, got)
	for _, letter := range "vufagrtmsldh" {
		require.True(t, p.Has(byte(letter)))
	}
	require.False(t, p.Has(0))
	require.False(t, p.Has('x'))

	// A name that would be read as something else is none.
	for _, c := range []struct {
		pattern string
		fields  sysupdate.Fields
	}{
		{"a_@v", sysupdate.Fields{Version: "1 2"}}, {"a_@v", sysupdate.Fields{}}, {"a_@v+@l", sysupdate.Fields{Version: "1"}}, {"a_@v+@l", sysupdate.Fields{Version: "1+2", TriesLeft: new(uint64(3))}},
		{"a_@v.efi", sysupdate.Fields{Version: "1.efi"}}, {"a_@v_@m", sysupdate.Fields{Version: "1", Mode: new(uint32(0o777))}}, {"a_@v+@l", sysupdate.Fields{Version: "1", TriesLeft: new(^uint64(0))}},
	} {
		p, err := sysupdate.ParsePattern(c.pattern)
		require.NoError(t, err)
		name, err := p.Format(c.fields)
		require.ErrorContains(t, err, "sysupdate: pattern ", name)
	}
}

func TestParsePatternRefuses(t *testing.T) {
	for text, offset := range map[string]int64{
		"": 0, "a": 0, "@": 0, "a_@v@": 4, "a_@v@u": 4, "a_@v_@v": 5, "a_@x": 2, "a*@v": 1, "a?@v": 1, "a[@v": 1, "a]@v": 1, "a\n@v": 1, "a\x7f@v": 1, "**/a/b_@v": 3, "**/a*@v": 4, "@@v": 0,
		strings.Repeat("a", 4096) + "@v": 0,
	} {
		p, err := sysupdate.ParsePattern(text)
		require.Nil(t, p)
		require.ErrorIs(t, err, sysupdate.ErrPattern, "%q", text)
		var e *osmith.FormatError
		require.True(t, errors.As(err, &e))
		require.Equal(t, offset, e.Offset, "%q", text)
	}
	p, err := sysupdate.ParsePattern("**/a_@v")
	require.NoError(t, err)
	require.True(t, p.Recursive())
	_, ok := p.Match("a_1")
	require.True(t, ok)
}

func FuzzPattern(f *testing.F) {
	for _, c := range patternCases {
		for _, name := range c.is {
			f.Add(c.pattern, name)
		}
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		p, err := sysupdate.ParsePattern(pattern)
		require.Equal(t, err == nil, p != nil)
		if err != nil {
			return
		}
		fields, ok := p.Match(name)
		if !ok {
			require.Zero(t, fields)
			return
		}
		again, err := p.Format(fields)
		if err != nil {
			return // as we write a value, it has in it what follows it in the pattern
		}
		back, ok := p.Match(again)
		require.True(t, ok)
		require.Equal(t, fields, back)
	})
}
