package cmstest

import (
	"encoding/asn1"
	"testing"

	"github.com/stretchr/testify/require"
)

// WithoutCertificates is the message without the certificates that it carries, as openssl smime
// -nocerts writes it (RFC 5652, section 5.1: they are optional).
func WithoutCertificates(t testing.TB, message []byte) []byte {
	t.Helper()
	info := elements(t, message)
	require.Len(t, info, 1)
	members := elements(t, info[0].Bytes) // type, [0] content
	require.Len(t, members, 2)
	signed := elements(t, members[1].Bytes)
	require.Len(t, signed, 1)
	var kept []byte
	removed := 0
	for _, v := range elements(t, signed[0].Bytes) {
		if v.Class == asn1.ClassContextSpecific && v.Tag == 0 {
			removed++
			continue
		}
		kept = append(kept, v.FullBytes...)
	}
	require.Equal(t, 1, removed)
	inner := encode(t, asn1.RawValue{Class: signed[0].Class, Tag: signed[0].Tag, IsCompound: true, Bytes: kept})
	content := encode(t, asn1.RawValue{Class: members[1].Class, Tag: members[1].Tag, IsCompound: true, Bytes: inner})
	return encode(t, asn1.RawValue{Class: info[0].Class, Tag: info[0].Tag, IsCompound: true, Bytes: append(append([]byte(nil), members[0].FullBytes...), content...)})
}
