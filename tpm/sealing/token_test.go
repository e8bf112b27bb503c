package sealing

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/tpm/policy"
)

func tpmHandle(n uint32) tpm2.TPMHandle { return tpm2.TPMHandle(n) }

// sampleToken is what systemd-cryptenroll of systemd 262 wrote for --tpm2-pcrs=0+7
// --tpm2-with-pin=yes against swtpm 0.7.1.
const sampleToken = `{"type":"systemd-tpm2","keyslots":["3"],"tpm2-blob":"AJ4AIIH9ahHTOyTJg99952+gZL7KoX8UiGgMaULPBXXuxLZLABAPMVzyH6Y7qKIQj7BccjsRXzjIj/jwoeJfFxe0Gd4Is+HbRrSpDdKcyLGxONekd+4Z0+UuBURrEcfwaqR7plqPXHajXhAbkxVKMFuIuddA2KjQ5IMf3O1qbHIfaBgMF0fwhzYquEDdaniWzpxwEqRXWURV1mLmtME/TgBOAAgACwAAABIAIKRZ8zUdSHBtQrapIJOPVuKLc1ZgKgJ4TPDze29a6waMABAAIPkpDozj7eMQxL+0P+bVVXVDYxsRqm/OM15qLTHGqo7s","tpm2-pcrs":[0,7],"tpm2-pcr-bank":"sha256","tpm2-primary-alg":"ecc","tpm2-policy-hash":"a459f3351d48706d42b6a920938f56e28b7356602a02784cf0f37b6f5aeb068c","tpm2-pin":true,"tpm2_salt":"G2iFGgbE4pNfqFR0Ins83r9ciUOAy9UVEVG/9/KRaWI=","tpm2_srk":"gQAAAQAiAAv3Jq50lTMv1xfg+T28pY+e2yIZSmOH9NmBV1oKRXTCAAAAAAEAWgAjAAsAAwRyAAAABgCAAEMAEAADABAAIJzHcRwfEr8qURDbTSpDnpsBPmT3u3H1Bdzc/qmQ1saGACCUW/8xDwKWYq305Lrl/8q/Auivr48OA1F3tU4VVWY0UQ==","tpm2_argon2id_memcost":1119139327,"tpm2_argon2id_iterations":2,"tpm2_argon2id_lanes":2}`

func TestSampleToken(t *testing.T) {
	token, err := ParseToken([]byte(sampleToken))
	require.NoError(t, err)
	require.Equal(t, []int{3}, token.Keyslots)
	require.Equal(t, []int{0, 7}, token.PCRs)
	require.Equal(t, &Argon2id{Memory: 1119139327, Iterations: 2, Lanes: 2}, token.Argon2id)
	require.True(t, token.PIN)
	require.Len(t, token.Salt, 32)
	require.Equal(t, "a459f3351d48706d42b6a920938f56e28b7356602a02784cf0f37b6f5aeb068c", token.PolicyHashes[0].String())
	srk, err := parseSRK(token.SRK)
	require.NoError(t, err)
	require.Equal(t, tpmHandle(SRKHandle), srk.handle)
	require.Equal(t, token.SRK, srk.serialize())
	text, err := token.MarshalJSON()
	require.NoError(t, err)
	require.Equal(t, sampleToken, string(text), "byte for byte, fields in systemd's order")
	var again Token
	require.NoError(t, json.Unmarshal(text, &again))
	require.True(t, token.Equal(&again))
}

