package uki_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/uki"
)

// rich is an image with a bit of everything.
func rich() uki.Image {
	im := complete()
	im.Initrd = []osmith.Source{strings.NewReader(strings.Repeat("initrd", 3000))}
	im.Splash = strings.NewReader("BM")
	im.DeviceTreeAuto = []osmith.Source{strings.NewReader("one"), strings.NewReader("two")}
	im.Profile = []byte("ID=main\n")
	im.Profiles = []uki.Profile{{Profile: []byte("ID=debug\n"), Cmdline: "debug"}, {Profile: []byte("ID=other\n"), Cmdline: "other"}}
	return im
}

// An image that is changed has the bytes of one that is built with the change, if its sections have
// to move.
func TestEditedIsAsBuilt(t *testing.T) {
	long := strings.Repeat("x ", 5000)
	for name, c := range map[string]struct {
		build func(*uki.Image)
		edit  func(*uki.Edit) error
	}{
		"cmdline": {func(im *uki.Image) { im.Cmdline = long }, func(e *uki.Edit) error {
			return e.Replace(".cmdline", -1, strings.NewReader(long))
		}},
		"cmdline of a profile": {func(im *uki.Image) { im.Profiles[0].Cmdline = long }, func(e *uki.Edit) error {
			return e.Replace(".cmdline", 1, strings.NewReader(long))
		}},
		"same place": {func(im *uki.Image) { im.Profiles[1].Cmdline = "OTHER" }, func(e *uki.Edit) error {
			return e.Replace(".cmdline", 2, strings.NewReader("OTHER"))
		}},
		"no splash": {func(im *uki.Image) { im.Splash = nil }, func(e *uki.Edit) error { return e.Remove(".splash", -1) }},
		"kernel without NX": {func(im *uki.Image) { im.Linux = source(withoutNX()); im.Uname = "6.13.0" }, func(e *uki.Edit) error {
			if err := e.Replace(".uname", -1, strings.NewReader("6.13.0")); err != nil {
				return err
			}
			return e.Replace(".linux", -1, source(withoutNX()))
		}},
		"a .profile section would begin a new profile": {func(im *uki.Image) {
			im.Profiles = append(im.Profiles, uki.Profile{Profile: []byte("ID=3"), Cmdline: "3"})
		}, func(e *uki.Edit) error {
			n, err := e.AddProfile([]byte("ID=3"), uki.Section{Name: ".cmdline", Content: strings.NewReader("3")})
			assert.Equal(t, 3, n)
			return err
		}},
		"one profile less": {func(im *uki.Image) { im.Profiles = im.Profiles[1:] }, func(e *uki.Edit) error { return e.RemoveProfile(1) }},
		"section of a profile": {func(im *uki.Image) { im.Profiles[0].Initrd = []osmith.Source{strings.NewReader("more")} }, func(e *uki.Edit) error {
			return e.Add(".initrd", 1, strings.NewReader("more"))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			im := rich()
			f, err := uki.Open(source(assemble(t, &im)))
			require.NoError(t, err)
			e := f.Edit()
			require.NoError(t, c.edit(e))
			got, err := e.Assemble()
			require.NoError(t, err)
			c.build(&im)
			want, err := im.Assemble()
			require.NoError(t, err)
			assert.Equal(t, want.FreeSections(), got.FreeSections())
			a, b := written(t, want), written(t, got)
			if !bytes.Equal(a, b) {
				t.Fatalf("%d bytes, built %d, first difference at %#x", len(b), len(a), firstDifference(a, b))
			}
		})
	}
}

func withoutNX() []byte {
	k := petest.Kernel("6.13.0")
	k[88+70], k[88+71] = 0, 0
	return append(k, make([]byte, 5000)...)
}

func TestEditNothing(t *testing.T) {
	im := rich()
	want := assemble(t, &im)
	f, err := uki.Open(source(want))
	require.NoError(t, err)
	a, err := f.Edit().Strip().Assemble()
	require.NoError(t, err)
	assert.Equal(t, want, written(t, a))
}

