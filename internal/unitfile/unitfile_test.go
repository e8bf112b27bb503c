package unitfile_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/unitfile"
)

func TestLines(t *testing.T) {
	type line struct {
		number int
		text   string
	}
	for text, want := range map[string][]line{
		"":                          nil,
		"\n \t\n# a\n; b\n":         nil,
		"a\nb":                      {{1, "a"}, {2, "b"}},
		" a \r\n\tb\rc\x00d":        {{1, "a"}, {2, "b"}, {3, "c"}, {4, "d"}},
		"a\\\nb\nc":                 {{1, "a b"}, {3, "c"}},
		"a\\\n# no part of it\n b":  {{1, "a  b"}},
		"a\\\n# the end":            {{1, "a"}},
		"a\\":                       {{1, "a"}},
		`a\\` + "\nb":               {{1, `a\\`}, {2, "b"}},
		"\ufeffa\n\ufeffb":          {{1, "a"}, {2, "\ufeffb"}},
		"# c\n\ufeff[a]":            {{2, "[a]"}},
		"a # no comment\n#a\\\nb\n": {{1, "a # no comment"}, {3, "b"}},
	} {
		var got []line
		for n, s := range unitfile.Lines(text) {
			got = append(got, line{n, s})
		}
		require.Equal(t, want, got, "%q", text)
	}
	for range unitfile.Lines("a\nb") { // may be left
		break
	}
}

func TestAssignment(t *testing.T) {
	key, value, ok := unitfile.Assignment("a\t= b=c")
	require.True(t, ok)
	require.Equal(t, []string{"a", "b=c"}, []string{key, value})
	for _, line := range []string{"a", "=b", " = b"} {
		_, _, ok = unitfile.Assignment(line)
		require.False(t, ok, line)
	}
}

func TestRead(t *testing.T) {
	link := func(target string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink | 0o777}
	}
	dir := fstest.MapFS{"a": {Data: []byte("text")}, "b": {}, "c": link("/dev/null"), "d": link("../dev/../dev/null"), "e": link("/dev//null"), "f": link("nowhere"), "g/x": {}, "h": {Data: make([]byte, unitfile.MaxFile+1)},
		"i": {Mode: fs.ModeDevice | fs.ModeCharDevice}}
	for name, want := range map[string]unitfile.State{"a": unitfile.There, "b": unitfile.Empty, "c": unitfile.Mask, "e": unitfile.Mask, "g": unitfile.None, "i": unitfile.Mask} {
		text, state, err := unitfile.Read(dir, name)
		require.NoError(t, err)
		require.Equal(t, want, state, name)
		require.Equal(t, state == unitfile.There, text == "text")
	}
	_, _, err := unitfile.Read(dir, "f")
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, _, err = unitfile.Read(dir, "h")
	require.ErrorContains(t, err, "not a regular file of at most 1048576 bytes")

	names, err := unitfile.Names(fstest.MapFS{"x/b.conf": {}, "x/a.conf": {}, "x/.c.conf": {}, "x/d.transfer": {}, "x/e": {}}, "x", 3, ".conf", ".transfer")
	require.NoError(t, err)
	require.Equal(t, []string{"x/a.conf", "x/b.conf", "x/d.transfer"}, names)
	_, err = unitfile.Names(dir, ".", 2, "")
	require.ErrorContains(t, err, "9 definition files, at most 2")
	_, err = unitfile.Names(dir, "none", 2, "")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestValues(t *testing.T) {
	for text, want := range map[string]bool{"1": true, "Yes": true, "ON": true, "t": true, "0": false, "no": false, "F": false, "off": false} {
		got, err := unitfile.Boolean(text)
		require.NoError(t, err)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "2", "ja", " 1"} {
		_, err := unitfile.Boolean(text)
		require.Error(t, err, text)
	}
	b, err := unitfile.OptionalBoolean("")
	require.NoError(t, err)
	require.Nil(t, b)
	_, err = unitfile.OptionalBoolean("x")
	require.Error(t, err)
	for text, want := range map[string]uint64{"0": 0, "-0": 0, "+7": 7, "010": 8, "0x1F": 31, "0b101": 5, "0o17": 15, "18446744073709551615": 1<<64 - 1} {
		n, err := unitfile.Unsigned(text)
		require.NoError(t, err, text)
		require.Equal(t, want, n, text)
	}
	for _, text := range []string{"", "-1", "08", "0x", "1_0", "+-1", "18446744073709551616", " 1"} {
		_, err := unitfile.Unsigned(text)
		require.ErrorIs(t, err, unitfile.ErrNumber, text)
	}
	none := errors.New("none")
	text := func(c byte) (string, error) {
		if c == 'a' {
			return "A%b", nil
		}
		return "", none
	}
	got, err := unitfile.Expand("%a-%%-%", text)
	require.NoError(t, err)
	require.Equal(t, "A%b-%-%", got)
	_, err = unitfile.Expand("%z", text)
	require.ErrorIs(t, err, none)
}

// FuzzLines: lines are never empty, have no space around them, and come in order.
func FuzzLines(f *testing.F) {
	f.Add("[a]\nb=c\\\n d\n# e\n")
	f.Fuzz(func(t *testing.T, text string) {
		last := 0
		for n, s := range unitfile.Lines(text) {
			require.Greater(t, n, last)
			require.NotEmpty(t, s)
			require.Equal(t, strings.Trim(s, unitfile.Space), s)
			last = n
		}
	})
}
