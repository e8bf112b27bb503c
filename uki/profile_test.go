package uki_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/uki/hwid"
)

const publicKey = `-----BEGIN PUBLIC KEY-----
MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBALtUlNS31SzxwqMzMR9jKOJYDhHj8zZt
LUYHi3s1pzGT7cVjiaUaymCXHhMZFL8W4W/fI0YjDOM5xkBQmuSLLn0CAwEAAQ==
-----END PUBLIC KEY-----
`

// everything is a profile with all that one can have.
func everything() uki.Profile {
	return uki.Profile{
		Profile: []byte("ID=all\nTITLE=All\n"), OSRelease: []byte("ID=other\n"), Cmdline: "debug", DeviceTree: source(deviceTree("a", 1)),
		DeviceTreeAuto: []osmith.Source{source(deviceTree("b", 2)), source(deviceTree("c", 3))},
		HWIDs:          []hwid.Record{{Type: hwid.TypeDeviceTree, Name: "Acme", Match: "b"}},
		Uname:          "6.13.0", Splash: strings.NewReader("BM"), PCRPublicKey: []byte(publicKey), Linux: source(petest.Kernel("6.13.0")),
		Initrd: []osmith.Source{strings.NewReader("i")}, Firmware: []uki.Firmware{{ID: "fw", Payload: strings.NewReader("x")}},
		Microcode: strings.NewReader("u"), PCRSignature: []byte("{}"),
		Sections: []uki.Section{{Name: ".extra", Content: strings.NewReader("e")}, {Name: ".empty", Content: strings.NewReader("")},
			{Name: ".sbat", Content: strings.NewReader("sbat,1\n")}},
	}
}

// All that a profile holds goes into an image and comes out again.
func TestProfileOf(t *testing.T) {
	im := complete()
	im.Profile = []byte("ID=main\n")
	im.Profiles = []uki.Profile{everything(), {Profile: []byte("ID=plain")}}
	b := assemble(t, &im)
	f, err := uki.Open(source(b))
	require.NoError(t, err)
	for n := range 3 {
		p, err := uki.ProfileOf(f, n)
		require.NoError(t, err)
		again := complete()
		again.Profile = []byte("ID=main\n")
		again.Profiles = []uki.Profile{p}
		joined := sectionDigests(t, assemble(t, &again))
		count := 0
		for name, digest := range sectionDigests(t, b) {
			if own, ok := strings.CutPrefix(name, fmt.Sprint(n, ".")); ok {
				assert.Equal(t, digest, joined["1."+own], name)
				count++
			}
		}
		assert.Equal(t, []int{1, 17, 1}[n], count)
	}
	p, err := uki.ProfileOf(f, 1)
	require.NoError(t, err)
	assert.Equal(t, "debug", p.Cmdline)
	assert.Len(t, p.Sections, 3)
	assert.Len(t, p.DeviceTreeAuto, 2)
	im.Profiles[0] = p
	assert.True(t, bytes.Equal(b, assemble(t, &im)))

	for _, n := range []int{-1, 3} {
		_, err = uki.ProfileOf(f, n)
		assert.ErrorContains(t, err, "the image has 3")
	}
	plain := complete()
	f, err = uki.Open(source(assemble(t, &plain)))
	require.NoError(t, err)
	_, err = uki.ProfileOf(f, 0)
	assert.ErrorContains(t, err, "the image has 0")
	_, err = uki.OpenProfile(source(assemble(t, &plain)))
	assert.ErrorIs(t, err, uki.ErrNotProfile)
}

