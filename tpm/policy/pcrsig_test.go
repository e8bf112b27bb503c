package policy_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
)

func TestSign(t *testing.T) {
	states := goldenStates(t, nil, nil)
	sigs, err := policy.Sign(testKey, states, "")
	require.NoError(t, err)
	require.Len(t, sigs, 16)
	again, err := policy.Sign(testKey, states, "")
	require.NoError(t, err)
	assert.Equal(t, sigs, again, "deterministic")
	for _, s := range sigs {
		digest := sha256.Sum256(s.Digest[:])
		assert.NoError(t, rsa.VerifyPKCS1v15(&testKey.PublicKey, crypto.SHA256, digest[:], s.Value), "SHA-256 whatever the bank")
	}
	raw, err := sigs.MarshalJSON()
	require.NoError(t, err)
	parsed, err := policy.ParseSignatures(append(raw, "\n\x00\x00\x00"...))
	require.NoError(t, err)
	assert.Equal(t, sigs, parsed)
	compact, err := json.Marshal(sigs)
	require.NoError(t, err)
	assert.NotContains(t, string(compact), " ")
	parsed, err = policy.ParseSignatures(compact)
	require.NoError(t, err)
	assert.Equal(t, sigs, parsed)
}

// Policies come by bank, then in the order of the states, and none comes twice.
func TestPrepareOrder(t *testing.T) {
	a, b := value(1), value(2)
	wide := func(v byte) []byte { return bytes.Repeat([]byte{v}, crypto.SHA384.Size()) }
	states := []map[crypto.Hash]map[int][]byte{
		{crypto.SHA384: {11: wide(1)}, crypto.SHA256: {11: a}},
		{crypto.SHA256: {11: b, 7: a}},
		{crypto.SHA384: {11: wide(1)}, crypto.SHA256: {11: a}},
	}
	got, err := policy.Prepare(&testKey.PublicKey, states, "")
	require.NoError(t, err)
	require.Len(t, got, 3)
	for i, want := range []struct {
		bank   crypto.Hash
		pcrs   []int
		values map[int][]byte
	}{
		{crypto.SHA256, []int{11}, states[0][crypto.SHA256]},
		{crypto.SHA256, []int{7, 11}, states[1][crypto.SHA256]},
		{crypto.SHA384, []int{11}, states[0][crypto.SHA384]},
	} {
		d, err := policy.PolicyPCR(policy.Digest{}, want.bank, want.values)
		require.NoError(t, err)
		assert.Equal(t, d, got[i].Digest)
		assert.Equal(t, want.bank, got[i].Bank)
		assert.Equal(t, want.pcrs, got[i].PCRs)
	}
}

// pssSigner is a broken HSM: it signs with another scheme than it was asked for.
type pssSigner struct{ *rsa.PrivateKey }

func (s pssSigner) Sign(r io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	return s.PrivateKey.Sign(r, digest, &rsa.PSSOptions{Hash: crypto.SHA256})
}

func TestSignErrors(t *testing.T) {
	states := goldenStates(t, []crypto.Hash{crypto.SHA256}, nil)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	_, err = policy.Sign(ec, states, "")
	assert.ErrorIs(t, err, policy.ErrKey)
	_, err = policy.Sign(nil, states, "")
	assert.ErrorIs(t, err, policy.ErrKey)
	_, err = policy.Sign(pssSigner{testKey}, states, "")
	assert.ErrorIs(t, err, rsa.ErrVerification)
	_, err = policy.Prepare(&rsa.PublicKey{N: testKey.N, E: 3}, states, "")
	assert.ErrorIs(t, err, policy.ErrKey)
	_, err = policy.Prepare(&testKey.PublicKey, nil, "")
	assert.EqualError(t, err, "policy: no states or no banks to sign for")
	_, err = policy.Prepare(&testKey.PublicKey, []map[crypto.Hash]map[int][]byte{{}, {crypto.MD5: {}}}, "")
	assert.EqualError(t, err, "policy: state 1: bank MD5: not a PCR bank that is known here")
	_, err = policy.Prepare(&testKey.PublicKey, []map[crypto.Hash]map[int][]byte{{crypto.SHA256: {}}}, "")
	assert.EqualError(t, err, "policy: state 0: PolicyPCR: no PCRs selected")
	_, err = policy.Prepare(&testKey.PublicKey, states, "a\"b")
	assert.ErrorContains(t, err, "policy: policy reference")

	p, err := policy.Prepare(&testKey.PublicKey, states, "")
	require.NoError(t, err)
	_, err = p.Join(&testKey.PublicKey, nil)
	assert.EqualError(t, err, "policy: joining 0 signatures with 4 policies")
	_, err = p.Join(&testKey.PublicKey, make([][]byte, 4))
	assert.ErrorIs(t, err, rsa.ErrVerification)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	_, err = p.Join(&other.PublicKey, make([][]byte, 4))
	assert.ErrorContains(t, err, "policy b162986d4e896d9b209de8d3df8f0fdf6e6387f6697ba4fbf6d484fe3ba81728: signed by key")
	_, err = policy.Signatures{{PCRPolicy: policy.PCRPolicy{Bank: crypto.MD5}}}.MarshalJSON()
	assert.EqualError(t, err, "policy: bank MD5: not a PCR bank that is known here")
	_, err = policy.PCRPolicies{{Bank: crypto.SHA256, Ref: "<"}}.MarshalJSON()
	assert.ErrorContains(t, err, "policy: policy reference \"<\"")
}

