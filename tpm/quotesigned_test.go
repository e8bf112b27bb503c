package tpm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/tpmwire"
)

// quoteParts are what a TPMS_ATTEST is made of.
type quoteParts struct {
	magic      uint32
	kind       uint16
	nonce      []byte
	safe       byte
	selections [][]byte // TPMS_PCR_SELECTION
	count      uint32   // of them; 0 is as many as there are
	digest     []byte
	tail       []byte
}

func (q quoteParts) bytes() []byte {
	be := binary.BigEndian
	b := be.AppendUint16(be.AppendUint32(nil, q.magic), q.kind)
	b = tpmwire.AppendSized(tpmwire.AppendSized(b, []byte("signer")), q.nonce)
	b = append(be.AppendUint32(be.AppendUint32(be.AppendUint64(b, 1), 2), 3), q.safe)
	count := q.count
	if count == 0 {
		count = uint32(len(q.selections))
	}
	b = be.AppendUint32(be.AppendUint64(b, 4), count)
	return append(tpmwire.AppendSized(append(b, bytes.Join(q.selections, nil)...), q.digest), q.tail...)
}

var quotedValues = map[crypto.Hash]map[int][]byte{
	crypto.SHA256: {4: bytes.Repeat([]byte{4}, 32), 7: bytes.Repeat([]byte{7}, 32), 11: bytes.Repeat([]byte{11}, 32)},
	crypto.SHA1:   {0: bytes.Repeat([]byte{1}, 20)},
}

// goodQuote is over PCRs 4 and 7, then 11 of sha256, and 0 of sha1, as by a key with this hash.
func goodQuote(h crypto.Hash) quoteParts {
	v := quotedValues
	return quoteParts{magic: 0xff544347, kind: 0x8018, nonce: []byte("nonce"), safe: 1,
		selections: [][]byte{{0, 0x0b, 3, 0x90, 0, 0}, {0, 0x0b, 3, 0, 0x08, 0}, {0, 4, 1, 1}},
		digest:     pcrbank.Sum(h, v[crypto.SHA256][4], v[crypto.SHA256][7], v[crypto.SHA256][11], v[crypto.SHA1][0])}
}

// quoteSigner signs as a TPM does, as TPMT_SIGNATURE.
type quoteSigner struct {
	rsa *rsa.PrivateKey
	ec  *ecdsa.PrivateKey
}

func newQuoteSigner(t testing.TB) *quoteSigner {
	t.Helper()
	s := &quoteSigner{}
	var err error
	s.rsa, err = rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	s.ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return s
}

func (s *quoteSigner) sign(t testing.TB, scheme uint16, h crypto.Hash, message []byte) []byte {
	t.Helper()
	a, _ := pcrbank.ByHash(h)
	b := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, scheme), a.ID)
	digest := pcrbank.Sum(h, message)
	var sig []byte
	var err error
	switch scheme {
	case algECDSA:
		r, z, err := ecdsa.Sign(rand.Reader, s.ec, digest)
		require.NoError(t, err)
		return tpmwire.AppendSized(tpmwire.AppendSized(b, r.Bytes()), z.Bytes())
	case algRSAPSS:
		sig, err = rsa.SignPSS(rand.Reader, s.rsa, h, digest, nil)
	default:
		sig, err = rsa.SignPKCS1v15(rand.Reader, s.rsa, h, digest)
	}
	require.NoError(t, err)
	return tpmwire.AppendSized(b, sig)
}