// A replacement that fits leaves all else in its place.
func TestEditInPlace(t *testing.T) {
	im := rich()
	before := assemble(t, &im)
	f, err := uki.Open(source(before))
	require.NoError(t, err)
	e := f.Edit()
	require.NoError(t, e.Replace(".osrel", -1, strings.NewReader(strings.Repeat("#", 512))))
	require.NoError(t, e.Replace(".sbat", -1, strings.NewReader("sbat,1\n")))
	a, err := e.Assemble()
	require.NoError(t, err)
	g, err := uki.Open(a)
	require.NoError(t, err)
	for i, s := range g.Sections() {
		was := f.Sections()[i]
		if s.Name == ".osrel" || s.Name == ".sbat" {
			assert.NotEqual(t, was.Size, s.Size)
			was.Size = s.Size
		}
		assert.Equal(t, was, s)
	}
	r, _ := g.Section(".sbat")
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	assert.Equal(t, "sbat,1\n", string(b))
	assert.Len(t, written(t, a), len(before))
}

func TestEditRefuses(t *testing.T) {
	text := strings.NewReader("text")
	for name, c := range map[string]struct {
		edit func(*uki.Edit) error
		text string
	}{
		"not there":       {func(e *uki.Edit) error { return e.Replace(".ucode", -1, text) }, "section .ucode: profile -1: not given"},
		"not in profile":  {func(e *uki.Edit) error { return e.Remove(".osrel", 1) }, "profile 1: not given"},
		"nil":             {func(e *uki.Edit) error { return e.Replace(".osrel", -1, nil) }, "not given"},
		"empty":           {func(e *uki.Edit) error { return e.Replace(".osrel", -1, strings.NewReader("")) }, "empty"},
		"several":         {func(e *uki.Edit) error { return e.Remove(".dtbauto", -1) }, "several"},
		"stub":            {func(e *uki.Edit) error { return e.Replace(".rodata", -1, text) }, "belongs to the stub"},
		"remove stub":     {func(e *uki.Edit) error { return e.RemoveAt(0) }, "belongs to the stub"},
		"no such":         {func(e *uki.Edit) error { return e.ReplaceAt(99, text) }, "section number 99"},
		"negative":        {func(e *uki.Edit) error { return e.RemoveAt(-1) }, "section number -1"},
		"add twice":       {func(e *uki.Edit) error { return e.Add(".cmdline", 1, text) }, "is there already"},
		"add to nothing":  {func(e *uki.Edit) error { return e.Add(".cmdline", 3, text) }, "profile 3: the image has 3"},
		"long name":       {func(e *uki.Edit) error { return e.Add(".cmdlines", 1, text) }, "1 to 8 characters"},
		"add profile":     {func(e *uki.Edit) error { return e.Add(".profile", 1, text) }, "see AddProfile"},
		"remove profile":  {func(e *uki.Edit) error { return e.Remove(".profile", 1) }, "begins profile 1"},
		"no profile":      {func(e *uki.Edit) error { return e.RemoveProfile(3) }, "the image has 3"},
		"profile of none": {func(e *uki.Edit) error { _, err := e.AddProfile(nil); return err }, "not given"},
		"bad profile": {func(e *uki.Edit) error {
			_, err := e.AddProfile([]byte("ID=x"), uki.Section{Name: "", Content: text})
			return err
		}, "1 to 8"},
		"kernel":       {func(e *uki.Edit) error { return e.Replace(".linux", -1, text) }, "not a PE image"},
		"machine":      {func(e *uki.Edit) error { return e.Replace(".linux", -1, source(arm())) }, "machine type 0xaa64"},
		"no signature": {func(e *uki.Edit) error { return e.JoinPCRSignature(1, []byte("{}")) }, "section .pcrsig: profile -1: not given"},
	} {
		t.Run(name, func(t *testing.T) {
			im := rich()
			f, err := uki.Open(source(assemble(t, &im)))
			require.NoError(t, err)
			err = c.edit(f.Edit())
			require.ErrorContains(t, err, c.text)
			assert.Equal(t, 1, strings.Count(err.Error(), "uki: "), err)
		})
	}
	assemblies := map[string]struct {
		edit func(*uki.Edit) error
		text string
	}{
		"SBAT":      {func(e *uki.Edit) error { return e.Replace(".sbat", -1, strings.NewReader(strings.Repeat("x", 1025))) }, "section .sbat of the stub: needs 1025 bytes, has room for 1024"},
		"no kernel": {func(e *uki.Edit) error { return e.Remove(".linux", -1) }, "no .linux section"},
		"too many": {func(e *uki.Edit) error {
			for range 300 {
				if _, err := e.AddProfile([]byte("ID=x")); err != nil {
					return err
				}
			}
			return nil
		}, "header of the image: needs"},
	}
	for name, c := range assemblies {
		t.Run(name, func(t *testing.T) {
			im := rich()
			f, err := uki.Open(source(assemble(t, &im)))
			require.NoError(t, err)
			e := f.Edit()
			require.NoError(t, c.edit(e))
			a, err := e.Assemble()
			assert.Nil(t, a)
			require.ErrorContains(t, err, c.text)
		})
	}
}

