package uki_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/uki"
)

// table is where petest puts the section table.
const table = 64 + 24 + 240

// row finds the section header of that name in an image.
func row(t testing.TB, b []byte, name string) []byte {
	for i := range int(binary.LittleEndian.Uint16(b[64+6:])) {
		r := b[table+i*40:][:40]
		if strings.TrimRight(string(r[:8]), "\x00") == name {
			return r
		}
	}
	t.Fatalf("no section %s", name)
	return nil
}

func TestOpenRefuses(t *testing.T) {
	le := binary.LittleEndian
	for name, c := range map[string]struct {
		change func(b []byte) []byte
		is     error
		text   string
	}{
		"text":         {func([]byte) []byte { return []byte("text") }, uki.ErrNotPE, ""},
		"stub":         {func([]byte) []byte { return petest.Stub("262") }, uki.ErrNotUKI, ""},
		"cut":          {func(b []byte) []byte { return b[:len(b)-1000] }, nil, "section .linux"},
		"beyond image": {func(b []byte) []byte { le.PutUint32(b[88+56:], 4096); return b }, nil, "behind SizeOfImage"},
		"zero fill": {func(b []byte) []byte {
			le.PutUint32(row(t, b, ".linux")[8:], 1<<30)
			le.PutUint32(b[88+56:], 1<<31)
			return b
		}, nil, "bytes in memory"},
		"overlap":       {func(b []byte) []byte { copy(row(t, b, ".cmdline")[12:16], row(t, b, ".osrel")[12:16]); return b }, nil, "overlaps"},
		"under text":    {func(b []byte) []byte { le.PutUint32(row(t, b, ".cmdline")[12:], 0x2000); return b }, nil, "overlaps"},
		"in the header": {func(b []byte) []byte { le.PutUint32(row(t, b, ".cmdline")[12:], 0x100); return b }, nil, "overlaps"},
		"driver":        {func(b []byte) []byte { b[88+68] = 11; return b }, nil, "subsystem"},
	} {
		t.Run(name, func(t *testing.T) {
			im := complete()
			b := c.change(assemble(t, &im))
			f, err := uki.Open(source(b))
			require.Nil(t, f)
			var fe *uki.FormatError
			require.ErrorAs(t, err, &fe)
			if c.is != nil {
				assert.ErrorIs(t, err, c.is)
			}
			assert.Contains(t, err.Error(), c.text)
		})
	}
	f, err := uki.Open(nil)
	assert.Nil(t, f)
	assert.ErrorIs(t, err, uki.ErrMissing)
}

// A section that is larger in memory than in the file is measured with the zeros that the loader adds.
func TestZeroFill(t *testing.T) {
	im := complete()
	im.Sections = []uki.Section{{Name: ".splash", Content: strings.NewReader("BM")}}
	b := assemble(t, &im)
	binary.LittleEndian.PutUint32(row(t, b, ".splash")[8:], 600) // raw size is 512
	f, err := uki.Open(source(b))
	require.NoError(t, err)
	s, ok := f.Section(".splash")
	require.True(t, ok)
	got, err := io.ReadAll(s)
	require.NoError(t, err)
	assert.Equal(t, "BM"+strings.Repeat("\x00", 598), string(got))
}

