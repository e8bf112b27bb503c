package sbat_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/osmith-dev/osmith"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/sbat"
)

// The .sbat section of systemd-stub 257 of Debian trixie, and the level of shim 15.8 (its
// SbatLevel_Variable.txt, 2024010900).
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
		"five columns":        {stub + "a,1,b,c,d\n", int64(len(stub))},
		"no comma":            {"a", 0},
		"empty column":        {"a,1,b,,d,e", 0},
		"empty name":          {",1,b,c,d,e", 0},
		"trailing comma":      {stub + "a,1,b,c,d,\n", int64(len(stub))},
		"NUL before the last": {"a,1,b,c,d\x00,e", 0},
		"too much":            {strings.Repeat("a,1,b,c,d,e\n", 6000), 0},
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

// What shim lets pass. Each row was put to csv.c and sbat.c of shim 16.1, compiled for Linux, with
// the same result.
func TestParseAsShim(t *testing.T) {
	const a, b = "a,1,x,x,x,x", "b,2,x,x,x,x"
	for text, want := range map[string]string{
		"":                             "",
		"\x00\x00":                     "",
		"\r\n\n":                       "",
		a + ",more,":                   "a 1",
		a + "\r" + b:                   "a 1 b 2",
		"a,1,\xc3\xa9,\x01,x,\xff":     "a 1",
		a + "\x00\n" + b:               "a 1",     // a NUL byte in a line ends the text,
		a + "\n\x00" + b:               "a 1",     // and right behind a line break,
		a + "\n\n\x00" + b:             "a 1 b 2", // but not behind one that was passed over
		a + "\r\n\x00" + b:             "a 1 b 2",
		a + "\r\n\x00\x00" + b:         "a 1",
		a + "\r\n\x00\n" + b:           "a 1 b 2",
		"\x00" + a:                     "",
		"\n\x00" + a:                   "a 1",
		"\xef\xbb\xbf\xef\xbb\xbf" + a: "\xef\xbb\xbfa 1",
		"\xef\xbb" + a:                 "\xef\xbba 1",
	} {
		e, err := sbat.Parse([]byte(text))
		require.NoError(t, err, "%q", text)
		var got []string
		for _, x := range e {
			require.Len(t, x.Fields, 6, "%q", text)
			got = append(got, x.Component, x.Fields[1])
		}
		require.Equal(t, want, strings.Join(got, " "), "%q", text)
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
	// A fourth column is not looked at, a third one has to be there if its comma is.
	l, err = sbat.ParseLevel([]byte("sbat,1,2024010900,,\n"))
	require.NoError(t, err)
	require.Len(t, l.Entries[0].Fields, 3)
	for _, text := range []string{"", "shim,4\n", "sbat", "sbat,", "sbat,1,\n", "\nsbat,1\n", "\xef\xbb\xbfsbat,1\n", level + "grub\n", level + "grub,\n", level + "grub,1,\n"} {
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
	// Shim's atoi: blanks and tabs in front, no sign, 16 bits of the result.
	for text, want := range map[string]uint16{
		"5": 5, " \t5": 5, "+5": 0, "5x": 5, "x5": 0, "-1": 0, "65535": 65535, "65536": 0, "65541": 5, "007": 7, "1.5": 1, "18446744073709551621": 5,
	} {
		e, err := sbat.Parse([]byte("c," + text + ",a,b,c,d"))
		require.NoError(t, err)
		require.Equal(t, want, e[0].Generation, text)
	}
	// Of two lines for one component the first counts; another component behind it is still looked
	// at.
	l, err := sbat.ParseLevel([]byte("sbat,1\ngrub,1\ngrub,9\nshim,2\n"))
	require.NoError(t, err)
	e, err := sbat.Parse([]byte("grub,3,a,b,c,d\nshim,1,a,b,c,d\n"))
	require.NoError(t, err)
	require.Equal(t, &sbat.Revocation{Component: "shim", Generation: 1, Least: 2}, l.Revokes(e))
	require.Nil(t, l.Revokes(e[:1]))
}

func TestLines(t *testing.T) {
	lines, err := sbat.Lines([]byte(stub))
	require.NoError(t, err)
	require.Equal(t, strings.Split(strings.TrimSuffix(stub, "\n"), "\n"), lines)
	for _, text := range []string{strings.ReplaceAll(stub, "\n", "\r\n"), "\n" + stub + "\n\x00\x00\x00", strings.TrimSuffix(stub, "\n")} {
		other, err := sbat.Lines([]byte(text))
		require.NoError(t, err)
		require.Equal(t, lines, other)
	}
	for text, want := range map[string]string{
		"a,1,b,c,d":                           "has 5 columns, want 6",
		"a":                                   "has 1 columns, want 6",
		"a,1,b,c,d,":                          "column 6 is empty",
		"a,1,,c,d,e":                          "column 3 is empty",
		",1,b,c,d,e":                          "column 1 is empty",
		"a,,b,c,d,e":                          "column 2 is empty",
		"a,0,b,c,d,e":                         `generation "0", want a number from 1 to 65535`,
		"a,-1,b,c,d,e":                        `generation "-1"`,
		"a,+1,b,c,d,e":                        `generation "+1"`,
		"a, 1,b,c,d,e":                        `generation " 1"`,
		"a,01,b,c,d,e":                        `generation "01"`,
		"a,1_0,b,c,d,e":                       `generation "1_0"`,
		"a,one,b,c,d,e":                       `generation "one"`,
		"a,65536,b,c,d,e":                     `generation "65536"`,
		"a,1,b,c\x00,d,e":                     "byte 0x00 in column 4",
		"a,1,b,c,d,e\x00\n\n":                 "byte 0x00 in column 6",
		"a,1,b\rb,c,d,e":                      "byte 0x0d in column 3",
		"a,1,b\tb,c,d,e":                      "byte 0x09 in column 3",
		"a,1,b\x7fb,c,d,e":                    "byte 0x7f in column 3",
		"\xef\xbb\xbfa,1,b,c,d,e":             "byte order mark",
		strings.Repeat("a,1,b,c,d,e\n", 6000): "limit 65536",
	} {
		lines, err := sbat.Lines([]byte(text))
		require.Nil(t, lines, text)
		require.ErrorContains(t, err, want, "%q", text)
		f, ok := errors.AsType[*osmith.FormatError](err)
		require.True(t, ok)
		require.Zero(t, f.Offset)
	}
	_, err = sbat.Lines([]byte("a,1,b,c,d,e\r\n\na,1"))
	f, ok := errors.AsType[*osmith.FormatError](err)
	require.True(t, ok)
	require.Equal(t, int64(14), f.Offset)

	for _, line := range lines {
		require.True(t, sbat.IsASCII(line))
	}
	require.False(t, sbat.IsASCII("a,1,\xc3\xa9,c,d,e"))
	require.False(t, sbat.IsASCII("a,1,\t,c,d,e"))
	for text, want := range map[string]uint16{"1": 1, "65535": 65535} {
		n, err := sbat.Generation(text)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
	_, err = sbat.Generation("")
	require.Error(t, err)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(stub))
	f.Add([]byte(level))
	f.Add([]byte("a,1,x,x,x,x\r\n\x00b,2,x,x,x,x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := sbat.Parse(data)
		if e != nil && err != nil {
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
		// so that a component that begins as a byte order mark does stays what it is
		text.WriteString("\n")
		for _, x := range e {
			text.WriteString(strings.Join(x.Fields, ",") + "\n")
		}
		if e != nil {
			again, err := sbat.Parse([]byte(text.String()))
			require.NoError(t, err)
			require.Equal(t, e, again)
		}
		// What may be written is read by shim as it was meant.
		lines, err := sbat.Lines(data)
		if err != nil {
			return
		}
		read, err := sbat.Parse(data)
		require.NoError(t, err)
		require.Len(t, read, len(lines))
		for i, line := range lines {
			require.True(t, strings.HasPrefix(line, strings.Join(read[i].Fields, ",")))
			n, err := sbat.Generation(read[i].Fields[1])
			require.NoError(t, err)
			require.Equal(t, n, read[i].Generation)
		}
	})
}
