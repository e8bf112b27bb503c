package uki_test

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/uki"
)

// pick is an image in which stubs pick by hardware: two device trees and a firmware that all
// profiles share, another tree of profile 1 only, and a profile 2 with a .dtb of its own.
func pick(stub string) []byte {
	im := petest.Image{SizeOfHeaders: 0x1000}
	add := func(name, content string) {
		im.Sections = append(im.Sections, petest.Section{Name: name, Content: []byte(content)})
	}
	im.Sections = append(im.Sections, petest.Section{Name: ".text", Content: []byte{0xf4}, Code: true})
	add(".sdmagic", "#### LoaderInfo: systemd-stub "+stub+" ####")
	add(".linux", "kernel")
	add(".osrel", "ID=x\n")
	add(".dtb", "plain")
	add(".dtbauto", "first")
	add(".dtbauto", "second.")
	add(".dtbauto", "")
	add(".efifw", "fw")
	add(".profile", "ID=main\n")
	add(".pcrsig", "{}")
	add(".profile", "ID=one\n")
	add(".dtbauto", "one's own")
	add(".cmdline", "debug")
	add(".profile", "ID=two\n")
	add(".dtb", "of profile two")
	return im.Bytes()
}

func text(ms []osmith.Measurement) string {
	var b strings.Builder
	for _, m := range ms {
		fmt.Fprintf(&b, "%s%d ", m.Section[1:], m.Size)
	}
	return strings.TrimSpace(b.String())
}

func TestVariants(t *testing.T) {
	f, err := uki.Open(source(pick("262")))
	require.NoError(t, err)
	vs, err := f.Variants()
	require.NoError(t, err)
	var want []uki.Variant
	for p, trees := range []int{2, 3, 2} {
		for d := range trees + 1 {
			for w := range 2 {
				want = append(want, uki.Variant{Profile: p, DeviceTree: d, Firmware: w})
			}
		}
	}
	assert.Equal(t, want, vs)

	ms, err := f.MeasureVariants(crypto.SHA1, crypto.SHA256, crypto.SHA256)
	require.NoError(t, err)
	require.Len(t, ms, len(want))
	for i, m := range ms {
		assert.Equal(t, want[i], m.Variant)
		alone, err := f.MeasureVariant(m.Variant, crypto.SHA1, crypto.SHA256)
		require.NoError(t, err)
		assert.Equal(t, alone, m.Sections)
	}
	got := func(v uki.Variant) string {
		for _, m := range ms {
			if m.Variant == v {
				return text(m.Sections)
			}
		}
		return "none"
	}
	for v, want := range map[uki.Variant]string{
		{}:                                       "linux6 osrel5 dtb5 profile8",
		{DeviceTree: 1}:                          "linux6 osrel5 dtb5 profile8 dtbauto5",
		{DeviceTree: 2, Firmware: 1}:             "linux6 osrel5 dtb5 profile8 dtbauto7 efifw2",
		{Profile: 1}:                             "linux6 osrel5 cmdline5 dtb5 profile7",
		{Profile: 1, DeviceTree: 1}:              "linux6 osrel5 cmdline5 dtb5 profile7 dtbauto5",
		{Profile: 1, DeviceTree: 3, Firmware: 1}: "linux6 osrel5 cmdline5 dtb5 profile7 dtbauto9 efifw2",
		{Profile: 2}:                             "linux6 osrel5 dtb14 profile7",
	} {
		assert.Equal(t, want, got(v), v)
	}

	for v, want := range map[uki.Variant]string{
		{Profile: 3}:     "profile 3: the image has 3",
		{Profile: -1}:    "profile -1: the image has 3",
		{DeviceTree: 3}:  "section .dtbauto number 3: profile 0 has 2",
		{DeviceTree: -1}: "section .dtbauto number -1",
		{Firmware: 2}:    "section .efifw number 2: profile 0 has 1",
	} {
		ms, err := f.MeasureVariant(v)
		assert.Nil(t, ms)
		assert.ErrorContains(t, err, want)
	}
	_, err = f.Measurements()
	require.ErrorIs(t, err, uki.ErrHardwareDependent)
	assert.Equal(t, "uki: section .dtbauto: the measured section depends on the hardware: see Variants", err.Error())
}

// Stubs that do not know a section ignore it.
func TestVariantsOfOldStubs(t *testing.T) {
	f, err := uki.Open(source(pick("257.9")))
	require.NoError(t, err)
	vs, err := f.Variants()
	require.NoError(t, err)
	assert.Len(t, vs, 3+4+3)
	f, err = uki.Open(source(pick("256")))
	require.NoError(t, err)
	_, err = f.Variants()
	assert.ErrorContains(t, err, "257 or later")
	f, err = uki.Open(source(pick("263")))
	require.NoError(t, err)
	_, err = f.MeasureVariants()
	assert.ErrorIs(t, err, uki.ErrUnknownStub)
	ms, err := f.AssumeStub(262).MeasureVariants()
	require.NoError(t, err)
	assert.Len(t, ms, 20)
}

