package authenticode_test

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/cms"
	"github.com/osmith-dev/osmith/internal/cmstest"
	"github.com/osmith-dev/osmith/signing/authenticode"
)

// withEntry is an image with a WIN_CERTIFICATE of that type around whatever.
func withEntry(img []byte, typ uint16, message []byte) []byte {
	le := binary.LittleEndian
	b := append(bytes.Clone(img), make([]byte, -len(img)&7)...)
	start := len(b)
	b = le.AppendUint32(b, uint32(8+len(message)))
	b = le.AppendUint16(b, 0x200)
	b = le.AppendUint16(b, typ)
	b = append(b, message...)
	b = append(b, make([]byte, -len(b)&7)...)
	le.PutUint32(b[checksumAt(b)+80:], uint32(start))
	le.PutUint32(b[checksumAt(b)+84:], uint32(len(b)-start))
	return withChecksum(b)
}

// der is one element of less than 128 bytes.
func der(tag byte, parts ...[]byte) []byte {
	body := bytes.Join(parts, nil)
	return append([]byte{tag, byte(len(body))}, body...)
}

// Signatures whose signer signed something else than an image, or not in the way that firmware
// understands.
func TestBadSignatures(t *testing.T) {
	id := newIdentity(t, "rsa1", "self", nil)
	indirect := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 4}
	peImage, other := []byte{6, 10, 0x2b, 6, 1, 4, 1, 0x82, 0x37, 2, 1, 0x0f}, []byte{6, 10, 0x2b, 6, 1, 4, 1, 0x82, 0x37, 2, 1, 0x1e}
	sha256 := der(0x30, []byte{6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1}, []byte{5, 0})
	sha384 := der(0x30, []byte{6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2}, []byte{5, 0})
	md5 := der(0x30, []byte{6, 8, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 5}, []byte{5, 0})
	digest, err := authenticode.Digest(bytes.NewReader(image(0)), crypto.SHA256)
	require.NoError(t, err)
	about := func(what, alg, digest []byte) []byte {
		return der(0x30, der(0x30, what), der(0x30, alg, der(4, digest)))
	}
	message := func(change func(*cms.Template)) []byte {
		m := &cms.Template{ContentType: indirect, Content: about(peImage, sha256, digest), Attributes: true, Certificate: id.cert}
		change(m)
		b, err := m.Sign(id.key)
		require.NoError(t, err)
		return b
	}
	content := func(b []byte) []byte { return message(func(m *cms.Template) { m.Content = b }) }
	good := content(about(peImage, sha256, digest))

	for _, c := range []struct {
		name    string
		message []byte
		field   string // of a FormatError; else the signature is listed with an error
		offset  int    // in the message
		text    string
	}{
		{"id-data", message(func(m *cms.Template) { m.ContentType, m.Content = nil, der(4, digest) }), "SpcIndirectDataContent", -1, "content type 1.2.840.113549.1.7.1, want SpcIndirectData"},
		{"detached", message(func(m *cms.Template) { m.Content, m.Digest = nil, digest }), "SpcIndirectDataContent", 0, "carries no content"},
		{"not a sequence", content(der(4, digest)), "SpcIndirectDataContent", -1, "tags don't match"},
		{"empty", content(der(0x30)), "SpcIndirectDataContent", -1, "sequence truncated"},
		{"a cabinet", content(about(other, sha256, digest)), "SpcIndirectDataContent", -1, "got content 1.3.6.1.4.1.311.2.1.30, want a PE image (1.3.6.1.4.1.311.2.1.15)"},
		{"31 bytes", content(about(peImage, sha256, digest[1:])), "SpcIndirectDataContent", -1, "digest of 31 bytes for SHA-256"},
		{"SHA-384 of 32 bytes", content(about(peImage, sha384, digest)), "SpcIndirectDataContent", -1, "digest of 32 bytes for SHA-384"},
		{"MD5 of the image", content(about(peImage, md5, digest[:16])), "", 0, "the digest algorithm of the image is not"},
		{"two algorithms", message(func(m *cms.Template) { m.Hash = crypto.SHA384 }), "", 0, "digested with SHA-256, its signature with algorithm 2.16.840.1.101.3.4.2.2"},
		{"no signed attributes", message(func(m *cms.Template) { m.Attributes = false }), "", 0, "without signed attributes"},
		{"trailing bytes", append(bytes.Clone(good), 1, 2, 3), "signature", len(good), "3 bytes follow it that are not padding"},
		{"not DER", append([]byte{0x30, 0x80}, good[4:]...), "message", 0, "length byte 0x80"},
		{"two signers", cmstest.Signers(t, good, 2), "signature", 0, "2 signers in one message, want 1"},
		{"no signers", cmstest.Signers(t, good, 0), "signature", 0, "0 signers in one message, want 1"},
		{"version 3", bytes.Replace(good, []byte{2, 1, 1, 0x31}, []byte{2, 1, 3, 0x31}, 1), "signature", 0, "SignedData version 3, want 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := withEntry(image(0), 2, c.message)
			table := tableAt(b)
			sigs, err := authenticode.Signatures(bytes.NewReader(b))
			_, verifyErr := authenticode.Verify(bytes.NewReader(b), id.list())
			attachErr := authenticode.Attach(new(bytes.Buffer), bytes.NewReader(image(0)), c.message)
			require.ErrorContains(t, attachErr, c.text)
			if c.field == "" {
				require.NoError(t, err)
				require.Len(t, sigs, 1)
				require.ErrorContains(t, sigs[0].Err, c.text)
				require.Equal(t, sigs[0].Err, verifyErr)
				return
			}
			require.Nil(t, sigs)
			require.ErrorContains(t, err, c.text)
			require.Equal(t, err, verifyErr)
			e, ok := errors.AsType[*osmith.FormatError](err)
			require.True(t, ok, "%T", err)
			require.Equal(t, c.field, e.Field)
			if c.offset >= 0 {
				require.EqualValues(t, table+8+c.offset, e.Offset)
			} else {
				require.Greater(t, e.Offset, int64(table+8), "where the content is")
				require.Less(t, e.Offset, int64(table+8+len(c.message)), "where the content is")
			}
		})
	}

	// The same as a certificate of a GUID, as UEFI has it too, and a GUID that firmware skips.
	pkcs7 := []byte{0x9d, 0xd2, 0xaf, 0x4a, 0xdf, 0x68, 0xee, 0x49, 0x8a, 0xa9, 0x34, 0x7d, 0x37, 0x56, 0x65, 0xa7}
	b := withEntry(image(0), 0xef1, append(bytes.Clone(pkcs7), good...))
	s, err := authenticode.Verify(bytes.NewReader(b), id.list())
	require.NoError(t, err)
	require.Equal(t, id.cert.Raw, s.Signer.Raw)
	pkcs7[0] ^= 1
	b = withEntry(image(0), 0xef1, append(pkcs7, good...))
	_, err = authenticode.Verify(bytes.NewReader(b), id.list())
	require.ErrorIs(t, err, authenticode.ErrUnsigned)
	require.ErrorIs(t, authenticode.Remove(new(bytes.Buffer), bytes.NewReader(b), all), authenticode.ErrUnsigned)
	var out bytes.Buffer
	require.NoError(t, authenticode.RemoveAll(&out, bytes.NewReader(b)))
	require.Equal(t, withChecksum(image(0)), out.Bytes())

	// Sixty-five entries.
	many := image(0)
	entry := withEntry(image(0), 1, good)[tableAt(b):]
	table := bytes.Repeat(entry, 65)
	many = append(many, table...)
	binary.LittleEndian.PutUint32(many[checksumAt(many)+80:], uint32(len(image(0))))
	binary.LittleEndian.PutUint32(many[checksumAt(many)+84:], uint32(len(table)))
	_, err = authenticode.Signatures(bytes.NewReader(many))
	require.ErrorContains(t, err, "more than 64 entries")
}

