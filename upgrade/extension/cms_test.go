package extension_test

import (
	"encoding/asn1"
	"testing"

	"github.com/stretchr/testify/require"
)

// withoutCertificates takes the certificates out of a PKCS #7 message, as openssl smime -nocerts leaves them out.
func withoutCertificates(t testing.TB, der []byte) []byte {
	t.Helper()
	var info struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"tag:0,explicit"`
	}
	_, err := asn1.Unmarshal(der, &info)
	require.NoError(t, err)
	var signed asn1.RawValue
	_, err = asn1.Unmarshal(info.Content.Bytes, &signed)
	if err != nil || signed.Tag != asn1.TagSequence {
		signed = info.Content
	}
	var members []byte
	removed := 0
	for rest := signed.Bytes; len(rest) > 0; {
		var v asn1.RawValue
		rest, err = asn1.Unmarshal(rest, &v)
		require.NoError(t, err)
		if v.Class == asn1.ClassContextSpecific && v.Tag == 0 {
			removed++
			continue
		}
		members = append(members, v.FullBytes...)
	}
	require.Equal(t, 1, removed)
	inner, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: members})
	require.NoError(t, err)
	outer, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: inner})
	require.NoError(t, err)
	oid, err := asn1.Marshal(info.Type)
	require.NoError(t, err)
	out, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: append(oid, outer...)})
	require.NoError(t, err)
	return out
}
