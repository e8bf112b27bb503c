package cms_test

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"errors"
	"testing"

	"github.com/osmith-dev/osmith"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/cms"
)

// el is one element.
func el(tag byte, parts ...[]byte) []byte {
	body := bytes.Join(parts, nil)
	switch n := len(body); {
	case n < 0x80:
		return append([]byte{tag, byte(n)}, body...)
	case n < 0x100:
		return append([]byte{tag, 0x81, byte(n)}, body...)
	case n < 0x10000:
		return append([]byte{tag, 0x82, byte(n >> 8), byte(n)}, body...)
	default:
		return append([]byte{tag, 0x83, byte(n >> 16), byte(n >> 8), byte(n)}, body...)
	}
}

// The parts of a message without a signer, as small as it can be.
var (
	one        = []byte{2, 1, 1}
	sha256Alg  = el(0x30, []byte{6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1}, []byte{5, 0})
	sha1Alg    = el(0x30, []byte{6, 5, 0x2b, 0x0e, 3, 2, 0x1a}, []byte{5, 0})
	rsaAlg     = el(0x30, []byte{6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1}, []byte{5, 0})
	dataType   = []byte{6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1}
	detached   = el(0x30, dataType)
	name       = el(0x30, el(0x30), one)
	attribute  = el(0x30, dataType, el(0x31, one))
	signature  = el(4, []byte("s"))
	signer     = el(0x30, one, name, sha256Alg, rsaAlg, signature)
	repeat     = bytes.Repeat
	signedData = func(parts ...[]byte) []byte { return el(0x30, parts...) }
	withSigner = func(parts ...[]byte) []byte {
		return signedData(one, el(0x31, sha256Alg), detached, el(0x31, el(0x30, parts...)))
	}
)

