package authenticode_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

func TestVerifyErrors(t *testing.T) {
	ca := newIdentity(t, "rsa2", "CA", nil)
	leaf := newIdentity(t, "rsa1", "leaf", &ca)
	foreign := newIdentity(t, "256a", "foreign", nil)
	signed := sign(t, image(0), leaf, authenticode.SignOptions{})

	_, err := authenticode.Verify(bytes.NewReader(image(0)), leaf.list())
	require.ErrorIs(t, err, authenticode.ErrUnsigned)
	sigs, err := authenticode.Signatures(bytes.NewReader(image(0)))
	require.NoError(t, err)
	require.Empty(t, sigs)

	_, err = authenticode.Verify(bytes.NewReader(signed), foreign.list())
	require.ErrorIs(t, err, authenticode.ErrUntrusted)
	require.ErrorContains(t, err, `"CN=leaf"`)
	_, err = authenticode.Verify(bytes.NewReader(signed), nil)
	require.ErrorIs(t, err, authenticode.ErrUntrusted)
	_, err = authenticode.Verify(bytes.NewReader(signed), ca.list())
	require.NoError(t, err, "issued by the trusted one")

	changed := bytes.Clone(signed)
	changed[0x2100] ^= 1
	_, err = authenticode.Verify(bytes.NewReader(changed), leaf.list())
	e, ok := errors.AsType[*authenticode.DigestError](err)
	require.True(t, ok, "%v", err)
	require.NotEqual(t, e.Want, e.Got)

	// A second signature by another signer does not spoil the first.
	twice := sign(t, signed, foreign, authenticode.SignOptions{})
	for _, id := range []identity{ca, leaf, foreign} {
		_, err = authenticode.Verify(bytes.NewReader(twice), id.list())
		require.NoError(t, err)
	}

	// The signature value replaced: listed, with its error.
	i := len(signed) - 100
	signed[i] ^= 1
	sigs, err = authenticode.Signatures(bytes.NewReader(signed))
	require.NoError(t, err)
	require.ErrorContains(t, sigs[0].Err, "authenticode: certificate \"CN=leaf\"")
	_, err = authenticode.Verify(bytes.NewReader(signed), leaf.list())
	require.Equal(t, sigs[0].Err, err)
}

func TestCertificateTable(t *testing.T) {
	id := newIdentity(t, "256a", "self", nil)
	signed := sign(t, image(0), id, authenticode.SignOptions{})
	pe := int(binary.LittleEndian.Uint32(signed[0x3c:]))
	dir := pe + 24 + 144
	table := int64(binary.LittleEndian.Uint32(signed[dir:]))
	le := binary.LittleEndian
	for _, c := range []struct {
		name   string
		change func(b []byte) []byte
		offset int64
		want   string
	}{
		{"length 0", func(b []byte) []byte { le.PutUint32(b[table:], 0); return b }, table, "0, want more than 8"},
		{"length 8", func(b []byte) []byte { le.PutUint32(b[table:], 8); return b }, table, "8, want more than 8"},
		{"length 2^32-1", func(b []byte) []byte { le.PutUint32(b[table:], 1<<32-1); return b }, table, "4294967295"},
		{"revision 1", func(b []byte) []byte { le.PutUint16(b[table+4:], 0x100); return b }, table + 4, "0x0100, want 0x0200"},
		{"behind the file", func(b []byte) []byte { le.PutUint32(b[dir+4:], 1<<31); return b }, int64(dir), "ends at"},
		{"inside the image", func(b []byte) []byte { le.PutUint32(b[dir:], 8); return b }, int64(dir), "inside the image"},
		{"bytes behind", func(b []byte) []byte { return append(b, 0) }, int64(len(signed)), "1 bytes follow it"},
		{"half a header", func(b []byte) []byte {
			le.PutUint32(b[dir+4:], uint32(int64(len(b))-table+4))
			return append(b, 0, 0, 0, 0)
		}, int64(len(signed)), "4 bytes left"},
		{"not DER", func(b []byte) []byte { b[table+8] = 0; return b }, table + 8, "tag 0x00"},
		{"padding", func(b []byte) []byte {
			le.PutUint32(b[table:], le.Uint32(b[table:])+uint32(-int64(le.Uint32(b[table:]))&7)+8)
			le.PutUint32(b[dir+4:], le.Uint32(b[dir+4:])+8)
			return append(b, make([]byte, 8)...)
		}, -1, "bytes follow it that are not padding"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := c.change(bytes.Clone(signed))
			sigs, err := authenticode.Signatures(bytes.NewReader(b))
			require.ErrorContains(t, err, c.want)
			require.Nil(t, sigs)
			e, ok := errors.AsType[*osmith.FormatError](err)
			require.True(t, ok, "%T", err)
			if c.offset >= 0 {
				require.Equal(t, c.offset, e.Offset)
			}
		})
	}

	// Firmware skips types that it does not know.
	other := bytes.Clone(signed)
	le.PutUint16(other[table+6:], 0x0001)
	sigs, err := authenticode.Signatures(bytes.NewReader(other))
	require.NoError(t, err)
	require.Empty(t, sigs)
	_, err = authenticode.Verify(bytes.NewReader(other), id.list())
	require.ErrorIs(t, err, authenticode.ErrUnsigned)
}

// What this package signs is what the other one reads.
func TestSignedForSecureboot(t *testing.T) {
	id := newIdentity(t, "rsa1", "self", nil)
	signed := bytes.NewReader(sign(t, image(0), id, authenticode.SignOptions{}))
	im, err := secureboot.ReadImage(signed)
	require.NoError(t, err)
	db, err := secureboot.AppendSignatureLists(nil, secureboot.CertificateList(osmith.GUID{}, id.cert))
	require.NoError(t, err)
	verdict := secureboot.Evaluate(osmith.FirmwareVariables{SecureBoot: []byte{1}, DB: db}, im, secureboot.EvaluateOptions{})
	require.True(t, verdict.Allowed, verdict.Reason)
	require.Equal(t, id.cert.Raw, verdict.Authority.Data)
}