// What no field can hold is kept as it is.
func TestProfileOfKeepsOddSections(t *testing.T) {
	odd := map[string]string{
		".cmdline": "a\x00b", ".pcrpkey": "no key", ".hwids": "no table", ".efifw": "no firmware", ".osrel": "",
	}
	p := uki.Profile{Profile: []byte("ID=odd\x00")}
	for _, name := range []string{".cmdline", ".pcrpkey", ".hwids", ".efifw", ".osrel"} {
		p.Sections = append(p.Sections, uki.Section{Name: name, Content: strings.NewReader(odd[name])})
	}
	a, err := p.Assemble(source(petest.Stub("262")))
	require.NoError(t, err)
	again := openProfileOf(t, written(t, a), 0)
	assert.Equal(t, p.Profile, again.Profile)
	require.Len(t, again.Sections, len(odd))
	for _, s := range again.Sections {
		b, err := io.ReadAll(io.NewSectionReader(s.Content, 0, s.Content.Size()))
		require.NoError(t, err)
		assert.Equal(t, odd[s.Name], string(b), s.Name)
	}
}

func TestProfileOfRefuses(t *testing.T) {
	profile := func(more ...petest.Section) *uki.File {
		im := petest.Image{SizeOfHeaders: 1024, Sections: append([]petest.Section{{Name: ".text", Content: []byte{0xf4}}, {Name: ".profile", Content: []byte("ID=x")}}, more...)}
		f, err := uki.OpenProfile(source(im.Bytes()))
		require.NoError(t, err)
		return f
	}
	cmdline := petest.Section{Name: ".cmdline", Content: []byte("a")}
	for text, f := range map[string]*uki.File{
		"profile 0 has two": profile(cmdline, cmdline),
		"limit":             profile(petest.Section{Name: ".pcrsig", Content: make([]byte, 2<<20)}),
	} {
		_, err := uki.ProfileOf(f, 0)
		var fe *osmith.FormatError
		require.ErrorAs(t, err, &fe)
		assert.Contains(t, err.Error(), text)
	}
}

func TestBadProfiles(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*uki.Image)
		part   string
		text   string
	}{
		"no text": {func(im *uki.Image) { im.Profiles = []uki.Profile{{Cmdline: "a"}} }, "Profiles[0].Profile", "not given"},
		"nested": {func(im *uki.Image) {
			im.Profiles = []uki.Profile{{Profile: []byte("ID=a"), Sections: section(".profile")}}
		}, "Profiles[0].Sections", "a .profile section would begin a new profile"},
		"NUL":    {func(im *uki.Image) { im.Profiles = []uki.Profile{{Profile: []byte("ID=a"), Cmdline: "\x00"}} }, "Profiles[0].Cmdline", "NUL"},
		"no key": {func(im *uki.Image) { im.Profiles = []uki.Profile{{Profile: []byte("ID=a"), PCRPublicKey: []byte("x")}} }, "Profiles[0].PCRPublicKey", "PEM"},
		"twice": {func(im *uki.Image) {
			im.Profiles = []uki.Profile{{Profile: []byte("ID=a"), Cmdline: "x", Sections: section(".cmdline")}}
		}, "Sections", ".cmdline is given twice"},
		"text as kernel": {func(im *uki.Image) {
			im.Profiles = []uki.Profile{{Profile: []byte("ID=a"), Linux: strings.NewReader("x")}}
		}, "Profiles[0].Linux", "not a PE"},
		"no uname": {func(im *uki.Image) {
			im.AllowKernelThatTheStubRefuses = true
			im.Profiles = []uki.Profile{{Profile: []byte("ID=a"), Linux: source(petest.Stub("1"))}}
		}, "Profiles[0].Linux", "version not found"},
		"two unames": {func(im *uki.Image) {
			im.Profiles = []uki.Profile{{Profile: []byte("ID=a"), Uname: "x", OmitUname: true}}
		}, "Profiles[0].Uname", "OmitUname"},
		"nil tree":         {func(im *uki.Image) { im.DeviceTreeAuto = []osmith.Source{nil} }, "DeviceTreeAuto[0]", "not given"},
		"nil firmware":     {func(im *uki.Image) { im.Firmware = []uki.Firmware{{ID: "x"}} }, "Firmware[0]", "not given"},
		"bad id":           {func(im *uki.Image) { im.HWIDs = []hwid.Record{{Type: 9}} }, "HWIDs", ""},
		"both ways":        {func(im *uki.Image) { im.Profile, im.Sections = []byte("ID=a"), section(".profile") }, "Profile", "Profile and Sections both have a .profile"},
		"too many":         {func(im *uki.Image) { im.Profiles = make([]uki.Profile, 256) }, "Profiles", "257 profiles"},
		"negative reserve": {func(im *uki.Image) { im.PCRSignatureReserve = -1 }, "PCRSignatureReserve", "want 0"},
	} {
		t.Run(name, func(t *testing.T) {
			im := complete()
			c.change(&im)
			a, err := im.Assemble()
			require.Nil(t, a)
			var p *uki.PartError
			require.ErrorAs(t, err, &p)
			assert.Equal(t, c.part, p.Part)
			assert.Contains(t, err.Error(), c.text)
			assert.Equal(t, 1, strings.Count(err.Error(), "uki: "), err)
		})
	}
	p := uki.Profile{Profile: []byte("ID=x")}
	for stub, is := range map[osmith.Source]error{nil: uki.ErrMissing, strings.NewReader("x"): uki.ErrNotPE} {
		a, err := p.Assemble(stub)
		assert.Nil(t, a)
		assert.ErrorIs(t, err, is)
	}
}