// Messages that are wrong, each with the field that is named and where it stands.
func TestBadMessages(t *testing.T) {
	deep := []byte{5, 0}
	for range 10_000 {
		deep = el(0x30, deep)
	}
	for _, c := range []struct {
		name   string
		b      []byte
		field  string
		offset int64
		text   string
	}{
		{"empty", nil, "message", 0, "ends in the middle"},
		{"not a sequence", []byte{0x31, 0}, "message", 0, "tag 0x31, want 0x30"},
		{"indefinite length", []byte{0x30, 0x80, 2, 1, 1, 0, 0}, "message", 0, "length byte 0x80: not a DER length"},
		{"indefinite length inside", signedData(one, []byte{0x31, 0x80, 0, 0}), "digest algorithms", 5, "length byte 0x80"},
		{"length in too many bytes", append([]byte{0x30, 0x82, 0, 0x7f}, make([]byte, 0x7f)...), "message", 0, "fewest bytes"},
		{"length of 2^31-1", []byte{0x30, 0x84, 0x7f, 0xff, 0xff, 0xff}, "message", 0, "length 2147483647, but only 0 bytes"},
		{"length of 2^32-1", []byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff}, "message", 0, "length 4294967295"},
		{"length of 8 bytes", []byte{0x30, 0x88, 0, 0, 0, 0, 0, 0, 0, 1}, "message", 0, "length byte 0x88"},
		{"multi-byte tag", signedData([]byte{0x1f, 0x81, 1, 0}), "SignedData version", 2, "tag 0x1f"},
		{"10,000 levels", deep, "SignedData version", 4, "tag 0x30, want 0x02"},
		{"10,000 levels of content", signedData(one, el(0x31, sha256Alg), el(0x30, dataType, el(0xa0, deep))), "content", 43, "tag 0x30, want 0x04"},
		{"version 2", signedData([]byte{2, 1, 2}), "SignedData version", 2, "0x02, want one of"},
		{"version of five bytes", signedData([]byte{2, 5, 0, 0, 0, 0, 1}), "SignedData version", 2, "0x0000000001"},
		{"version 3 of PKCS #7", signedData([]byte{2, 1, 3}, el(0x31, sha256Alg), detached, el(0x31, signer)), "SignedData version", 2, "neither content type nor a signer"},
		{"17 digest algorithms", signedData(one, el(0x31, repeat(sha256Alg, 17)), detached, el(0x31)), "digest algorithms", 250, "more than 16"},
		{"algorithm with parameters", signedData(one, el(0x31, el(0x30, sha256Alg[2:13], []byte{4, 0})), detached, el(0x31)), "digest algorithm parameters", 20, "want NULL or none"},
		{"algorithm with more", signedData(one, el(0x31, el(0x30, sha256Alg[2:13], []byte{5, 0, 5, 0})), detached, el(0x31)), "digest algorithm", 22, "unexpected bytes follow"},
		{"identifier without an end", signedData(one, el(0x31, el(0x30, []byte{6, 1, 0x80}))), "digest algorithm", 9, "not minimally encoded"},
		{"content twice", signedData(one, el(0x31), el(0x30, dataType, el(0xa0, el(4), el(4))), el(0x31)), "content", 24, "unexpected bytes follow"},
		{"more than content", signedData(one, el(0x31), el(0x30, dataType, el(0xa0, one), one), el(0x31)), "encapsulated content", 25, "unexpected bytes follow"},
		{"data that is no octets", signedData(one, el(0x31), el(0x30, dataType, el(0xa0, []byte{5, 0})), el(0x31)), "content", 22, "tag 0x05, want 0x04"},
		{"no certificate", signedData(one, el(0x31), detached, el(0xa0, el(0x30)), el(0x31)), "certificate", 22, "x509"},
		{"attribute certificate in version 1", signedData(one, el(0x31), detached, el(0xa0, el(0xa1)), el(0x31)), "certificate", 22, "tag 0xa1"},
		{"no signers", signedData(one, el(0x31), detached), "signers", 20, "ends in the middle"},
		{"17 signers", signedData(one, el(0x31), detached, el(0x31, repeat(signer, 17))), "signers", 746, "more than 16"},
		{"behind the signers", signedData(one, el(0x31), detached, el(0x31), one), "SignedData", 22, "unexpected bytes follow"},
		{"signer of version 0", withSigner([]byte{2, 1, 0}), "signer version", 39, "0x00"},
		{"signer without a name", withSigner(one, el(0x31)), "issuer and serial number", 42, "tag 0x31"},
		{"serial number twice", withSigner(one, el(0x30, el(0x30), one, one)), "issuer and serial number", 49, "unexpected bytes follow"},
		{"serial number of no bytes", withSigner(one, el(0x30, el(0x30), []byte{2, 0})), "serial number", 46, "empty integer"},
		{"65 attributes", withSigner(one, name, sha256Alg, el(0xa0, repeat(attribute, 65)), rsaAlg, signature), "signed attributes", 1226, "more than 64"},
		{"65 values", withSigner(one, name, sha256Alg, el(0xa0, el(0x30, dataType, el(0x31, repeat(one, 65)))), rsaAlg, signature), "attribute values", 0, "more than 64"},
		{"attribute with more", withSigner(one, name, sha256Alg, el(0xa0, el(0x30, dataType, el(0x31), one)), rsaAlg, signature), "signed attribute", 0, "unexpected bytes follow"},
		{"no signature", withSigner(one, name, sha256Alg, rsaAlg), "signature", 0, "ends in the middle"},
		{"behind the signature", withSigner(one, name, sha256Alg, rsaAlg, signature, one), "signer", 0, "unexpected bytes follow"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sd, rest, err := cms.Parse(c.b, 0)
			require.Nil(t, sd)
			require.Nil(t, rest)
			e, ok := errors.AsType[*osmith.FormatError](err)
			require.True(t, ok, "%v", err)
			require.ErrorContains(t, err, c.text)
			require.Equal(t, c.field, e.Field)
			if c.offset != 0 {
				require.Equal(t, c.offset, e.Offset)
			}
		})
	}
	for name, b := range map[string][]byte{"no signer": signedData(one, el(0x31), detached, el(0x31)), "a signer": signedData(one, el(0x31, sha256Alg), detached, el(0x31, signer))} {
		_, _, err := cms.Parse(b, 0)
		require.NoError(t, err, name)
	}
}

