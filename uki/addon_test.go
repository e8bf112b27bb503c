package uki_test

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/uki"
)

func TestBadAddons(t *testing.T) {
	for name, c := range map[string]struct {
		addon uki.Addon
		part  string
		is    error
		text  string
	}{
		"no stub":        {uki.Addon{Cmdline: "x"}, "Stub", uki.ErrMissing, ""},
		"text as stub":   {uki.Addon{Stub: strings.NewReader("x"), Cmdline: "x"}, "Stub", uki.ErrNotPE, ""},
		"stub of images": {uki.Addon{Stub: source(petest.Stub("262-1")), Cmdline: "x"}, "Stub", uki.ErrNotStub, "uki: Stub: not an EFI stub: got systemd-stub, want systemd-addon"},
		"nothing":        {uki.Addon{Stub: source(petest.AddonStub("262-1")), Uname: "x"}, "Addon", uki.ErrMissing, "none of the sections that a stub applies"},
		"empty initrd":   {uki.Addon{Stub: source(petest.AddonStub("262-1")), Initrd: []osmith.Source{strings.NewReader("")}}, "Addon", uki.ErrMissing, ""},
		"kernel":         {uki.Addon{Stub: source(petest.AddonStub("262-1")), Cmdline: "x", Sections: section(".linux")}, "Sections", nil, ".linux"},
		"profile":        {uki.Addon{Stub: source(petest.AddonStub("262-1")), Cmdline: "x", Sections: section(".profile")}, "Sections", nil, "profiles"},
		"NUL":            {uki.Addon{Stub: source(petest.AddonStub("262-1")), Cmdline: "x\x00"}, "Cmdline", nil, "NUL"},
		"SBAT":           {uki.Addon{Stub: source(petest.AddonStub("262-1")), Cmdline: "x", SBAT: []byte("a,1,\xff,b,1,c")}, "SBAT", nil, "ASCII"},
		"twice":          {uki.Addon{Stub: source(petest.AddonStub("262-1")), Cmdline: "x", Sections: section(".cmdline")}, "Sections", nil, "twice"},
		"nil tree":       {uki.Addon{Stub: source(petest.AddonStub("262-1")), DeviceTreeAuto: []osmith.Source{nil}}, "DeviceTreeAuto[0]", uki.ErrMissing, ""},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := c.addon.Assemble()
			require.Nil(t, a)
			var p *uki.PartError
			require.ErrorAs(t, err, &p)
			assert.Equal(t, c.part, p.Part)
			if c.is != nil {
				assert.ErrorIs(t, err, c.is)
			}
			assert.Contains(t, err.Error(), c.text)
		})
	}
}

// FreeSections is what can still be added, and the error for one more says how many fit.
func TestFreeSections(t *testing.T) {
	a := uki.Addon{Stub: source(petest.AddonStub("262-1")), Cmdline: "x"}
	out, err := a.Assemble()
	require.NoError(t, err)
	free := out.FreeSections()
	// Section table at 64+24+240, behind it 1024-328 bytes for headers of 40, of which four are
	// taken.
	require.Equal(t, (1024-328)/40-4, free)
	more := func(n int) {
		a.Sections = nil
		for i := range n {
			a.Sections = append(a.Sections, uki.Section{Name: "." + string(rune('a'+i)), Content: strings.NewReader("")})
		}
	}
	more(free)
	out, err = a.Assemble()
	require.NoError(t, err)
	assert.Zero(t, out.FreeSections())
	more(free + 3)
	_, err = a.Assemble()
	var full *uki.SpaceError
	require.ErrorAs(t, err, &full)
	assert.EqualValues(t, 1024, full.Have)
	assert.EqualError(t, err, "uki: header of the stub with 18 more sections, of which 15 fit: needs 1128 bytes, has room for 1024")
}

// huge is a source of zeros of any size.
type huge int64

func (h huge) Size() int64 { return int64(h) }
func (h huge) ReadAt(b []byte, _ int64) (int, error) {
	clear(b)
	return len(b), nil
}

func TestFourGigabytes(t *testing.T) {
	for what, change := range map[string]func(*uki.Image){
		"image, at section .initrd": func(im *uki.Image) { im.Initrd = []osmith.Source{huge(4<<30 - 1<<13)} },
		"image, at section .ucode":  func(im *uki.Image) { im.Microcode = huge(1 << 40) },
		"image, at section .b": func(im *uki.Image) {
			im.Sections = []uki.Section{{Name: ".a", Content: huge(2 << 30)}, {Name: ".b", Content: huge(2 << 30)}}
		},
	} {
		im := complete()
		change(&im)
		a, err := im.Assemble()
		assert.Nil(t, a)
		var full *uki.SpaceError
		require.ErrorAs(t, err, &full)
		assert.Equal(t, what, full.What)
	}
	im := complete()
	im.Initrd = []osmith.Source{huge(4<<30 - 1<<20)}
	a, err := im.Assemble()
	require.NoError(t, err)
	assert.Greater(t, a.Size(), int64(4<<30-1<<20))
	stub := petest.Stub("262-1")
	binary.LittleEndian.PutUint32(stub[88+8:], 0xffffff00) // SizeOfInitializedData
	im = complete()
	im.Stub = source(stub)
	_, err = im.Assemble()
	assert.ErrorContains(t, err, "SizeOfInitializedData")
}
