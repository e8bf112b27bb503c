package sealing

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/tpm"
)

// vectorQuote is a quote by tpm2-tools as a machine would send it, with a PCR too many.
func vectorQuote(t testing.TB) (key crypto.PublicKey, nonce []byte, q *Quote) {
	t.Helper()
	block, _ := pem.Decode(read(t, "../../testdata/quote/ak.pem"))
	require.NotNil(t, block)
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	require.NoError(t, err)
	log, err := tpm.ParseLog(read(t, "../../testdata/boot/a-sb-sdboot-262/binary_bios_measurements"))
	require.NoError(t, err)
	values, err := log.Values(crypto.SHA256)
	require.NoError(t, err)
	nonce, err = hex.DecodeString("00112233445566778899aabbccddeeff")
	require.NoError(t, err)
	q = &Quote{Attest: read(t, "../../testdata/quote/quote.attest"), Signature: read(t, "../../testdata/quote/quote.sig"),
		PCRs: map[crypto.Hash]map[int][]byte{crypto.SHA256: {}}}
	for n := range 13 {
		q.PCRs[crypto.SHA256][n] = values[n]
	}
	return key, nonce, q
}

// TestQuoteJSON sends a quote with its values, which count for nothing until they lead to what was
// signed.
func TestQuoteJSON(t *testing.T) {
	key, nonce, q := vectorQuote(t)
	text, err := json.Marshal(*q)
	require.NoError(t, err)
	require.Contains(t, string(text), `"pcrs":{"sha256":{"0":"`)
	var sent Quote
	require.NoError(t, json.Unmarshal(text, &sent))
	require.Equal(t, q, &sent)
	quoted, pcrs, err := sent.Verify(key, nonce)
	require.NoError(t, err)
	require.Equal(t, nonce, quoted.Nonce)
	require.Len(t, pcrs[crypto.SHA256], 11)
	require.NotContains(t, pcrs[crypto.SHA256], 8, "it is not quoted")
	require.Equal(t, q.PCRs[crypto.SHA256][7], pcrs[crypto.SHA256][7])

	var bad *tpm.QuoteError
	for name, change := range map[string]func(*Quote){
		"a value": func(q *Quote) { q.PCRs[crypto.SHA256][7] = value(crypto.SHA256, 1) },
		"two exchanged": func(q *Quote) {
			v := q.PCRs[crypto.SHA256]
			v[4], v[7] = v[7], v[4]
		},
		"one missing":     func(q *Quote) { delete(q.PCRs[crypto.SHA256], 7) },
		"none":            func(q *Quote) { q.PCRs = nil },
		"the attestation": func(q *Quote) { q.Attest[len(q.Attest)-1] ^= 1 },
		"the signature":   func(q *Quote) { q.Signature[len(q.Signature)-1] ^= 1 },
	} {
		var other Quote
		require.NoError(t, json.Unmarshal(text, &other))
		change(&other)
		quoted, pcrs, err := other.Verify(key, nonce)
		require.ErrorAs(t, err, &bad, name)
		require.Nil(t, quoted, name)
		require.Nil(t, pcrs, name)
	}
	_, _, err = sent.Verify(key, nil)
	require.ErrorIs(t, err, tpm.ErrNoNonce)

	both := Quote{PCRs: map[crypto.Hash]map[int][]byte{crypto.SHA1: {7: value(crypto.SHA1, 1)}, crypto.SHA256: {7: value(crypto.SHA256, 2)}}}
	text, err = json.Marshal(both)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &sent))
	require.Equal(t, both.PCRs, sent.PCRs)

	// As it was sent before it had values.
	require.NoError(t, json.Unmarshal([]byte(`{"attest":"AA==","signature":"AQ=="}`), &sent))
	require.Equal(t, Quote{Attest: []byte{0}, Signature: []byte{1}}, sent)
	_, err = Quote{PCRs: map[crypto.Hash]map[int][]byte{crypto.MD5: {}}}.MarshalJSON()
	require.ErrorContains(t, err, "sealing: quote: bank MD5")
}

func TestBadQuoteJSON(t *testing.T) {
	for text, want := range map[string]string{
		`[]`:                              "quote: ",
		`{"attest":"!"}`:                  "not base64",
		`{"more":1}`:                      "more",
		`{"pcrs":{"md5":{}}}`:             `bank "md5"`,
		`{"pcrs":{"SHA256":{}}}`:          `bank "SHA256"`,
		`{"pcrs":{"sha256":{"24":"00"}}}`: "want 0 to 23",
		`{"pcrs":{"sha256":{"-1":"00"}}}`: "want 0 to 23",
		`{"pcrs":{"sha256":{"07":"00"}}}`: "want 0 to 23",
		`{"pcrs":{"sha256":{"07":"` + strings.Repeat("00", 32) + `"}}}`: "want 0 to 23",
		`{"pcrs":{"sha256":{"7":"00"}}}`:                                "PCR 7: want 64 hexadecimal digits",
		`{"pcrs":{"sha256":{"7":"` + strings.Repeat("xx", 32) + `"}}}`:  "PCR 7: want 64 hexadecimal digits",
	} {
		q := Quote{Attest: []byte("as it was")}
		err := q.UnmarshalJSON([]byte(text))
		require.ErrorContains(t, err, want, text)
		require.Equal(t, 1, strings.Count(err.Error(), "sealing:"), err)
		require.Equal(t, Quote{Attest: []byte("as it was")}, q)
	}
}

func FuzzQuote(f *testing.F) {
	key, nonce, q := vectorQuote(f)
	text, err := json.Marshal(q)
	require.NoError(f, err)
	f.Add(text)
	f.Add(bytes.Replace(text, []byte(`"sha256"`), []byte(`"sha384"`), 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		var sent Quote
		if sent.UnmarshalJSON(data) != nil {
			return
		}
		text, err := sent.MarshalJSON()
		require.NoError(t, err)
		var again Quote
		require.NoError(t, again.UnmarshalJSON(text))
		if _, pcrs, err := sent.Verify(key, nonce); err == nil {
			for n, v := range pcrs[crypto.SHA256] {
				require.Equal(t, q.PCRs[crypto.SHA256][n], v)
			}
			require.Len(t, pcrs[crypto.SHA256], 11)
		}
	})
}