func TestBadTokens(t *testing.T) {
	for name, tt := range map[string]struct{ old, new, err string }{
		"not JSON":       {"{", "[{", "token: JSON at 0x"},
		"end":            {`"tpm2-pin":true`, `"tpm2-pin":true}{`, "data after the JSON value"},
		"cut":            {`"tpm2_argon2id_lanes":2}`, ``, "token: JSON at 0x362: the document ends here"},
		"type":           {`systemd-tpm2`, `systemd-tpm3`, `want "systemd-tpm2"`},
		"no type":        {`"type":"systemd-tpm2",`, ``, "type: missing"},
		"slot":           {`["3"]`, `["99"]`, "want 0 to 31"},
		"slot text":      {`["3"]`, `["+3"]`, "not a number"},
		"blob":           {`"AJ4AIIH9`, `"//8AIIH9`, "tpm2-blob: private area at 0x2"},
		"base64":         {`"AJ4AIIH9`, `"!J4AIIH9`, "not base64"},
		"no blob":        {`"tpm2-blob":"`, `"tpm2-blob":[],"x":"`, "want 1 to 8"},
		"PCR":            {`[0,7]`, `[0,24]`, "want ascending numbers from 0 to 23"},
		"PCR order":      {`[0,7]`, `[7,0]`, "want ascending"},
		"bank":           {`"sha256"`, `"md5"`, "not a PCR bank"},
		"no bank":        {`"tpm2-pcr-bank":"sha256",`, `"osmith_pcr_values":{"0":"00","7":"00"},`, "PCR values without a bank"},
		"algorithm":      {`"ecc"`, `"dsa"`, "want ecc or rsa"},
		"policy":         {`"a459f3`, `"a459`, "62 characters, want 64"},
		"null":           {`"tpm2-pin":true`, `"tpm2-pin":null`, "null"},
		"twice":          {`"tpm2-pin":true`, `"tpm2-pin":true,"tpm2-pin":false`, "tpm2-pin"},
		"SRK handle":     {`"gQAAAQAi`, `"gAAAAQAi`, "persistent"},
		"SRK name":       {`"gQAAAQAiAAv3`, `"gQAAAQAiAAv4`, "the name does not match the public area"},
		"argon memory":   {`1119139327`, `1119139327000`, "want 16384 to 4294967296"},
		"argon passes":   {`"tpm2_argon2id_iterations":2`, `"tpm2_argon2id_iterations":100000`, "want 1 to 1000"},
		"argon lanes":    {`"tpm2_argon2id_lanes":2`, `"tpm2_argon2id_lanes":2000`, "tpm2_argon2id_lanes at "},
		"argon, no PIN":  {`"tpm2-pin":true,`, ``, "no PIN"},
		"argon, no salt": {`"tpm2_salt"`, `"tpm2_salz"`, "no salt"},
		"values":         {`"tpm2-pin":true`, `"tpm2-pin":true,"osmith_pcr_values":{"7":"00","0":"00"}`, "PCR 0"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(sampleToken, tt.old, tt.new, 1)
			require.NotEqual(t, sampleToken, text)
			token, err := ParseToken([]byte(text))
			require.Nil(t, token)
			require.ErrorContains(t, err, tt.err)
			_, ok := errors.AsType[*osmith.FormatError](err)
			require.True(t, ok)
			require.Equal(t, 1, strings.Count(err.Error(), "sealing:"), err)
		})
	}
}

func TestPINMemory(t *testing.T) {
	token, err := ParseToken([]byte(sampleToken))
	require.NoError(t, err)
	_, err = token.stretch("1234", 1<<20)
	require.ErrorIs(t, err, ErrNotSupported)
	token.Argon2id.Memory = 4 << 30
	_, err = token.Secret([]byte("sealed"), "1234")
	require.ErrorIs(t, err, ErrNotSupported, "the default")
}

func TestUnknownFieldsAreKept(t *testing.T) {
	text := strings.TrimSuffix(sampleToken, "}") + `,"more":{"a":[1,2]}}`
	token, err := ParseToken([]byte(text))
	require.NoError(t, err)
	out, err := token.MarshalJSON()
	require.NoError(t, err)
	require.Equal(t, text, string(out))
	token.Extra["tpm2-pin"] = json.RawMessage("false")
	_, err = token.MarshalJSON()
	require.Error(t, err)
}

