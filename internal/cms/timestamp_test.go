package cms_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/cms"
)

var (
	tokenID   = []byte{6, 0x0a, 0x2b, 6, 1, 4, 1, 0x82, 0x37, 3, 3, 1}
	counterID = []byte{6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 6}
	infoType  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}
)

// unsigned is the element [1] with one attribute.
func unsigned(id []byte, values ...[]byte) []byte { return el(0xa1, el(0x30, id, el(0x31, values...))) }

// info is a TSTInfo.
func info(version byte, alg, imprint []byte, at string) []byte {
	return el(0x30, []byte{2, 1, version}, []byte{6, 1, 0x2a}, el(0x30, alg, el(4, imprint)), one, el(0x18, []byte(at)))
}

// token is a message over a TSTInfo.
func token(t testing.TB, id identity, typ asn1.ObjectIdentifier, content []byte) []byte {
	t.Helper()
	b, err := (&cms.Template{ContentType: typ, Content: content, Attributes: true, Certificate: id.cert}).Sign(id.key)
	require.NoError(t, err)
	return b
}

// counterSigner is the SignerInfo of a message over a signature value.
func counterSigner(t testing.TB, id identity, over []byte, at time.Time) []byte {
	t.Helper()
	w := crypto.SHA256.New()
	w.Write(over)
	b, err := (&cms.Template{Digest: w.Sum(nil), Attributes: true, SigningTime: at, Certificate: id.cert, Bare: true}).Sign(id.key)
	require.NoError(t, err)
	var m struct {
		Version          int
		Digests, Content asn1.RawValue
		Certificates     asn1.RawValue `asn1:"tag:0"`
		Signers          asn1.RawValue
	}
	_, err = asn1.Unmarshal(b, &m)
	require.NoError(t, err)
	return m.Signers.Bytes
}

func TestTimestamps(t *testing.T) {
	id := issue(t, rsaKey(), named("signer", true), nil)
	clock := issue(t, ecKey(t), named("clock", false), nil)
	stranger := issue(t, ecKey(t), named("stranger", false), nil)
	der, err := (&cms.Template{Digest: make([]byte, 32), Certificate: id.cert, Chain: []*x509.Certificate{clock.cert}}).Sign(id.key)
	require.NoError(t, err)
	sd, _, err := cms.Parse(der, 0)
	require.NoError(t, err)
	si := &sd.Signers[0]
	require.Nil(t, sd.Timestamps(si))

	sum := sha256.Sum256(si.Signature)
	good := info(1, sha256Alg, sum[:], "20260304050607.25Z")
	tok := func(content []byte) []byte { return token(t, clock, infoType, el(4, content)) }
	fraction := when.Add(250 * time.Millisecond)
	for _, c := range []struct {
		name     string
		unsigned []byte
		want     time.Time
		err      string
	}{
		{"token", unsigned(tokenID, tok(good)), fraction, ""},
		{"counter-signature", unsigned(counterID, counterSigner(t, clock, si.Signature, when)), when, ""},
		{"no set", []byte{0xa1}, time.Time{}, "unsigned attributes at 0x0: ends in the middle"},
		{"no attributes", el(0xa1, one), time.Time{}, "unsigned attribute at 0x2: tag 0x02"},
		{"token that is none", unsigned(tokenID, el(4)), time.Time{}, "timestamp token: message at 0x0 of it: tag 0x04"},
		{"more than a token", unsigned(tokenID, el(0x30, tok(good)[4:], one)), time.Time{}, "timestamp token: message at 0x"},
		{"another content type", unsigned(tokenID, token(t, clock, cms.OIDData, el(4, good))), time.Time{}, "content type 1.2.840.113549.1.7.1"},
		{"not in octets", unsigned(tokenID, token(t, clock, infoType, el(0x30, good))), time.Time{}, "tag 0x30, want 0x04"},
		{"version 2", unsigned(tokenID, tok(info(2, sha256Alg, sum[:], "20260304050607Z"))), time.Time{}, "TSTInfo version at 0x"},
		{"month 13", unsigned(tokenID, tok(info(1, sha256Alg, sum[:], "20261304050607Z"))), time.Time{}, "genTime at 0x"},
		{"about another signature", unsigned(tokenID, tok(info(1, sha256Alg, sum[1:], "20260304050607Z"))), time.Time{}, "timestamp token: made for a different signature"},
		{"SHA-1", unsigned(tokenID, tok(info(1, sha1Alg, sum[:20], "20260304050607Z"))), time.Time{}, "timestamp token: made for a different signature"},
		{"changed", unsigned(tokenID, bytes.Replace(tok(good), []byte("20260304"), []byte("20250304"), 1)), time.Time{}, "does not have the digest that was signed"},
		{"no certificate", unsigned(tokenID, withSigner(one, name, sha256Alg, rsaAlg, signature)), time.Time{}, "content type 1.2.840"},
		{"counter-signature of a stranger", unsigned(counterID, counterSigner(t, stranger, si.Signature, when)), time.Time{}, "the certificate of the signer is missing"},
		{"counter-signature of another signature", unsigned(counterID, counterSigner(t, clock, sum[:], when)), time.Time{}, "does not have the digest that was signed"},
		{"counter-signature without a time", unsigned(counterID, counterSigner(t, clock, si.Signature, time.Time{})), time.Time{}, "counter-signature: no time"},
		{"counter-signature that is none", unsigned(counterID, el(4)), time.Time{}, "counter-signature: signer at 0x0 of it: tag 0x04"},
	} {
		t.Run(c.name, func(t *testing.T) {
			si.Unsigned = c.unsigned
			list := sd.Timestamps(si)
			require.Len(t, list, 1)
			require.Equal(t, c.want, list[0].Time)
			if c.err != "" {
				require.ErrorContains(t, list[0].Err, c.err)
				return
			}
			require.NoError(t, list[0].Err)
			require.Equal(t, clock.cert.Raw, list[0].Authority.Raw)
		})
	}
	si.Unsigned = el(0xa1, el(0x30, dataType, el(0x31, one)), el(0x30, tokenID, el(0x31, tok(good), tok(good))))
	require.Len(t, sd.Timestamps(si), 2, "others are skipped")
}

// No token that was changed speaks for another time.
func FuzzTimestamps(f *testing.F) {
	id := issue(f, ecKey(f), named("signer", true), nil)
	other := issue(f, ecKey(f), named("other", true), nil)
	der, err := (&cms.Template{Digest: make([]byte, 32), Certificate: id.cert}).Sign(id.key)
	require.NoError(f, err)
	sd, _, err := cms.Parse(der, 0)
	require.NoError(f, err)
	si := &sd.Signers[0]
	sum := sha256.Sum256(si.Signature)
	f.Add(unsigned(tokenID, token(f, other, infoType, el(4, info(1, sha256Alg, sum[:], "20260304050607Z")))))
	f.Add(unsigned(counterID, counterSigner(f, id, si.Signature, when)))
	f.Fuzz(func(t *testing.T, data []byte) {
		si := sd.Signers[0]
		si.Unsigned = data
		for _, s := range sd.Timestamps(&si) {
			if (s.Err != nil) != s.Time.IsZero() {
				t.Fatalf("%v and error %v", s.Time, s.Err)
			}
			if s.Err == nil && (s.Authority == nil || !s.Time.Equal(when) && bytes.Equal(s.Authority.Raw, other.cert.Raw)) {
				t.Fatalf("%v by %v", s.Time, s.Authority)
			}
		}
	})
}
