package uki_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/uki"
)

func assemble(t testing.TB, im *uki.Image) []byte {
	t.Helper()
	a, err := im.Assemble()
	require.NoError(t, err)
	return written(t, a)
}

func written(t testing.TB, a *uki.Assembled) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := a.WriteTo(&b)
	require.NoError(t, err)
	require.Equal(t, a.Size(), n)
	require.EqualValues(t, a.Size(), b.Len())
	return b.Bytes()
}

// pcr11 is the value that the measurements leave in a PCR that was zero.
func pcr11(h crypto.Hash, ms []osmith.Measurement) []byte {
	pcr := make([]byte, h.Size())
	extend := func(digest []byte) {
		s := h.New()
		s.Write(append(pcr, digest...))
		pcr = s.Sum(nil)
	}
	for _, m := range ms {
		s := h.New()
		s.Write([]byte(m.Section + "\x00"))
		extend(s.Sum(nil))
		extend(m.Digests[h])
	}
	return pcr
}

// sectionNames are the names of all sections, in file order.
func sectionNames(t testing.TB, b []byte) (names []string) {
	f, err := uki.OpenProfile(source(b))
	if errors.Is(err, uki.ErrNotProfile) {
		f, err = uki.Open(source(b))
	}
	require.NoError(t, err)
	for _, s := range f.Sections() {
		names = append(names, s.Name)
	}
	return names
}

// sectionDigests are the hashes of all sections of an image by profile and name; -1 is what they
// share.
func sectionDigests(t testing.TB, b []byte) map[string]string {
	f, err := uki.Open(source(b))
	require.NoError(t, err)
	out := make(map[string]string)
	for i, s := range f.Sections() {
		h := sha256.New()
		_, err := io.Copy(h, f.SectionData(i))
		require.NoError(t, err)
		out[fmt.Sprint(s.Profile)+s.Name] += hex.EncodeToString(h.Sum(nil))
	}
	return out
}

func openProfileOf(t testing.TB, b []byte, n int) uki.Profile {
	f, err := uki.OpenProfile(source(b))
	require.NoError(t, err)
	p, err := uki.ProfileOf(f, n)
	require.NoError(t, err)
	return p
}