// TestTokensAsFound are tokens of real volumes, which stay as they are when they are read and
// written.
func TestTokensAsFound(t *testing.T) {
	texts := [][]byte{read(t, "mkosi/token.json")}
	for _, name := range []string{"sd252-recovery-tpm2.json", "sd262-tpm2-pin-argon2id-signed.json"} {
		var header struct {
			Tokens map[string]json.RawMessage `json:"tokens"`
		}
		require.NoError(t, json.Unmarshal(read(t, name), &header))
		for _, text := range header.Tokens {
			if !bytes.Contains(text, []byte(`"systemd-recovery"`)) {
				texts = append(texts, text)
			}
		}
	}
	require.Len(t, texts, 3)
	for _, text := range texts {
		token, err := ParseToken(text)
		require.NoError(t, err)
		again, err := token.MarshalJSON()
		require.NoError(t, err)
		var compact bytes.Buffer
		require.NoError(t, json.Compact(&compact, text))
		require.Equal(t, compact.String(), string(again))
	}
	token, err := ParseToken(texts[0])
	require.NoError(t, err)
	require.Zero(t, token.Bank)
	require.Empty(t, token.PrimaryAlgorithm)
	require.Equal(t, []int{11}, token.PublicKeyPCRs)
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return data
}

func FuzzToken(f *testing.F) {
	f.Add([]byte(sampleToken))
	f.Add(read(f, "mkosi/token.json"))
	f.Add([]byte(strings.Replace(sampleToken, `"tpm2-pin":true`, `"tpm2_pcrlock":true`, 1)))
	f.Fuzz(func(t *testing.T, data []byte) {
		token, err := ParseToken(data)
		require.Equal(t, err == nil, token != nil)
		if err != nil {
			return
		}
		text, err := token.MarshalJSON()
		require.NoError(t, err)
		again, err := ParseToken(text)
		require.NoError(t, err)
		require.True(t, token.Equal(again))
		plans, err := token.plans(nil)
		require.NoError(t, err)
		require.Len(t, plans, len(token.Blobs))
		_, _ = token.Check(State{}) // panics of nothing
	})
}

func FuzzBlob(f *testing.F) {
	token, err := ParseToken([]byte(sampleToken))
	require.NoError(f, err)
	f.Add(token.Blobs[0])
	f.Add(append([]byte{}, token.SRK...))
	f.Fuzz(func(t *testing.T, data []byte) {
		if b, err := parseBlob(data); err == nil {
			require.Equal(t, data, b.bytes())
		}
		if k, err := parseSRK(data); err == nil {
			require.Equal(t, data, k.serialize())
		}
		if n, err := parseNV("x", data); err == nil {
			require.Equal(t, data, n.serialize())
			public, err := policy.ParseNVPublic(tpm2.Marshal(n.public))
			require.NoError(t, err)
			name, err := public.Name()
			require.NoError(t, err)
			require.Equal(t, n.name, name)
		}
	})
}

// A token has the text of the public key's file, as systemd-cryptenroll does: it stays as long as
// the key does.
func TestTokenPublicKey(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	text, err := policy.MarshalPublicKey(&key.PublicKey)
	require.NoError(t, err)
	file := append([]byte("a comment\n"), text...)
	raw := strings.Replace(sampleToken, `"tpm2_salt"`, `"tpm2_pubkey_pcrs":[11],"tpm2_pubkey":"`+base64.StdEncoding.EncodeToString(file)+`","tpm2_salt"`, 1)
	token, err := ParseToken([]byte(raw))
	require.NoError(t, err)
	require.Equal(t, &key.PublicKey, token.PublicKey)
	out, err := token.MarshalJSON()
	require.NoError(t, err)
	require.Equal(t, raw, string(out))

	other, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	token.PublicKey = &other.PublicKey
	out, err = token.MarshalJSON()
	require.NoError(t, err)
	token, err = ParseToken(out)
	require.NoError(t, err)
	require.Equal(t, &other.PublicKey, token.PublicKey)

	token.PublicKey = &rsa.PublicKey{N: other.N, E: 3}
	_, err = token.MarshalJSON()
	require.EqualError(t, err, "sealing: tpm2_pubkey: PCR signing key: exponent 3: not an RSA key with exponent 65537")
}
