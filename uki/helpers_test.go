package uki_test

import (
	"bytes"
	"crypto"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/uki"
)

func assemble(t testing.TB, im *uki.Image) []byte {
	t.Helper()
	a, err := im.Assemble()
	require.NoError(t, err)
	var b bytes.Buffer
	n, err := a.WriteTo(&b)
	require.NoError(t, err)
	require.Equal(t, a.Size(), n)
	require.EqualValues(t, a.Size(), b.Len())
	return b.Bytes()
}

// pcr11 is the value that the measurements leave in a PCR that was zero.
func pcr11(h crypto.Hash, ms []uki.Measurement) []byte {
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
