// Package cmstest changes CMS messages (RFC 5652) for the tests of those that read them.
package cmstest

import (
	"encoding/asn1"
	"testing"

	"github.com/stretchr/testify/require"
)

// Signers is a message of one signer, with or without ContentInfo, that has this signer n times.
func Signers(t testing.TB, message []byte, n int) []byte {
	t.Helper()
	parts := elements(t, elements(t, message)[0].Bytes)
	last := &parts[len(parts)-1]
	if parts[0].Tag == asn1.TagOID { // ContentInfo: the SignedData is in its [0]
		last.Bytes = Signers(t, last.Bytes, n)
	} else { // SignedData: the signers come last
		signer := last.Bytes
		last.Bytes = nil
		for range n {
			last.Bytes = append(last.Bytes, signer...)
		}
	}
	last.FullBytes = nil
	var b []byte
	for _, p := range parts {
		b = append(b, encode(t, p)...)
	}
	return encode(t, asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: b})
}

func elements(t testing.TB, b []byte) (list []asn1.RawValue) {
	t.Helper()
	for len(b) > 0 {
		var v asn1.RawValue
		var err error
		b, err = asn1.Unmarshal(b, &v)
		require.NoError(t, err)
		list = append(list, v)
	}
	return list
}

func encode(t testing.TB, v asn1.RawValue) []byte {
	t.Helper()
	b, err := asn1.Marshal(v)
	require.NoError(t, err)
	return b
}