func section(name string) []uki.Section {
	return []uki.Section{{Name: name, Content: strings.NewReader("x")}}
}

func TestPCRSignatureReserve(t *testing.T) {
	im := complete()
	im.PCRSignatureReserve = 20
	for signature, want := range map[string]string{"": "{}", `{"sha256":[]}`: `{"sha256":[]}`} {
		im.PCRSignature = []byte(signature)
		f, err := uki.Open(source(assemble(t, &im)))
		require.NoError(t, err)
		s, ok := f.Section(".pcrsig")
		require.True(t, ok)
		b, err := io.ReadAll(s)
		require.NoError(t, err)
		assert.Equal(t, want+strings.Repeat(" ", 20-len(want)), string(b))
	}
	im.PCRSignature = bytes.Repeat([]byte(" "), 21)
	_, err := im.Assemble()
	var full *uki.SpaceError
	require.ErrorAs(t, err, &full)
	assert.Equal(t, uki.SpaceError{What: "PCRSignature", Need: 21, Have: 20}, *full)
}

// The kernels of all profiles count for what the image promises and what revokes it.
func TestKernelsOfProfiles(t *testing.T) {
	lines := "sbat,1,SBAT Version,sbat,1,https://example.org\nlinux,1,both,x,1,x\n"
	im := complete()
	im.Linux = source(petest.Kernel("6.12.0", petest.Section{Name: ".sbat", Content: []byte(lines)}))
	other := petest.Kernel("6.13.0", petest.Section{Name: ".sbat", Content: []byte(lines + "linux.acme,2,other,x,1,x\n")})
	im.Profiles = []uki.Profile{{Profile: []byte("ID=x"), Linux: source(other)}}
	nx := func() bool {
		b := assemble(t, &im)
		f, err := pe.Parse(source(b), int64(len(b)))
		require.NoError(t, err)
		return f.DllCharacteristics&pe.DllNXCompat != 0
	}
	assert.True(t, nx())
	f, err := uki.Open(source(assemble(t, &im)))
	require.NoError(t, err)
	s, _ := f.Section(".sbat")
	b, err := io.ReadAll(s)
	require.NoError(t, err)
	assert.Equal(t, 1, strings.Count(string(b), "linux,1,both,x,1,x\n"))
	assert.Equal(t, 1, strings.Count(string(b), "linux.acme,2,other,x,1,x\n"))
	other[88+70], other[88+71] = 0, 0 // DllCharacteristics of the optional header at 88
	assert.False(t, nx())
}