// What osslsigncode can put into a signature besides the necessary: accepted where firmware would,
// listed in any case, and gone without a trace.
func TestForeignVariety(t *testing.T) {
	ca := newIdentity(t, "rsa2", "CA", nil)
	id := newIdentity(t, "rsa1", "leaf", &ca)
	for name, c := range map[string]struct {
		args []string
		bad  string
	}{
		"sha384":              {args: []string{"-h", "sha384"}},
		"sha512":              {args: []string{"-h", "sha512"}},
		"sha1":                {[]string{"-h", "sha1"}, "not SHA-256, SHA-384 or SHA-512"},
		"md5":                 {[]string{"-h", "md5"}, "not SHA-256, SHA-384 or SHA-512"},
		"description and URL": {args: []string{"-h", "sha256", "-n", "a description", "-i", "https://example.org"}},
		"commercial":          {args: []string{"-h", "sha256", "-comm"}},
		"unsigned blob":       {args: []string{"-h", "sha256", "-addUnauthenticatedBlob"}},
		"chain":               {args: []string{"-h", "sha256", "-ac", "CA"}},
		"time":                {args: []string{"-h", "sha256", "-time", "1700000000"}},
	} {
		t.Run(name, func(t *testing.T) {
			key, cert := id.files(t)
			if i := slices.Index(c.args, "CA"); i >= 0 {
				_, c.args[i] = ca.files(t)
			}
			plain := write(t, "plain.efi", image(0))
			out := plain + ".signed"
			osslsigncode(t, append([]string{"sign", "-certs", cert, "-key", key, "-in", plain, "-out", out}, c.args...)...)
			b := readFile(t, out)
			sigs, err := authenticode.Signatures(bytes.NewReader(b))
			require.NoError(t, err)
			require.Len(t, sigs, 1)
			_, err = authenticode.Verify(bytes.NewReader(b), ca.list())
			if c.bad != "" {
				require.ErrorContains(t, sigs[0].Err, c.bad)
				require.Equal(t, sigs[0].Err, err)
				_, err = authenticode.Verify(bytes.NewReader(sign(t, b, id, authenticode.SignOptions{})), id.list())
				require.NoError(t, err, "a good one behind it is enough")
			} else {
				require.NoError(t, err)
			}
			require.Equal(t, withChecksum(image(0)), remove(t, b, all))
		})
	}
}
