package uki_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/uki/hwid"
)

const checkKey = `-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAy0QIPbpfQvfP8Pv18h11
O/4Y3tnwX/J9wBzvKF23Cx/1aL1zJWbDQBUvPdJXbQTF3x5SaaKUNcbfcbzvWMU8
knkYIusAhu+YQlG2pIm6QtL6pb0dl9YUsyCett7Rushs38xo8NgjuzHyCj9u/n6h
C+UUQDciTv01NLnMg3x4tqboADPR0kmhPupIoKP64Oj2lbkehnG4wIG6plSKdUsE
h0AQXgq0mRTK7U/q6SwbPIz2VNHiHEk8qsMu/BCSGKYH8FTgTh3UxBKUFwC0jdzc
SfPDMRpqTbdQwRJ2K2sCf0C25+uUfhqw4w+7k3PJzcAX2sd/miwwr8lRqR9xHTYs
XQIDAQAB
-----END PUBLIC KEY-----
`

// good is an image that there is nothing to say about.
func good() uki.Image {
	im := complete()
	im.OSRelease = []byte("ID=x\nVERSION_ID=1\n")
	return im
}

func codes(list []uki.Finding) []string {
	out := []string{}
	for _, f := range list {
		code := f.Code
		switch f.Severity {
		case uki.SeverityWarning:
			code = "(" + code + ")"
		case uki.SeverityUnknown:
			code += "?"
		}
		if f.Profile > 0 {
			code += string(rune('0' + f.Profile))
		}
		out = append(out, code)
	}
	return out
}

