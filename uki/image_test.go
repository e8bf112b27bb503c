package uki_test

import (
	"bytes"
	"crypto"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/uki"
)

func source(b []byte) osmith.Source { return bytes.NewReader(b) }

func complete() uki.Image {
	return uki.Image{Stub: source(petest.Stub("262-1")), Linux: source(petest.Kernel("6.12.0")), OSRelease: []byte("ID=x\n"), Cmdline: "ro"}
}

func TestBadParts(t *testing.T) {
	signed := petest.Stub("262-1")
	// Certificate directory: entry 4 of the data directories, which begin at 112 of the optional
	// header at 88.
	signed[88+112+4*8] = byte(len(signed) & 0xff)
	signed[88+112+4*8+1] = byte(len(signed) >> 8)
	signed[88+112+4*8+4] = 8
	signed = append(signed, make([]byte, 8)...)

	arm := petest.Kernel("6.12.0")
	arm[64+4], arm[64+5] = 0x64, 0xaa

	small := petest.Image{SizeOfHeaders: 512, Sections: []petest.Section{{Name: ".text", Content: []byte{0xf4}, Code: true}}}.Bytes()

	for name, c := range map[string]struct {
		change func(*uki.Image)
		part   string
		is     error
		text   string
	}{
		"no stub":               {func(im *uki.Image) { im.Stub = nil }, "Stub", uki.ErrMissing, "uki: Stub: not given"},
		"no kernel":             {func(im *uki.Image) { im.Linux = nil }, "Linux", uki.ErrMissing, "uki: Linux: not given"},
		"text as kernel":        {func(im *uki.Image) { im.Linux = strings.NewReader("kernel") }, "Linux", uki.ErrNotPE, "uki: Linux: not a PE image"},
		"gzip as kernel":        {func(im *uki.Image) { im.Linux = source(append([]byte{0x1f, 0x8b}, make([]byte, 200)...)) }, "Linux", uki.ErrNotPE, "not a PE"},
		"text as stub":          {func(im *uki.Image) { im.Stub = strings.NewReader("stub") }, "Stub", uki.ErrNotPE, "not a PE"},
		"cut stub":              {func(im *uki.Image) { im.Stub = source(petest.Stub("262")[:9000]) }, "Stub", nil, "section .rodata"},
		"signed stub":           {func(im *uki.Image) { im.Stub = source(signed) }, "Stub", uki.ErrSigned, "signature"},
		"loader as stub":        {func(im *uki.Image) { im.Stub = source(petest.Loader("262")) }, "Stub", uki.ErrNotStub, ".osrel"},
		"addon's stub":          {func(im *uki.Image) { im.Stub = source(petest.AddonStub("262-1")) }, "Stub", uki.ErrNotStub, "uki: Stub: not an EFI stub: got systemd-addon, want systemd-stub"},
		"image as stub":         {func(im *uki.Image) { b := complete(); im.Stub = source(assemble(t, &b)) }, "Stub", uki.ErrNotStub, ".osrel"},
		"architecture":          {func(im *uki.Image) { im.Linux = source(arm) }, "Linux", nil, "machine type 0xaa64, the stub's is 0x8664"},
		"no uname":              {func(im *uki.Image) { im.Linux, im.AllowKernelThatTheStubRefuses = source(petest.Stub("1")), true }, "Linux", uki.ErrUnknownUname, "HdrS"},
		"two unames":            {func(im *uki.Image) { im.Uname, im.OmitUname = "x", true }, "Uname", nil, "OmitUname"},
		"NUL in cmdline":        {func(im *uki.Image) { im.Cmdline = "a\x00b" }, "Cmdline", nil, "NUL"},
		"nil initrd":            {func(im *uki.Image) { im.Initrd = []osmith.Source{source(nil), nil} }, "Initrd[1]", uki.ErrMissing, ""},
		"DER key":               {func(im *uki.Image) { im.PCRPublicKey = []byte{0x30, 0x82} }, "PCRPublicKey", nil, "PEM"},
		"SBAT generation 0":     {func(im *uki.Image) { im.SBAT = []byte("acme,0,Acme,acme,1,x") }, "SBAT", nil, "want a number from 1 to 65535"},
		"SBAT generation 65536": {func(im *uki.Image) { im.SBAT = []byte("acme,65536,Acme,acme,1,x") }, "SBAT", nil, "want a number from 1 to 65535"},
		"SBAT generation -1":    {func(im *uki.Image) { im.SBAT = []byte("acme,-1,Acme,acme,1,x") }, "SBAT", nil, "want a number from 1 to 65535"},
		"SBAT of five columns":  {func(im *uki.Image) { im.SBAT = []byte("acme,1,Acme,acme,1") }, "SBAT", nil, "has 5 columns, want 6"},
		"SBAT not ASCII":        {func(im *uki.Image) { im.SBAT = []byte("acme,1,\xc3\x84cme,acme,1,x") }, "SBAT", nil, "is not ASCII"},
		"SBAT of the kernel": {func(im *uki.Image) {
			im.Linux = source(petest.Kernel("6.12.0", petest.Section{Name: ".sbat", Content: []byte("sbat,1,x,x,1,x\nlinux,1\n")}))
		}, "Linux", nil, "has 2 columns, want 6"},
		"SBAT of the stub": {func(im *uki.Image) {
			im.Stub = source(bytes.Replace(petest.Stub("262-1"), []byte("systemd-stub,1,"), []byte("systemd-stub,0,"), 1))
		}, "Stub", nil, "want a number from 1 to 65535"},
		"binary SBAT": {func(im *uki.Image) { im.SBAT = []byte("a,1,b\x01,c,d,e") }, "SBAT", nil, "byte 0x01 in column 3"},
		"twice":       {func(im *uki.Image) { im.Sections = []uki.Section{{Name: ".osrel", Content: source(nil)}} }, "Sections", nil, ".osrel is given twice"},
		"stub's own":  {func(im *uki.Image) { im.Sections = []uki.Section{{Name: ".text", Content: source(nil)}} }, "Sections", nil, "the stub already has a section "},
		"long name":   {func(im *uki.Image) { im.Sections = []uki.Section{{Name: ".ninebyte", Content: source(nil)}} }, "Sections", nil, "1 to 8"},
		"nil content": {func(im *uki.Image) { im.Sections = []uki.Section{{Name: ".x"}} }, "Sections[0]", uki.ErrMissing, ""},
	} {
		t.Run(name, func(t *testing.T) {
			im := complete()
			c.change(&im)
			a, err := im.Assemble()
			require.Nil(t, a)
			var p *uki.PartError
			require.ErrorAs(t, err, &p)
			assert.Equal(t, c.part, p.Part)
			if c.is != nil {
				assert.ErrorIs(t, err, c.is)
			}
			assert.Contains(t, err.Error(), c.text)
			assert.Equal(t, 1, strings.Count(err.Error(), "uki: "), err)
			ms, err := im.Measurements()
			assert.Error(t, err)
			assert.Nil(t, ms)
		})
	}

	t.Run("no header room", func(t *testing.T) {
		im := complete()
		im.Stub = source(small)
		_, err := im.Assemble()
		var s *uki.SpaceError
		require.ErrorAs(t, err, &s)
		assert.Equal(t, int64(512), s.Have)
		assert.Equal(t, int64(328+6*40), s.Need)
	})
	t.Run("no SBAT room", func(t *testing.T) {
		im := complete()
		im.SBAT = []byte(strings.Repeat("x,1,x,x,1,x\n", 80))
		_, err := im.Assemble()
		var s *uki.SpaceError
		require.ErrorAs(t, err, &s)
		assert.Equal(t, "section .sbat of the stub, which leaves 883 bytes to SBAT beside the lines of stub and kernels", s.What)
		assert.Equal(t, int64(1024), s.Have)
	})
}