func arm() []byte {
	k := petest.Kernel("6.13.0")
	k[64+4], k[64+5] = 0x64, 0xaa
	return k
}

func TestEditLosses(t *testing.T) {
	const signature = `{"sha256":[]}`
	build := func() *uki.File {
		im := rich()
		im.PCRSignature = []byte(signature)
		im.Profiles[0].PCRSignature = []byte(signature)
		f, err := uki.Open(source(assemble(t, &im)))
		require.NoError(t, err)
		return f
	}
	lost := func(e *uki.Edit) []uki.Loss {
		a, err := e.Assemble()
		if err == nil {
			return nil
		}
		assert.Nil(t, a)
		var l *uki.LossError
		require.ErrorAs(t, err, &l)
		assert.ErrorContains(t, err, "Edit.Lose allows that")
		return l.Losses
	}
	signatures := func(e *uki.Edit) (list []string) {
		a, err := e.Assemble()
		require.NoError(t, err)
		f, err := uki.Open(a)
		require.NoError(t, err)
		for i, s := range f.Sections() {
			if s.Name == ".pcrsig" {
				b, err := io.ReadAll(f.SectionData(i))
				require.NoError(t, err)
				list = append(list, string(b))
			}
		}
		return list
	}
	stale := []uki.Loss{uki.LossPCRSignatures}
	const blank = "{}           "

	f := build()
	e := f.Edit()
	require.NoError(t, e.Replace(".cmdline", 1, strings.NewReader("new")))
	assert.Equal(t, stale, lost(e))
	assert.Equal(t, []string{signature, blank}, signatures(e.Lose(uki.LossPCRSignatures)))

	e = f.Edit() // profile 1 has its own
	require.NoError(t, e.Replace(".cmdline", -1, strings.NewReader("new")))
	assert.Equal(t, stale, lost(e))
	assert.Equal(t, []string{blank, signature}, signatures(e.Lose(uki.LossPCRSignatures)))

	e = f.Edit() // covers both
	require.NoError(t, e.Replace(".osrel", -1, strings.NewReader("ID=new")))
	require.NoError(t, e.JoinPCRSignature(0, []byte("{1}")))
	require.NoError(t, e.JoinPCRSignature(1, []byte("{2}")))
	assert.Equal(t, []string{"{1}", "{2}"}, signatures(e))
	assert.ErrorContains(t, e.JoinPCRSignature(0, make([]byte, 513)), "section .pcrsig of profile 0: needs 513 bytes, has room for 512")

	e = f.Edit() // is not measured
	require.NoError(t, e.Add(".other", 0, strings.NewReader("new")))
	assert.Equal(t, []string{signature, signature}, signatures(e))

	e = f.Edit() // not theirs
	_, err := e.AddProfile([]byte("ID=new"))
	require.NoError(t, err)
	require.NoError(t, e.Replace(".cmdline", 2, strings.NewReader("new")))
	assert.Equal(t, []string{signature, signature}, signatures(e))
}

