package sbat_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/osmith-dev/osmith"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/sbat"
)

// The .sbat section of systemd-stub 257 of Debian trixie, and the level of shim 15.8 (its SbatLevel_Variable.txt, 2024010900).
const (
	stub = "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n" +
		"systemd-stub,1,The systemd Developers,systemd,257,https://systemd.io/\n" +
		"systemd-stub.debian,1,Debian GNU/Linux,systemd,257.13-1~deb13u1,https://tracker.debian.org/pkg/systemd\n"
	level = "sbat,1,2024010900\nshim,4\ngrub,3\ngrub.debian,4\n"
)

func TestParse(t *testing.T) {
	for _, text := range []string{stub, strings.ReplaceAll(stub, "\n", "\r\n"), "\xef\xbb\xbf" + stub, "\n" + stub + "\n\x00\x00\x00", strings.TrimSuffix(stub, "\n")} {
		e, err := sbat.Parse([]byte(text))
		require.NoError(t, err)
		require.Len(t, e, 3)
		require.Equal(t, sbat.Entry{Component: "systemd-stub", Generation: 1, Fields: strings.Split("systemd-stub,1,The systemd Developers,systemd,257,https://systemd.io/", ",")}, e[1])
	}
	for name, c := range map[string]struct {
		text   string
		offset int64
	}{
		"nothing":        {"", 0},
		"padding":        {"\x00\x00", 0},
		"blank lines":    {"\r\n\n", 0},
		"five columns":   {stub + "a,1,b,c,d\n", int64(len(stub))},
		"empty column":   {"a,1,b,,d,e", 0},
		"empty name":     {",1,b,c,d,e", 0},
		"trailing comma": {stub + "a,1,b,c,d,\n", int64(len(stub))},
		"NUL inside":     {"a,1\x00,b,c,d,e", 3},
		"not ASCII":      {"a,1,b,c,d,\xc3\xa9", 10},
		"too much":       {strings.Repeat("a,1,b,c,d,e\n", 6000), 0},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := sbat.Parse([]byte(c.text))
			require.Nil(t, e)
			f, ok := errors.AsType[*osmith.FormatError](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, c.offset, f.Offset, "%v", err)
			require.NotNil(t, errors.Unwrap(err))
		})
	}
}

func TestLevel(t *testing.T) {
	l, err := sbat.ParseLevel([]byte(level))
	require.NoError(t, err)
	require.Equal(t, "2024010900", l.Date())
	require.Len(t, l.Entries, 4)
	old, err := sbat.ParseLevel([]byte("sbat,1"))
	require.NoError(t, err)
	require.Empty(t, old.Date())
	for _, text := range []string{"", "shim,4\n", level + "grub\n", level + "grub,\n"} {
		l, err := sbat.ParseLevel([]byte(text))
		require.Error(t, err, text)
		require.Nil(t, l)
	}
}

func TestRevokes(t *testing.T) {
	for component, c := range map[string]struct {
		generation string
		revoked    bool
	}{
		"shim":         {"4", false},
		"sbat":         {"1", false},
		"grub":         {"2", true},
		"grub.debian":  {"4", false},
		"grub.debian ": {"1", false},
		"grub.ubuntu":  {"0", false},
		"Shim":         {"3", false},
	} {
		e, err := sbat.Parse([]byte(stub + component + "," + c.generation + ",a,b,c,d\n"))
		require.NoError(t, err)
		l, err := sbat.ParseLevel([]byte(level))
		require.NoError(t, err)
		r := l.Revokes(e)
		require.Equal(t, c.revoked, r != nil, component)
		if r != nil {
			require.Equal(t, &sbat.Revocation{Component: "grub", Generation: 2, Least: 3}, r)
			require.Equal(t, `component "grub" is of generation 2, the level asks for 3`, r.String())
		}
	}
	for text, want := range map[string]uint16{
		"5": 5, " 5": 5, "+5": 5, "5x": 5, "x5": 0, "-1": 65535, "65536": 0, "65541": 5, "007": 7, "99999999999999999999": 65535 & uint16(99999999999999999999%65536),
	} {
		e, err := sbat.Parse([]byte("c," + text + ",a,b,c,d"))
		require.NoError(t, err)
		require.Equal(t, want, e[0].Generation, text)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(stub))
	f.Add([]byte(level))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := sbat.Parse(data)
		if (e == nil) != (err != nil) {
			t.Fatalf("%v and error %v", e, err)
		}
		l, err := sbat.ParseLevel(data)
		if (l == nil) != (err != nil) {
			t.Fatalf("%v and error %v", l, err)
		}
		if err == nil {
			l.Date()
			l.Revokes(e)
		}
		// What was parsed, written again, is parsed to the same.
		var text strings.Builder
		for _, x := range e {
			text.WriteString(strings.Join(x.Fields, ",") + "\n")
		}
		if e != nil {
			again, err := sbat.Parse([]byte(text.String()))
			require.NoError(t, err)
			require.Equal(t, e, again)
		}
	})
}