func TestUnknownStub(t *testing.T) {
	for version, ok := range map[string]bool{"262-1": true, "252.39-1~deb12u2": true, "263~rc1": false, "x": false} {
		im := complete()
		im.Stub = source(petest.Stub(version))
		_, err := im.Measurements()
		if ok {
			assert.NoError(t, err, version)
			continue
		}
		assert.ErrorIs(t, err, uki.ErrUnknownStub, version)
		im.AssumeStub = 262
		_, err = im.Measurements()
		assert.NoError(t, err, version)
	}
}

func TestOldStubsMeasureLess(t *testing.T) {
	names := func(version string) (list []string) {
		im := complete()
		im.Stub = source(petest.Stub(version))
		im.Sections = []uki.Section{{Name: ".ucode", Content: strings.NewReader("u")}}
		ms, err := im.Measurements()
		require.NoError(t, err)
		for _, m := range ms {
			list = append(list, m.Section)
		}
		return list
	}
	assert.Equal(t, []string{".linux", ".osrel", ".cmdline"}, names("253.1"))
	assert.Equal(t, []string{".linux", ".osrel", ".cmdline", ".uname", ".sbat"}, names("255"))
	assert.Equal(t, []string{".linux", ".osrel", ".cmdline", ".ucode", ".uname", ".sbat"}, names("256"))
}

func TestHardwareDependentSections(t *testing.T) {
	im := complete()
	im.Sections = []uki.Section{{Name: ".dtbauto", Content: strings.NewReader("1")}, {Name: ".dtbauto", Content: strings.NewReader("2")}}
	_, err := im.Measurements()
	assert.ErrorIs(t, err, uki.ErrHardwareDependent)
	f, err := uki.Open(source(assemble(t, &im)))
	require.NoError(t, err)
	_, err = f.Measurements()
	assert.ErrorIs(t, err, uki.ErrHardwareDependent)
}

