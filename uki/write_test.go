package uki_test

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/uki"
)

// reserved is an image with two profiles and two device trees, and room for a signature in each
// profile.
func reserved(initrd osmith.Source, room int) uki.Image {
	im := complete()
	im.Initrd = []osmith.Source{initrd}
	add := func(name, content string) {
		im.Sections = append(im.Sections, uki.Section{Name: name, Content: strings.NewReader(content)})
	}
	add(".dtbauto", "tree")
	add(".profile", "ID=main\n")
	add(".pcrsig", strings.Repeat(" ", room))
	add(".profile", "ID=debug\n")
	add(".cmdline", "debug")
	add(".pcrsig", strings.Repeat(" ", room))
	add(".x", "not measured")
	return im
}

func TestWriteStream(t *testing.T) {
	initrd := &counting{Reader: strings.NewReader(strings.Repeat("initrd. ", 1<<17+3))}
	im := reserved(initrd, 700)
	a, err := im.Assemble()
	require.NoError(t, err)
	want, err := im.MeasureVariants(crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512)
	require.NoError(t, err)
	require.Len(t, want, 4)
	plain := assemble(t, &im)
	initrd.bytes.Store(0)

	var out bytes.Buffer
	var last int64
	var signed []string
	got, err := a.WriteStream(&out, uki.WriteOptions{
		Hashes: []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512},
		Sign: func(vs []uki.VariantMeasurements) ([]byte, error) {
			p := vs[0].Profile
			assert.Equal(t, want[2*p:2*p+2], vs)
			signed = append(signed, fmt.Sprintf("{signature of profile %d}", p))
			return []byte(signed[p]), nil
		},
		Progress: func(done, total int64) {
			assert.Equal(t, a.Size(), total)
			assert.Greater(t, done, last)
			last = done
		},
	})
	require.NoError(t, err)
	assert.Equal(t, want, got)
	assert.Equal(t, a.Size(), last)
	assert.Equal(t, initrd.Size(), initrd.bytes.Load(), "the initrd is read once")
	require.Len(t, signed, 2)
	for _, s := range signed {
		plain = bytes.Replace(plain, []byte(strings.Repeat(" ", 700)), []byte(s+strings.Repeat(" ", 700-len(s))), 1)
	}
	assert.True(t, bytes.Equal(plain, out.Bytes()))

	out.Reset()
	unsigned, err := a.WriteStream(&out, uki.WriteOptions{})
	require.NoError(t, err)
	assert.Equal(t, assemble(t, &im), out.Bytes())
	want, err = im.MeasureVariants()
	require.NoError(t, err)
	assert.Equal(t, want, unsigned)
}

func TestWriteStreamErrors(t *testing.T) {
	no := errors.New("no")
	sign := func(b string, err error) func([]uki.VariantMeasurements) ([]byte, error) {
		return func([]uki.VariantMeasurements) ([]byte, error) { return []byte(b), err }
	}
	for name, c := range map[string]struct {
		change func(*uki.Image)
		o      uki.WriteOptions
		w      func() failing
		text   string
	}{
		"signer fails": {o: uki.WriteOptions{Sign: sign("", no)}, text: "uki: section .pcrsig of profile 0: no"},
		"too long":     {o: uki.WriteOptions{Sign: sign(strings.Repeat("x", 701), nil)}, text: "uki: section .pcrsig of profile 0: needs 701 bytes, has room for 700"},
		"no reserve":   {func(im *uki.Image) { im.Sections = nil }, uki.WriteOptions{Sign: sign("", nil)}, nil, "PCRSignatureReserve"},
		"before": {func(im *uki.Image) {
			im.Sections = append([]uki.Section{{Name: ".pcrsig", Content: strings.NewReader("  ")}}, im.Sections[0], im.Sections[1])
		}, uki.WriteOptions{Sign: sign("", nil)}, nil, "comes before section .profile, which it covers: cannot be signed in one pass"},
		"stub":   {func(im *uki.Image) { im.Stub = source(petest.Stub("263")) }, uki.WriteOptions{}, nil, "unknown stub version"},
		"source": {func(im *uki.Image) { im.Initrd = []osmith.Source{shrunk{strings.NewReader("i")}} }, uki.WriteOptions{}, nil, "reading .initrd"},
		"hash":   {o: uki.WriteOptions{Hashes: []crypto.Hash{crypto.MD4}}, text: "not linked"},
		"writer": {w: func() failing { return failing{no} }, text: "uki: writing at 0 of "},
	} {
		t.Run(name, func(t *testing.T) {
			im := reserved(strings.NewReader("initrd"), 700)
			if c.change != nil {
				c.change(&im)
			}
			a, err := im.Assemble()
			require.NoError(t, err)
			var got []uki.VariantMeasurements
			if c.w != nil {
				got, err = a.WriteStream(c.w(), c.o)
			} else {
				got, err = a.WriteStream(new(bytes.Buffer), c.o)
			}
			assert.Nil(t, got)
			require.ErrorContains(t, err, c.text)
			assert.Equal(t, 1, strings.Count(err.Error(), "uki: "), err)
		})
	}
}