func TestProfiles(t *testing.T) {
	im := complete()
	add := func(name, content string) {
		im.Sections = append(im.Sections, uki.Section{Name: name, Content: strings.NewReader(content)})
	}
	add(".profile", "ID=main\n")
	add(".profile", "ID=debug\n")
	add(".cmdline", "debug")
	add(".profile", "ID=last\n")
	f, err := uki.Open(source(assemble(t, &im)))
	require.NoError(t, err)
	cmdline, ok := f.Cmdline()
	assert.True(t, ok)
	assert.Equal(t, "ro", cmdline)
	var profiles []string
	for _, s := range f.Sections() {
		if s.Profile >= 0 {
			profiles = append(profiles, fmt.Sprint(s.Profile, s.Name))
		}
	}
	assert.Equal(t, []string{"0.profile", "1.profile", "1.cmdline", "2.profile"}, profiles)
	sizes := func(profile int) (list []string) {
		ms, err := f.MeasurementsWith(uki.MeasureOptions{Profile: profile})
		require.NoError(t, err)
		for _, m := range ms {
			if m.Section == ".cmdline" || m.Section == ".profile" {
				list = append(list, fmt.Sprint(m.Section, m.Size))
			}
		}
		return list
	}
	assert.Equal(t, []string{".cmdline2", ".profile8"}, sizes(0))
	assert.Equal(t, []string{".cmdline5", ".profile9"}, sizes(1))
	assert.Equal(t, []string{".cmdline2", ".profile8"}, sizes(2))
	_, err = f.MeasurementsWith(uki.MeasureOptions{Profile: 3})
	assert.ErrorContains(t, err, "the image has 3")
	ours, err := im.Measurements()
	require.NoError(t, err)
	theirs, err := f.Measurements()
	require.NoError(t, err)
	assert.Equal(t, theirs, ours)
}

func TestOSRelease(t *testing.T) {
	for text, want := range map[string]uki.OSRelease{
		"":                             {},
		"\n # c\n\nID=x":               {"ID": "x"},
		"A=\"a b\"\r\nB='$x'\n":        {"A": "a b", "B": "$x"},
		`A="\"\$\x"`:                   {"A": `"$\x`},
		`A=a\ b"c d"'e'`:               {"A": "a bc de"},
		"ID=first\nID=second\nEMPTY=":  {"ID": "second", "EMPTY": ""},
		"NAME=\"Größe\"\nVERSION='1'2": {"NAME": "Größe", "VERSION": "12"},
	} {
		got, err := uki.ParseOSRelease([]byte(text))
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
	for text, offset := range map[string]int64{"x": 0, "ID=x\n1A=b": 5, "=x": 0, "A=\"x": 0, "A='": 0, `A=x\`: 0, "A=b c": 0, "#\n#\nA B=c": 4} {
		got, err := uki.ParseOSRelease([]byte(text))
		assert.Nil(t, got)
		var fe *uki.FormatError
		require.ErrorAs(t, err, &fe, text)
		assert.Equal(t, offset, fe.Offset, text)
	}
}

func FuzzOpen(f *testing.F) {
	// Small seeds: the engine's own work grows with the size of the input.
	small := petest.Image{SizeOfHeaders: 1024, DllCharacteristics: 0x160, Sections: []petest.Section{
		{Name: ".text", Content: []byte{0xf4}, Code: true},
		{Name: ".sdmagic", Content: []byte("#### LoaderInfo: systemd-stub 262-1 ####")},
		{Name: ".linux", Content: []byte("kernel")},
		{Name: ".osrel", Content: []byte("ID=x\nNAME=\"a b\"\n")},
		{Name: ".cmdline", Content: []byte("ro")},
		{Name: ".profile", Content: []byte("ID=main")},
		{Name: ".profile", Content: []byte("ID=other")},
	}}
	f.Add(small.Bytes())
	f.Add(small.Bytes()[:1600])
	small.Sections = small.Sections[:2]
	f.Add(small.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		u, err := uki.Open(source(b))
		if (u == nil) != (err != nil) {
			t.Fatal(u, err)
		}
		if err != nil {
			return
		}
		for i, s := range u.Sections() {
			if s.Size < 1<<20 {
				_, _ = io.Copy(io.Discard, u.SectionData(i))
			}
		}
		_, _ = u.Cmdline()
		_, _ = u.OSRelease()
		_, _ = u.StubVersion()
		if ms, err := u.Measurements(); (ms == nil) != (err != nil) {
			t.Fatal(ms, err)
		}
		again := uki.Image{Stub: source(b), Linux: source(b)}
		if a, err := again.Assemble(); (a == nil) != (err != nil) {
			t.Fatal(a, err)
		}
	})
}

func FuzzParseOSRelease(f *testing.F) {
	f.Add([]byte("ID=x\nNAME=\"a\\\"b\"\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := uki.ParseOSRelease(b); (r == nil) != (err != nil) {
			t.Fatal(r, err)
		}
	})
}