func TestMeasurementsDoNotDependOnTheSignature(t *testing.T) {
	im := complete()
	before, err := im.Measurements(crypto.SHA1, crypto.SHA512)
	require.NoError(t, err)
	im.PCRSignature = []byte(`{"sha256":[]}`)
	after, err := im.Measurements(crypto.SHA1, crypto.SHA512)
	require.NoError(t, err)
	assert.Equal(t, before, after)
	f, err := uki.Open(source(assemble(t, &im)))
	require.NoError(t, err)
	opened, err := f.Measurements(crypto.SHA1, crypto.SHA512)
	require.NoError(t, err)
	assert.Equal(t, before, opened)
	s, ok := f.Section(".pcrsig")
	require.True(t, ok)
	b, err := io.ReadAll(s)
	require.NoError(t, err)
	assert.Equal(t, im.PCRSignature, b)
}

func TestNXFlagFollowsTheKernel(t *testing.T) {
	for _, nx := range []bool{true, false} {
		k := petest.Kernel("6.12.0")
		if !nx {
			k[88+71] = 0
		}
		im := complete()
		im.Linux = source(k)
		b := assemble(t, &im)
		f, err := pe.Parse(source(b), int64(len(b)))
		require.NoError(t, err)
		assert.Equal(t, nx, f.DllCharacteristics&pe.DllNXCompat != 0)
	}
}

func TestAssembledReadsAnywhere(t *testing.T) {
	im := complete()
	im.Initrd = []osmith.Source{strings.NewReader("a"), strings.NewReader("bcdef"), strings.NewReader("")}
	want := assemble(t, &im)
	a, err := im.Assemble()
	require.NoError(t, err)
	require.NoError(t, iotest.TestReader(io.NewSectionReader(a, 0, a.Size()), want))
	for _, off := range []int64{0, 1, 63, 8191, 8192, 8193, int64(len(want)) - 1} {
		b := make([]byte, 3000)
		n, err := a.ReadAt(b, off)
		if err != nil {
			require.ErrorIs(t, err, io.EOF)
		}
		require.Equal(t, want[off:off+int64(n)], b[:n])
	}
	f, err := uki.Open(a)
	require.NoError(t, err)
	s, _ := f.Section(".initrd")
	b, err := io.ReadAll(s)
	require.NoError(t, err)
	assert.Equal(t, "a\x00\x00\x00bcdef\x00\x00\x00", string(b))
}

// shrunk claims more bytes than it has.
type shrunk struct{ *strings.Reader }

func (s shrunk) Size() int64 { return s.Reader.Size() + 10 }

func TestSourceThatEndsEarly(t *testing.T) {
	im := complete()
	im.Initrd = []osmith.Source{shrunk{strings.NewReader("initrd")}}
	a, err := im.Assemble()
	require.NoError(t, err)
	_, err = a.WriteTo(io.Discard)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	assert.Contains(t, err.Error(), "reading .initrd at 6 of 16 bytes")
	_, err = im.Measurements()
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)

	im = complete()
	a, err = im.Assemble()
	require.NoError(t, err)
	full := errors.New("full")
	_, err = a.WriteTo(failing{full})
	require.ErrorIs(t, err, full)
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestSymbolTableIsCutOff(t *testing.T) {
	im := complete()
	want := assemble(t, &im)
	im.Stub = source(withSymbolTable(petest.Stub("262-1")))
	assert.Equal(t, want, assemble(t, &im))

	// Not at the end of the file: it stays, and sections follow at the next boundary.
	im.Stub = source(append(withSymbolTable(petest.Stub("262-1")), "more"...))
	kept := assemble(t, &im)
	f, err := pe.Parse(source(kept), int64(len(kept)))
	require.NoError(t, err)
	assert.EqualValues(t, len(petest.Stub("262-1")), f.SymbolTable)
	assert.Len(t, kept, len(want)+512)
}

func TestSBATIsMerged(t *testing.T) {
	const header = "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n"
	sbat := func(im *uki.Image) string {
		f, err := uki.Open(source(assemble(t, im)))
		require.NoError(t, err)
		s, _ := f.Section(".sbat")
		b, err := io.ReadAll(s)
		require.NoError(t, err)
		return string(b)
	}
	im := complete()
	stub := "systemd-stub,1,osmith stand-in,systemd,262-1,https://systemd.io/\n"
	assert.Equal(t, header+stub+"uki,1,UKI,uki,1,https://uapi-group.org/specifications/specs/unified_kernel_image/\n", sbat(&im))
	im.SBAT = []byte("ours,1,a,b,1,c\r\n\ntwo,2,a,b,1,c")
	im.Linux = source(petest.Kernel("6.12.0", petest.Section{Name: ".sbat", Content: []byte("sbat,1,other header,b,1,c\nlinux,1,a,b,1,c\n\x00\x00")}))
	assert.Equal(t, header+stub+"linux,1,a,b,1,c\nours,1,a,b,1,c\ntwo,2,a,b,1,c\n", sbat(&im))
	im.Linux = source(petest.Kernel("6.12.0", petest.Section{Name: ".sbat", Content: []byte("linux,1,a,b,1,c\n")}))
	_, err := im.Assemble()
	assert.ErrorContains(t, err, "uki: Linux: SBAT begins with")
	im.Linux = source(petest.Kernel("6.12.0", petest.Section{Name: ".sbat", Content: make([]byte, 70000)}))
	_, err = im.Assemble()
	assert.ErrorContains(t, err, "limit")
}