// Findings in parentheses are warnings; a number at the end is that of a profile other than 0.
func TestCheck(t *testing.T) {
	le := binary.LittleEndian
	text := strings.NewReader
	add := func(im *uki.Image, pairs ...string) {
		for i := 0; i < len(pairs); i += 2 {
			im.Sections = append(im.Sections, uki.Section{Name: pairs[i], Content: text(pairs[i+1])})
		}
	}
	hwids, err := hwid.Encode([]hwid.Record{{Type: hwid.TypeDeviceTree, Name: "x", Match: "x,y"}})
	require.NoError(t, err)
	for name, c := range map[string]struct {
		image func(*uki.Image)
		bytes func(b []byte) []byte
		want  []string
	}{
		"nothing":    {want: []string{}},
		"no cmdline": {image: func(im *uki.Image) { im.Cmdline = "" }, want: []string{}},

		"alignment": {bytes: func(b []byte) []byte {
			r := row(t, b, ".osrel")
			le.PutUint32(r[12:], le.Uint32(r[12:])+512)
			return b
		}, want: []string{"alignment"}},
		"file alignment": {bytes: func(b []byte) []byte {
			r := row(t, b, ".linux")
			le.PutUint32(r[16:], le.Uint32(r[16:])-1)
			return b
		}, want: []string{"(trailing-data)", "(file-alignment)", "(zero-fill)"}},
		"small pages":   {bytes: func(b []byte) []byte { le.PutUint32(b[88+32:], 512); return b }, want: []string{"(section-alignment)"}},
		"size of image": {bytes: func(b []byte) []byte { le.PutUint32(b[88+56:], le.Uint32(b[88+56:])+1); return b }, want: []string{"size-of-image"}},
		"outside": {bytes: func(b []byte) []byte { le.PutUint32(row(t, b, ".text")[12:], 0x100000); return b },
			want: []string{"size-of-image", "(order)"}},
		"overlap": {bytes: func(b []byte) []byte {
			copy(row(t, b, ".text")[12:16], row(t, b, ".rodata")[12:16])
			return b
		}, want: []string{"overlap"}},
		"overlap in the file": {bytes: func(b []byte) []byte { copy(row(t, b, ".text")[20:24], row(t, b, ".rodata")[20:24]); return b },
			want: []string{"file-overlap"}},
		"writable code": {bytes: func(b []byte) []byte { row(t, b, ".text")[39] |= 0x80; return b }, want: []string{"write-execute"}},
		"trailing":      {bytes: func(b []byte) []byte { return append(b, "more"...) }, want: []string{"(trailing-data)"}},

		"executable kernel": {bytes: func(b []byte) []byte { row(t, b, ".linux")[39] |= 0x20; return b }, want: []string{"(linux-flags)"}},
		"writable kernel":   {bytes: func(b []byte) []byte { row(t, b, ".linux")[39] |= 0x80; return b }, want: []string{"(linux-flags)"}},
		"no kernel":         {bytes: func(b []byte) []byte { r := row(t, b, ".linux"); b[le.Uint32(r[20:])] = 0; return b }, want: []string{"linux-not-pe"}},
		"machine":           {bytes: func(b []byte) []byte { r := row(t, b, ".linux"); b[le.Uint32(r[20:])+64+5] = 0xaa; return b }, want: []string{"machine"}},
		"NX":                {bytes: func(b []byte) []byte { r := row(t, b, ".linux"); b[le.Uint32(r[20:])+88+71] = 0; return b }, want: []string{"nx"}},
		"another uname":     {image: func(im *uki.Image) { im.Uname = "6.12.0-other" }, want: []string{"(uname)"}},
		"SBAT of the kernel": {image: func(im *uki.Image) {
			im.Linux = source(petest.Kernel("6.12.0", petest.Section{Name: ".sbat", Content: []byte("sbat,1,x,x,1,x\nlinux,1,x,x,1,x\n")}))
		}, bytes: func(b []byte) []byte {
			r := row(t, b, ".sbat")
			copy(b[le.Uint32(r[20:]):], strings.Replace(string(b[le.Uint32(r[20:]):][:512]), "linux,1", "other,1", 1))
			return b
		}, want: []string{"(sbat-kernel)"}},

		"no os-release":      {image: func(im *uki.Image) { im.OSRelease = nil }, want: []string{"no-osrel"}},
		"bad os-release":     {image: func(im *uki.Image) { im.OSRelease = []byte("x") }, want: []string{"osrel"}},
		"nameless":           {image: func(im *uki.Image) { im.OSRelease = []byte("VERSION=1") }, want: []string{"osrel-name"}},
		"without version":    {image: func(im *uki.Image) { im.OSRelease = []byte("ID=x") }, want: []string{"(osrel-version)"}},
		"NUL in cmdline":     {image: func(im *uki.Image) { im.Cmdline = ""; add(im, ".cmdline", "a\x00b\x00") }, want: []string{"cmdline-nul"}},
		"NUL behind cmdline": {image: func(im *uki.Image) { im.Cmdline = ""; add(im, ".cmdline", "a b\n\x00") }, want: []string{}},
		"umlaut":             {image: func(im *uki.Image) { im.Cmdline = "größe" }, want: []string{"(cmdline-ascii)"}},
		"splash":             {image: func(im *uki.Image) { im.Splash = text("PNG") }, want: []string{"(splash)"}},
		"device trees":       {image: func(im *uki.Image) { add(im, ".dtb", "no", ".dtbauto", "no") }, want: []string{"device-tree", "device-tree", "(no-hwids)"}},
		"hardware ids":       {image: func(im *uki.Image) { add(im, ".hwids", strings.Repeat("\xff", 29), ".efifw", "no") }, want: []string{"hwids", "efifw"}},
		"firmware":           {image: func(im *uki.Image) { im.Firmware = []uki.Firmware{{ID: "x", Payload: text("x")}} }, want: []string{"no-hwids"}},
		"in another slice": {image: func(im *uki.Image) {
			add(im, ".hwids", string(hwids), ".profile", "ID=a", ".dtbauto", "no")
		}, want: []string{"device-tree", "(no-hwids)"}},
		"PCR key":          {image: func(im *uki.Image) { add(im, ".pcrpkey", "no") }, want: []string{"pcrpkey"}},
		"zeros":            {bytes: func(b []byte) []byte { le.PutUint32(row(t, b, ".uname")[8:], 513); return b }, want: []string{"(zero-fill)"}},
		"empty":            {bytes: func(b []byte) []byte { le.PutUint32(row(t, b, ".cmdline")[8:], 0); return b }, want: []string{"(empty)"}},
		"duplicate":        {bytes: func(b []byte) []byte { copy(row(t, b, ".uname"), ".cmdline"); return b }, want: []string{"duplicate"}},
		"unknown stub":     {image: func(im *uki.Image) { im.Stub = source(petest.Stub("999")) }, want: []string{"(stub-unknown)"}},
		"old stub":         {image: func(im *uki.Image) { im.Stub = source(petest.Stub("253")); add(im, ".ucode", "x") }, want: []string{"stub-too-old"}},
		"old stub, plain":  {image: func(im *uki.Image) { im.Stub = source(petest.Stub("252.39")) }, want: []string{}},
		"no SBAT":          {bytes: func(b []byte) []byte { copy(row(t, b, ".sbat"), ".other"); return b }, want: []string{"(no-sbat)"}},
		"bad SBAT":         {bytes: func(b []byte) []byte { b[le.Uint32(row(t, b, ".sbat")[20:])] = 'x'; return b }, want: []string{"sbat"}},
		"SBAT of old tool": {image: func(im *uki.Image) { add(im, ".sbatx", "sbat,1,x,x,1,x\nsystemd-stub,1,x,x,1,x\n") }, bytes: moveSBAT(t), want: []string{"(sbat-layout)"}},
		"SBAT of nobody":   {bytes: func(b []byte) []byte { r := row(t, b, ".sbat"); b[le.Uint32(r[20:])+77] = 'x'; return b }, want: []string{"(sbat-stub)"}},
		"SBAT cut short":   {bytes: inSBAT(t, ",https://uapi-group", "\nhttps://uapi-group"), want: []string{"sbat"}},
		"SBAT generation":  {bytes: inSBAT(t, "uki,1,", "uki,0,"), want: []string{"sbat"}},
		"SBAT with a NUL":  {bytes: inSBAT(t, "uki,1,UKI", "uki,1,U\x00I"), want: []string{"sbat"}},
		"SBAT umlaut":      {bytes: inSBAT(t, "uki,1,UKI", "uki,1,\xc3\xa9I"), want: []string{"(sbat-ascii)"}},
		"SBAT in padding": {bytes: func(b []byte) []byte {
			r := row(t, b, ".sbat")
			copy(b[le.Uint32(r[20:])+le.Uint32(r[8:])-1:], "\nacme\n")
			return b
		}, want: []string{"sbat"}},
		"SBAT not in the file": {bytes: func(b []byte) []byte {
			r := row(t, b, ".sbat")
			le.PutUint32(r[8:], le.Uint32(r[16:])+1)
			return b
		}, want: []string{"(zero-fill)", "sbat"}},
		"two SBATs": {image: func(im *uki.Image) { add(im, ".sbatx", "sbat,1,x,x,1,x\n") }, bytes: func(b []byte) []byte {
			copy(row(t, b, ".sbatx"), ".sbat\x00")
			return b
		}, want: []string{"duplicate", "sbat-repeated"}},
		"SBAT of a profile": {image: func(im *uki.Image) {
			im.Profiles = []uki.Profile{{Profile: []byte("ID=one"), Sections: []uki.Section{{Name: ".sbat", Content: strings.NewReader("sbat,1,x,x,1,x\n")}}}}
		}, want: []string{"sbat-repeated1"}},

		"profiles": {image: func(im *uki.Image) {
			im.Profiles = []uki.Profile{{Profile: []byte("ID=main")}, {Profile: []byte("TITLE=x")}}
		}, want: []string{"(profile-id)1", "(profile-id)2"}},
		"os-release of a profile": {image: func(im *uki.Image) {
			im.Profiles = []uki.Profile{{Profile: []byte("ID=one"), OSRelease: []byte("BUILD_ID=1")}}
		}, want: []string{"osrel-name1"}},
		"signed": {image: func(im *uki.Image) { im.PCRPublicKey = []byte(checkKey); im.PCRSignature = []byte(`{"sha256":[]}`) }, want: []string{}},
		"reserved": {image: func(im *uki.Image) { im.PCRPublicKey = []byte(checkKey); im.PCRSignatureReserve = 100 },
			want: []string{"(pcrsig-blank)"}},
		"signature without key": {image: func(im *uki.Image) { im.PCRSignature = []byte(`{"sha256":[]}`) }, want: []string{"(no-pcrpkey)"}},
		"bad signature":         {image: func(im *uki.Image) { im.PCRPublicKey = []byte(checkKey); im.PCRSignature = []byte(`[]`) }, want: []string{"pcrsig"}},
		"signature too long": {image: func(im *uki.Image) { im.PCRPublicKey = []byte(checkKey); im.PCRSignature = []byte(`{"sha256":[]}`) },
			bytes: func(b []byte) []byte { le.PutUint32(row(t, b, ".pcrsig")[8:], 513); return b }, want: []string{"(zero-fill)", "pcrsig-size"}},
		"signature in the middle": {image: func(im *uki.Image) {
			im.PCRPublicKey = []byte(checkKey)
			add(im, ".pcrsig", `{"sha256":[]}`, ".ucode", "x")
		},
			want: []string{"(pcrsig-order)"}},
		"profile without signature": {image: func(im *uki.Image) {
			im.PCRPublicKey, im.PCRSignature = []byte(checkKey), []byte(`{"sha256":[]}`)
			im.Profiles = []uki.Profile{{Profile: []byte("ID=one")}}
		}, want: []string{"(no-pcrsig)1"}},
	} {
		t.Run(name, func(t *testing.T) {
			im := good()
			if c.image != nil {
				c.image(&im)
			}
			b := assemble(t, &im)
			if c.bytes != nil {
				b = c.bytes(b)
			}
			f, err := uki.Open(source(b))
			require.NoError(t, err)
			list := f.Check()
			slices.Sort(c.want)
			got := codes(list)
			slices.Sort(got)
			assert.Equal(t, c.want, got, list)
			for _, f := range list {
				assert.NotContains(t, f.Text, "uki: ")
				assert.NotEmpty(t, f.Text)
				assert.Contains(t, f.String(), f.Code)
			}
		})
	}
}