// TestSignedQuotes verifies quotes by keys of ours, of every scheme, and such that no TPM made or
// that are over nothing. It needs no TPM.
func TestSignedQuotes(t *testing.T) {
	s := newQuoteSigner(t)
	keys := map[uint16]crypto.PublicKey{algRSASSA: &s.rsa.PublicKey, algRSAPSS: &s.rsa.PublicKey, algECDSA: &s.ec.PublicKey}
	var bad *QuoteError
	for scheme, key := range keys {
		for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384} {
			attest := goodQuote(h).bytes()
			sig := s.sign(t, scheme, h, attest)
			q, err := VerifyQuote(key, attest, sig, []byte("nonce"))
			require.NoError(t, err)
			require.NoError(t, q.Check(quotedValues))
			require.Equal(t, []PCRSelection{{crypto.SHA256, []int{4, 7}}, {crypto.SHA256, []int{11}}, {crypto.SHA1, []int{0}}}, q.Selections)
			require.True(t, q.Safe)
			got, err := q.Values(quotedValues)
			require.NoError(t, err)
			require.Equal(t, quotedValues, got)
			// Another key, and signatures that are called something else.
			other := newQuoteSigner(t)
			_, err = VerifyQuote(map[uint16]crypto.PublicKey{algRSASSA: &other.rsa.PublicKey, algRSAPSS: &other.rsa.PublicKey, algECDSA: &other.ec.PublicKey}[scheme], attest, sig, []byte("nonce"))
			require.ErrorAs(t, err, &bad)
			require.Equal(t, "signature", bad.Field)
			for other, key := range keys {
				renamed := bytes.Clone(sig)
				binary.BigEndian.PutUint16(renamed, other)
				if other == scheme {
					continue
				}
				_, err = VerifyQuote(key, attest, renamed, []byte("nonce"))
				require.Error(t, err, "0x%x as 0x%x", scheme, other)
			}
			wrong := keys[algECDSA]
			if scheme == algECDSA {
				wrong = keys[algRSASSA]
			}
			_, err = VerifyQuote(wrong, attest, sig, []byte("nonce"))
			require.ErrorContains(t, err, "and a key of type")
		}
		attest := goodQuote(crypto.SHA1).bytes()
		_, err := VerifyQuote(key, attest, s.sign(t, scheme, crypto.SHA1, attest), []byte("nonce"))
		require.ErrorContains(t, err, "SHA-1 proves nothing")
	}
	for want, change := range map[string]func(*quoteParts){
		// a restricted key signs no such bytes
		"quote: magic at 0x0":      func(q *quoteParts) { q.magic++ },
		"quote: type at 0x4":       func(q *quoteParts) { q.kind-- },
		"quote: safe at ":          func(q *quoteParts) { q.safe = 2 },
		"17, want 16 or fewer":     func(q *quoteParts) { q.selections = slices.Repeat([][]byte{{0, 0x0b, 1, 0}}, 17) },
		"quote: bank at ":          func(q *quoteParts) { q.selections[0][1] = 0x99 },
		"4 bytes, want 3 or fewer": func(q *quoteParts) { q.selections[0] = []byte{0, 0x0b, 4, 0x90, 0, 0, 0} },
		"quote: ":                  func(q *quoteParts) { q.tail = []byte{0} },
		"48 bytes, want a digest by sha256, which the signature is over": func(q *quoteParts) { q.digest = make([]byte, 48) },
		"5 bytes, want a digest by sha256, which the signature is over":  func(q *quoteParts) { q.digest = make([]byte, 5) },
	} {
		q := goodQuote(crypto.SHA256)
		change(&q)
		attest := q.bytes()
		got, err := VerifyQuote(keys[algECDSA], attest, s.sign(t, algECDSA, crypto.SHA256, attest), []byte("nonce"))
		require.ErrorContains(t, err, want)
		require.Nil(t, got)
	}
	good := goodQuote(crypto.SHA256).bytes()
	for n := range good {
		_, err := ParseQuote(good[:n])
		require.ErrorAs(t, err, new(*osmith.FormatError), n)
	}
}