func TestEditTrailingData(t *testing.T) {
	im := rich()
	built := assemble(t, &im)
	with := append(bytes.Clone(built), "overlay"...)
	f, err := uki.Open(source(with))
	require.NoError(t, err)
	e := f.Edit()
	require.NoError(t, e.Replace(".cmdline", -1, strings.NewReader("qu")))
	a, err := e.Assemble()
	require.NoError(t, err)
	assert.Equal(t, "overlay", string(written(t, a)[len(built):]))
	require.NoError(t, e.Replace(".cmdline", -1, strings.NewReader(strings.Repeat("q", 600))))
	_, err = e.Assemble()
	var l *uki.LossError
	require.ErrorAs(t, err, &l)
	assert.Equal(t, []uki.Loss{uki.LossTrailingData}, l.Losses)
	a, err = e.Lose(uki.LossTrailingData).Assemble()
	require.NoError(t, err)
	p, err := pe.Parse(a, a.Size())
	require.NoError(t, err)
	assert.Equal(t, a.Size(), p.DataEnd())

	// A symbol table there is one.
	f, err = uki.Open(source(withSymbolTable(built)))
	require.NoError(t, err)
	e = f.Edit()
	require.NoError(t, e.Remove(".splash", -1))
	_, err = e.Assemble()
	require.ErrorAs(t, err, &l)
	assert.Equal(t, []uki.Loss{uki.LossSymbols}, l.Losses)
	a, err = e.Lose(uki.LossSymbols).Assemble()
	require.NoError(t, err)
	im.Splash = nil
	assert.Equal(t, assemble(t, &im), written(t, a))
}

// Add-ons and profiles are edited like images.
func TestEditAddonAndProfile(t *testing.T) {
	image := petest.Image{SizeOfHeaders: 0x400, Sections: []petest.Section{{Name: ".text", Content: []byte{0xf4}, Code: true},
		{Name: ".profile", Content: []byte("ID=x")}, {Name: ".cmdline", Content: []byte("x")}}}
	f, err := uki.OpenProfile(source(image.Bytes()))
	require.NoError(t, err)
	e := f.Edit()
	require.NoError(t, e.Replace(".cmdline", 0, strings.NewReader("longer")))
	require.NoError(t, e.Add(".osrel", 0, strings.NewReader("ID=x")))
	a, err := e.Assemble()
	require.NoError(t, err)
	f, err = uki.OpenProfile(a)
	require.NoError(t, err)
	cmdline, err := f.ProfileCmdline(0)
	require.NoError(t, err)
	assert.Equal(t, "longer", cmdline)
	_, err = a.WriteStream(io.Discard, uki.WriteOptions{})
	assert.ErrorIs(t, err, uki.ErrNotUKI)

	image.Sections = append(image.Sections[:1:1], image.Sections[2])
	f, err = uki.OpenAddon(source(image.Bytes()))
	require.NoError(t, err)
	e = f.Edit()
	require.NoError(t, e.Add(".uname", -1, strings.NewReader("6.12.0")))
	a, err = e.Assemble()
	require.NoError(t, err)
	f, err = uki.OpenAddon(a)
	require.NoError(t, err)
	assert.Equal(t, "6.12.0", f.Uname())
	require.NoError(t, e.Remove(".cmdline", -1))
	_, err = e.Assemble()
	assert.ErrorIs(t, err, uki.ErrNotAddon)
}

func TestEditSharedBytes(t *testing.T) {
	im := rich()
	b := assemble(t, &im)
	copy(row(t, b, ".uname")[20:24], row(t, b, ".osrel")[20:24])
	f, err := uki.Open(source(b))
	require.NoError(t, err)
	e := f.Edit()
	require.NoError(t, e.Replace(".osrel", -1, strings.NewReader("ID=y")))
	_, err = e.Assemble()
	assert.ErrorContains(t, err, "shares bytes of the file with section .uname")
}