// inSBAT changes the text of the image's .sbat.
func inSBAT(t *testing.T, old, text string) func(b []byte) []byte {
	return func(b []byte) []byte {
		r := row(t, b, ".sbat")
		at, size := binary.LittleEndian.Uint32(r[20:]), binary.LittleEndian.Uint32(r[16:])
		was := string(b[at : at+size])
		require.Contains(t, was, old)
		copy(b[at:at+size], strings.Replace(was, old, text, 1))
		return b
	}
}

// moveSBAT makes the stub's own .sbat one of another name, and the one behind it count.
func moveSBAT(t *testing.T) func(b []byte) []byte {
	return func(b []byte) []byte {
		copy(row(t, b, ".sbat"), ".other")
		copy(row(t, b, ".sbatx"), ".sbat\x00")
		return b
	}
}

func TestCheckAddon(t *testing.T) {
	im := good()
	f, err := uki.Open(source(assemble(t, &im)))
	require.NoError(t, err)
	for uname, want := range map[string][]string{"": {}, "6.12.0": {}, "6.12.1": {"addon-uname"}} {
		a := petest.Image{SizeOfHeaders: 0x400, Sections: []petest.Section{{Name: ".text", Content: []byte{0xf4}, Code: true}, {Name: ".cmdline", Content: []byte("x")}}}
		if uname != "" {
			a.Sections = append(a.Sections, petest.Section{Name: ".uname", Content: []byte(uname)})
		}
		b := a.Bytes()
		addon, err := uki.OpenAddon(source(b))
		require.NoError(t, err)
		assert.Equal(t, want, codes(f.CheckAddon(addon)))
		b[64+5] = 0xaa
		addon, err = uki.OpenAddon(source(b))
		require.NoError(t, err)
		assert.Equal(t, append(want, "machine"), codes(f.CheckAddon(addon)))
	}
}