// TestQuotedValues checks values against the digest of a quote.
func TestQuotedValues(t *testing.T) {
	parse := func(q quoteParts) *Quote {
		out, err := ParseQuote(q.bytes())
		require.NoError(t, err)
		return out
	}
	q := parse(goodQuote(crypto.SHA256))
	for want, has := range map[bool][]any{true: {crypto.SHA256, []int{4, 7, 11}}, false: {crypto.SHA256, []int{4, 5}}} {
		require.Equal(t, want, q.Has(has[0].(crypto.Hash), has[1].([]int)...))
	}
	require.False(t, q.Has(crypto.SHA384, 4))
	require.False(t, q.Has(crypto.SHA1, 4))
	values := func(change func(map[crypto.Hash]map[int][]byte)) map[crypto.Hash]map[int][]byte {
		out := map[crypto.Hash]map[int][]byte{}
		for h, v := range quotedValues {
			out[h] = map[int][]byte{}
			for n, b := range v {
				out[h][n] = bytes.Clone(b)
			}
		}
		change(out)
		return out
	}
	var bad *QuoteError
	for want, v := range map[string]map[crypto.Hash]map[int][]byte{
		"quote: PCR digest is ": values(func(v map[crypto.Hash]map[int][]byte) { v[crypto.SHA256][7][0]++ }),
		"PCR 7 of bank sha256 is quoted, but its value was not given": values(func(v map[crypto.Hash]map[int][]byte) { delete(v[crypto.SHA256], 7) }),
		"PCR 0 of bank sha1 is quoted, but its value was not given":   values(func(v map[crypto.Hash]map[int][]byte) { delete(v, crypto.SHA1) }),
		"PCR 11 of bank sha256: a value of 33 bytes, want 32":         values(func(v map[crypto.Hash]map[int][]byte) { v[crypto.SHA256][11] = make([]byte, 33) }),
	} {
		err := q.Check(v)
		require.ErrorAs(t, err, &bad)
		require.ErrorContains(t, err, want)
		got, err := q.Values(v)
		require.ErrorAs(t, err, &bad)
		require.Nil(t, got)
	}
	// A value moved over the border of two is another digest only for its length.
	moved := values(func(v map[crypto.Hash]map[int][]byte) {
		v[crypto.SHA256][4], v[crypto.SHA256][7] = append(v[crypto.SHA256][4], v[crypto.SHA256][7][0]), v[crypto.SHA256][7][1:]
	})
	require.ErrorContains(t, q.Check(moved), "33 bytes, want 32")

	none := goodQuote(crypto.SHA256)
	none.selections = [][]byte{{0, 0x0b, 3, 0, 0, 0}}
	none.digest = pcrbank.Sum(crypto.SHA256)
	require.ErrorContains(t, parse(none).Check(quotedValues), "no PCRs are quoted")
	odd := goodQuote(crypto.SHA256)
	odd.digest = odd.digest[:5]
	require.ErrorContains(t, parse(odd).Check(quotedValues), "5 bytes, the size of no known hash")

	// A log that has not all of the banks does not explain it, and one that has them does.
	log := &Log{}
	require.Error(t, log.VerifyQuote(q))
	_, _, _, _, boot := vectorQuote(t)
	v, err := boot.Values(crypto.SHA256)
	require.NoError(t, err)
	two := goodQuote(crypto.SHA256)
	two.selections, two.digest = two.selections[:2], pcrbank.Sum(crypto.SHA256, v[4], v[7], v[11])
	require.NoError(t, boot.VerifyQuote(parse(two)))
	two.digest[0]++
	require.ErrorAs(t, boot.VerifyQuote(parse(two)), &bad)

	for want, e := range map[string]*QuoteError{
		"quote: nonce is 01, want 02":   {Field: "nonce", Got: []byte{1}, Want: []byte{2}},
		"quote: nonce is 01, want none": {Field: "nonce", Got: []byte{1}},
		"quote: signature: why":         {Field: "signature", Err: fmt.Errorf("why"), Want: []byte{1}},
	} {
		require.EqualError(t, e, want)
	}
}

func TestBadSignatures(t *testing.T) {
	good := []byte{0, 0x18, 0, 0x0b, 0, 1, 5, 0, 1, 6}
	s, err := ParseTPMSignature(good)
	require.NoError(t, err)
	require.Equal(t, &TPMSignature{Scheme: "ecdsa", Hash: crypto.SHA256, R: big.NewInt(5), S: big.NewInt(6)}, s)
	for scheme, name := range map[byte]string{0x14: "rsassa", 0x16: "rsapss"} {
		s, err := ParseTPMSignature([]byte{0, scheme, 0, 0x0b, 0, 1, 5})
		require.NoError(t, err)
		require.Equal(t, name, s.Scheme)
		require.Equal(t, []byte{5}, s.RSA)
	}
	for want, b := range map[string][]byte{
		"scheme at 0x0": {0, 0x15, 0, 0x0b, 0, 1, 5}, "hash at 0x2": {0, 0x14, 0, 0x99, 0, 1, 5}, "TPM signature": append(bytes.Clone(good), 0),
	} {
		s, err := ParseTPMSignature(b)
		require.ErrorContains(t, err, want)
		require.Nil(t, s)
	}
	for n := range good {
		_, err := ParseTPMSignature(good[:n])
		require.ErrorAs(t, err, new(*osmith.FormatError), n)
	}
	key := newQuoteSigner(t)
	for _, s := range []TPMSignature{{Scheme: "ecdsa", Hash: crypto.SHA256}, {Scheme: "ecdsa", Hash: crypto.SHA256, R: big.NewInt(1)}, {Scheme: "ecdsa", Hash: crypto.SHA256, S: big.NewInt(1)},
		{Scheme: "ecdsa", Hash: crypto.MD5, R: big.NewInt(1), S: big.NewInt(1)}} {
		require.Error(t, s.Verify(&key.ec.PublicKey, nil))
	}
	require.ErrorContains(t, (&TPMSignature{Scheme: "rsassa", Hash: crypto.SHA256}).Verify(&rsa.PublicKey{N: big.NewInt(15), E: 3}, nil), "an invalid RSA key")
	_, err = VerifyQuote(&key.ec.PublicKey, goodQuote(crypto.SHA256).bytes(), []byte{0}, []byte("nonce"))
	require.ErrorAs(t, err, new(*osmith.FormatError))
}