func TestPCRPoliciesJSON(t *testing.T) {
	p, err := policy.Prepare(&testKey.PublicKey, goldenStates(t, nil, nil), "for the initrd: a, b")
	require.NoError(t, err)
	raw, err := p.MarshalJSON()
	require.NoError(t, err)
	got, err := policy.ParsePCRPolicies(raw)
	require.NoError(t, err)
	assert.Equal(t, p, got)
	_, err = policy.ParseSignatures(raw)
	assert.ErrorContains(t, err, "sig: no value")
	sigs, err := p.Sign(testKey)
	require.NoError(t, err)
	signed, err := sigs.MarshalJSON()
	require.NoError(t, err)
	assert.True(t, bytes.Contains(signed, []byte(`", "ref": "for the initrd: a, b", "pol": "`)))
	_, err = policy.ParsePCRPolicies(signed)
	assert.ErrorContains(t, err, "signed already")
	empty, err := policy.PCRPolicies{}.MarshalJSON()
	require.NoError(t, err)
	assert.Equal(t, "{}", string(empty))
}

func TestParseSignaturesErrors(t *testing.T) {
	entry := func(change ...string) string {
		s := `{"pcrs":[11],"pkfp":"` + strings.Repeat("ab", 32) + `","pol":"` + strings.Repeat("cd", 32) + `","sig":"AA=="}`
		return strings.NewReplacer(change...).Replace(s)
	}
	_, err := policy.ParseSignatures([]byte(`{"sha256":[` + entry() + `]}`))
	require.NoError(t, err)
	for _, c := range []struct{ name, in, want string }{
		{"empty", "", "the document ends here"},
		{"array", "[]", "want an object"},
		{"truncated", `{"sha256":[`, "the document ends here"},
		{"unknown bank", `{"md5":[]}`, "not a PCR bank that is known here"},
		{"bank in capitals", `{"SHA256":[]}`, "not a PCR bank that is known here"},
		{"bank twice", `{"sha256":[],"sha256":[]}`, "JSON at 0xd"},
		{"bank not array", `{"sha256":{}}`, "want an array"},
		{"more", `{} {}`, "JSON at 0x3"},
		{"pcrs missing", `{"sha256":[` + entry(`"pcrs":[11],`, "") + `]}`, "pcrs: no value"},
		{"pcrs order", `{"sha256":[` + entry(`[11]`, "[11,4]") + `]}`, "want ascending"},
		{"pcrs range", `{"sha256":[` + entry(`[11]`, "[24]") + `]}`, "want ascending"},
		{"pkfp short", `{"sha256":[` + entry("abab", "ab") + `]}`, "pkfp: 32 characters"},
		{"pol hex", `{"sha256":[` + entry("cd", "xy") + `]}`, "pol: not hexadecimal"},
		{"sig base64", `{"sha256":[` + entry("AA==", "A") + `]}`, "sig: not base64"},
		{"ref empty", `{"sha256":[` + entry(`"pcrs"`, `"ref":"","pcrs"`) + `]}`, "ref:"},
		{"tbs wrong", `{"sha256":[` + entry(`"pcrs"`, `"tbs":"00","pcrs"`) + `]}`, "tbs:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := policy.ParseSignatures([]byte(c.in))
			require.ErrorContains(t, err, c.want)
			assert.Nil(t, got)
			format, ok := errors.AsType[*osmith.FormatError](err)
			require.True(t, ok)
			assert.ErrorIs(t, err, format.Err)
			assert.Equal(t, strings.Contains(c.name, "bank") && strings.Contains(c.want, "known"), errors.Is(err, tpm.ErrBank))
			assert.True(t, strings.HasPrefix(err.Error(), "policy: .pcrsig: "), err.Error())
		})
	}
}

// FuzzParseSignatures: no panic, nil exactly with an error, and one form per value.
func FuzzParseSignatures(f *testing.F) {
	f.Add(read(f, "../testdata/boot/a-sb-sdboot-262/tpm2-pcr-signature.json"))
	f.Add([]byte(`{"sha256":[{"pcrs":[11],"pkfp":"` + hex.EncodeToString(make([]byte, 32)) + `","ref":"initrd","pol":"` +
		hex.EncodeToString(make([]byte, 32)) + `","tbs":"00","sig":""}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if p, err := policy.ParsePCRPolicies(raw); err != nil {
			require.Nil(t, p)
		} else {
			b, err := p.MarshalJSON()
			require.NoError(t, err)
			again, err := policy.ParsePCRPolicies(b)
			require.NoError(t, err)
			require.ElementsMatch(t, p, again) // banks without entries are not written
		}
		s, err := policy.ParseSignatures(raw)
		if err != nil {
			require.Nil(t, s)
			return
		}
		b, err := s.MarshalJSON()
		require.NoError(t, err)
		again, err := policy.ParseSignatures(b)
		require.NoError(t, err)
		require.Equal(t, s, again)
		twice, err := again.MarshalJSON()
		require.NoError(t, err)
		require.Equal(t, b, twice)
	})
}