// large claims to be of a size that no test writes.
type large struct {
	osmith.Source
	size int64
}

func (l large) Size() int64 { return l.size }

func TestCheckSize(t *testing.T) {
	im := good()
	b := assemble(t, &im)
	for size, want := range map[int64]string{3 << 30: "(too-large)", 5 << 30: "too-large"} {
		f, err := uki.Open(large{source(b), size})
		require.NoError(t, err)
		assert.Equal(t, []string{want, "(trailing-data)"}, codes(f.Check()))
	}
}

// breaking can be read until it is broken.
type breaking struct {
	osmith.Source
	broken bool
}

func (b *breaking) ReadAt(p []byte, off int64) (int, error) {
	if b.broken {
		return 0, errors.New("broken")
	}
	return b.Source.ReadAt(p, off)
}

func TestCheckOfWhatCannotBeRead(t *testing.T) {
	im := good()
	im.Splash = strings.NewReader("BM")
	src := &breaking{Source: source(assemble(t, &im))}
	f, err := uki.Open(src)
	require.NoError(t, err)
	src.broken = true
	assert.Equal(t, []string{"unreadable", "unreadable", "unreadable", "linux-not-pe", "unreadable"}, codes(f.Check()))
	assert.Contains(t, f.Check()[0].Text, "broken")
	_, err = f.Measurements()
	assert.ErrorContains(t, err, "broken")
	e := f.Edit()
	require.NoError(t, e.Remove(".splash", 0))
	_, err = e.Assemble()
	assert.ErrorContains(t, err, "broken")
}

func TestCheckManyProfiles(t *testing.T) {
	im := petest.Image{SizeOfHeaders: 0x4000, Sections: []petest.Section{{Name: ".text", Content: []byte{0xf4}, Code: true},
		{Name: ".sdmagic", Content: []byte("#### LoaderInfo: systemd-stub 262 ####")}}}
	for range 257 {
		im.Sections = append(im.Sections, petest.Section{Name: ".profile", Content: []byte("TITLE=x")})
	}
	im.Sections = append(im.Sections, petest.Section{Name: ".linux", Content: petest.Kernel("6.12.0")})
	f, err := uki.Open(source(im.Bytes()))
	require.NoError(t, err)
	list := codes(f.Check())
	assert.Contains(t, list, "too-many-profiles")
	assert.Contains(t, list, "no-linux")
	assert.Contains(t, list, "no-osrel")
	assert.Contains(t, list, "(profile-id)")
}