// What is well formed, and nevertheless no signature.
func TestCheckRefuses(t *testing.T) {
	id := issue(t, rsaKey(), named("signer", true), nil)
	ec := issue(t, ecKey(t), named("signer", true), nil)
	for _, c := range []struct {
		name string
		b    []byte
		id   identity
		want string
	}{
		{"SHA-1", signedData(one, el(0x31, sha1Alg), detached, el(0x31, el(0x30, one, name, sha1Alg, rsaAlg, signature))), id, "digest algorithm 1.3.14.3.2.26"},
		{"digest not listed", signedData(one, el(0x31), detached, el(0x31, signer)), id, "is not among those of the message"},
		{"RSA for an ECDSA key", signedData(one, el(0x31, sha256Alg), detached, el(0x31, signer)), ec, "does not fit an ECDSA key"},
		{"wrong value", signedData(one, el(0x31, sha256Alg), detached, el(0x31, signer)), id, "the RSA signature is not one of this key"},
		{"digest as signature algorithm", withSigner(one, name, sha256Alg, sha256Alg, signature), id, "does not fit an RSA key"},
		{"empty attributes", withSigner(one, name, sha256Alg, el(0xa0), rsaAlg, signature), id, "attribute 1.2.840.113549.1.9.3 is missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sd, _, err := cms.Parse(c.b, 0)
			require.NoError(t, err)
			require.ErrorContains(t, sd.Check(&sd.Signers[0], c.id.cert, []byte("content")), c.want)
		})
	}
}

// A message of this package is written again from what was read, to the byte; and no bit of it can
// be changed without the signature becoming invalid, those of the certificates apart: which one
// signed is the caller's to say. So is the version.
func TestMalleability(t *testing.T) {
	content := []byte("content")
	for _, key := range []crypto.Signer{rsaKey(), ecKey(t)} {
		id := issue(t, key, named("signer", true), nil)
		for name, tmpl := range forms(id, content, crypto.SHA256) {
			der, err := tmpl.Sign(key)
			require.NoError(t, err)
			detached := content
			if tmpl.Content != nil {
				detached = nil
			}
			sd, _, err := cms.Parse(der, 0)
			require.NoError(t, err)
			si := &sd.Signers[0]
			again := cms.Template{Hash: si.Hash, ContentType: sd.ContentType, Content: sd.Content, Certificate: sd.Certificate(si), Bare: sd.Bare}
			if sd.Content == nil {
				again.Digest = tmpl.Digest
			}
			if si.Attributes != nil {
				req, err := tmpl.Prepare()
				require.NoError(t, err)
				again.RawAttributes = req.Attributes
			}
			rewritten, err := again.Join(si.Signature)
			require.NoError(t, err, name)
			require.Equal(t, der, rewritten, name)

			from := bytes.Index(der, id.cert.Raw)
			bad := bytes.Clone(der)
			for i := range 8 * len(der) {
				// The tag of content other than data is not signed (RFC 2315, section 9.3); who
				// knows the type looks at it.
				tag := name == "typed" && int64(i/8) == sd.ContentOffset
				if tag || i/8 >= from && i/8 < from+len(id.cert.Raw) {
					continue
				}
				bad[i/8] ^= 1 << (i % 8)
				if sd, rest, err := cms.Parse(bad, 0); err == nil && len(rest) == 0 && sd.Version == 1 && len(sd.Signers) == 1 && sd.Certificate(&sd.Signers[0]) != nil {
					if sd.Check(&sd.Signers[0], id.cert, detached) == nil {
						t.Fatalf("%s: bit %d of byte %d of %d changed, and accepted", name, i%8, i/8, len(der))
					}
				}
				bad[i/8] = der[i/8]
			}
		}
	}
}

func TestRawAttributesRefused(t *testing.T) {
	id := issue(t, ecKey(t), named("signer", true), nil)
	octets, err := asn1.Marshal([]byte("content"))
	require.NoError(t, err)
	for want, b := range map[string][]byte{
		"signed attributes to join: signed attributes at 0x0 of it: ends in the middle of an element":  {},
		"signed attributes to join: signed attributes at 0x0 of it: tag 0x30, want 0x31":               {0x30, 0},
		"signed attributes to join: signed attributes at 0x2 of it: unexpected bytes follow":           {0x31, 0, 0},
		"signed attributes to join: attribute 1.2.840.113549.1.9.3 is missing":                         {0x31, 0},
		"signed attributes to join: signed attribute at 0x14 of it: not in the order that DER demands": el(0x31, attribute, attribute),
	} {
		_, err := (&cms.Template{Content: octets, Certificate: id.cert, RawAttributes: b}).Prepare()
		require.EqualError(t, err, want)
	}
}