func TestVariantsOfAnImage(t *testing.T) {
	im := complete()
	im.Sections = []uki.Section{{Name: ".dtbauto", Content: strings.NewReader("1")}, {Name: ".profile", Content: strings.NewReader("ID=x")}}
	vs, err := im.Variants()
	require.NoError(t, err)
	assert.Equal(t, []uki.Variant{{}, {DeviceTree: 1}}, vs)
	ours, err := im.MeasureVariants(crypto.SHA384)
	require.NoError(t, err)
	f, err := uki.Open(source(assemble(t, &im)))
	require.NoError(t, err)
	theirs, err := f.MeasureVariants(crypto.SHA384)
	require.NoError(t, err)
	assert.Equal(t, theirs, ours)

	im.Linux = nil
	vs, err = im.Variants()
	assert.Nil(t, vs)
	assert.ErrorIs(t, err, uki.ErrMissing)
}

func TestTooManyVariants(t *testing.T) {
	im := petest.Image{SizeOfHeaders: 0x4000, Sections: []petest.Section{{Name: ".linux", Content: []byte("k")},
		{Name: ".sdmagic", Content: []byte("#### LoaderInfo: systemd-stub 262 ####")}}}
	plain := len(im.Sections)
	for range 64 {
		im.Sections = append(im.Sections, petest.Section{Name: ".dtbauto", Content: []byte("d")}, petest.Section{Name: ".efifw", Content: []byte("e")})
	}
	f, err := uki.Open(source(im.Bytes()))
	require.NoError(t, err)
	vs, err := f.MeasureVariants()
	assert.Nil(t, vs)
	assert.ErrorContains(t, err, "more than 4096 ways: profile 0 alone picks from 64 .dtbauto and 64 .efifw")

	im.Sections = im.Sections[:plain]
	for range 257 {
		im.Sections = append(im.Sections, petest.Section{Name: ".profile", Content: []byte("ID=x")})
	}
	f, err = uki.Open(source(im.Bytes()))
	require.NoError(t, err)
	_, err = f.Variants()
	assert.ErrorContains(t, err, "257 profiles")
}

// counting counts what is read of it.
type counting struct {
	*strings.Reader
	bytes atomic.Int64
}

func (c *counting) ReadAt(b []byte, off int64) (int, error) {
	n, err := c.Reader.ReadAt(b, off)
	c.bytes.Add(int64(n))
	return n, err
}

func TestSectionsAreReadOnce(t *testing.T) {
	const size = 3<<20 + 1
	initrd := &counting{Reader: strings.NewReader(strings.Repeat("i", size))}
	im := complete()
	im.Initrd = []osmith.Source{initrd}
	im.Sections = []uki.Section{{Name: ".dtbauto", Content: strings.NewReader("1")}, {Name: ".efifw", Content: strings.NewReader("2")}}
	ms, err := im.MeasureVariants(crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512)
	require.NoError(t, err)
	assert.Len(t, ms, 4)
	assert.EqualValues(t, size, initrd.bytes.Load())
}

func BenchmarkMeasure(b *testing.B) {
	im := complete()
	im.Initrd = []osmith.Source{strings.NewReader(strings.Repeat("i", 64<<20))}
	b.SetBytes(64 << 20)
	for b.Loop() {
		_, err := im.Measurements(crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512)
		require.NoError(b, err)
	}
}

// An image that is written in pieces is measured as one that is there, in all variants.
func TestMeasurer(t *testing.T) {
	hashes := []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512}
	zeros := (&petest.Image{SizeOfHeaders: 1024, Sections: []petest.Section{
		{Name: ".text", Content: []byte{0xf4}, Code: true}, {Name: ".sdmagic", Content: []byte("#### LoaderInfo: systemd-stub 262 ####")},
		{Name: ".osrel", Content: []byte("ID=x\n")}, {Name: ".linux", Content: []byte("kernel")},
	}}).Bytes()
	p, err := pe.Parse(bytes.NewReader(zeros), int64(len(zeros)))
	require.NoError(t, err)
	// in memory, more than in the file
	binary.LittleEndian.PutUint32(zeros[p.Fields.SectionTable+3*40+8:], 3000)
	for name, b := range map[string][]byte{"picks": pick("262"), "zeros": zeros} {
		f, err := uki.Open(source(b))
		require.NoError(t, err)
		for _, hashes := range [][]crypto.Hash{nil, hashes} {
			want, err := f.MeasureVariants(hashes...)
			require.NoError(t, err)
			for _, size := range []int{1, 7, 4096, len(b)} {
				m, err := f.NewMeasurer(hashes...)
				require.NoError(t, err)
				for piece := range slices.Chunk(b, size) {
					_, err = m.Variants()
					require.ErrorContains(t, err, "bytes were written of an image of")
					n, err := m.Write(piece)
					require.NoError(t, err)
					require.Len(t, piece, n)
				}
				_, err = m.Write([]byte{0})
				require.ErrorContains(t, err, "are written of an image of")
				got, err := m.Variants()
				require.NoError(t, err)
				require.Equal(t, want, got, "%s by %d", name, size)
				_, err = m.Variants()
				require.Error(t, err, "a second time")
			}
		}
	}
	f, err := uki.Open(source(pick("999")))
	require.NoError(t, err)
	_, err = f.NewMeasurer()
	require.ErrorIs(t, err, uki.ErrUnknownStub)
}
