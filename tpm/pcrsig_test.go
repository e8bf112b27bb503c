package tpm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// testKey is made once; its signatures are only compared with each other.
var testKey = func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
}()

// The .pcrsig sections of real UKIs: our policies over their measurements are theirs, their signatures are valid, and
// our writer gives their bytes.
func TestSignaturesRealUKIs(t *testing.T) {
	for _, v := range bootVectors(t) {
		t.Run(v.name, func(t *testing.T) {
			key := vectorKey(t)
			sigs, err := ParseSignatures(v.pcrsig)
			require.NoError(t, err)
			require.NotEmpty(t, sigs)
			for _, s := range sigs {
				assert.NoError(t, s.Verify(key))
			}
			raw, err := sigs.MarshalJSON()
			require.NoError(t, err)
			assert.Equal(t, string(v.pcrsig), string(raw))

			policies, err := PreparePolicies(key, []crypto.Hash{crypto.SHA256}, v.boot.Sections, nil, "")
			require.NoError(t, err)
			require.Len(t, policies, len(sigs))
			values := make([][]byte, len(sigs))
			for i := range sigs {
				assert.Equal(t, sigs[i].Policy, policies[i])
				found, ok := sigs.Find(policies[i])
				assert.True(t, ok)
				values[i] = found.Value
			}
			joined, err := policies.Join(key, values)
			require.NoError(t, err)
			assert.Equal(t, sigs, joined)
		})
	}
}

func TestPolicyGolden(t *testing.T) {
	for _, c := range []struct {
		bank crypto.Hash
		want string
	}{
		{crypto.SHA256, "b162986d4e896d9b209de8d3df8f0fdf6e6387f6697ba4fbf6d484fe3ba81728"},
		{crypto.SHA384, "4e704826970b50bb468b50f9d2f6b46771b8b55ca9522c95b3e90b979d638305"},
	} {
		pcr, err := PCR11(c.bank, golden(), PhaseEnterInitrd)
		require.NoError(t, err)
		d, err := PolicyPCR(PolicyDigest{}, c.bank, map[int][]byte{11: pcr})
		require.NoError(t, err)
		assert.Equal(t, c.want, d.String())
		assert.Equal(t, c.want+"09e6c018d2c8c4903308613dd1b72484d57eadf12ec50ddc8f52e5accce470f2",
			hexOf(Policy{Digest: d, Ref: "initrd"}.TBS()))
	}
}

func TestSignPolicies(t *testing.T) {
	sigs, err := SignPolicies(testKey, nil, golden(), nil)
	require.NoError(t, err)
	require.Len(t, sigs, 16)
	again, err := SignPolicies(testKey, nil, golden(), nil)
	require.NoError(t, err)
	assert.Equal(t, sigs, again, "deterministic")
	for _, s := range sigs {
		digest := sha256.Sum256(s.Digest[:])
		assert.NoError(t, rsa.VerifyPKCS1v15(&testKey.PublicKey, crypto.SHA256, digest[:], s.Value), "SHA-256 whatever the bank")
	}
	raw, err := sigs.MarshalJSON()
	require.NoError(t, err)
	parsed, err := ParseSignatures(append(raw, "\n\x00\x00\x00"...))
	require.NoError(t, err)
	assert.Equal(t, sigs, parsed)
	compact, err := json.Marshal(sigs)
	require.NoError(t, err)
	assert.NotContains(t, string(compact), " ")
	parsed, err = ParseSignatures(compact)
	require.NoError(t, err)
	assert.Equal(t, sigs, parsed)
}

// systemd-measure sorts phase paths by their text and drops repetitions; ":" is the moment after the stub.
func TestPreparePoliciesOrder(t *testing.T) {
	paths := [][]string{{"sysinit", "b"}, nil, {"a", "c"}, {"a"}, {"a", "c"}, {}}
	got, err := PreparePolicies(&testKey.PublicKey, []crypto.Hash{crypto.SHA512, crypto.SHA384}, golden(), paths, "")
	require.NoError(t, err)
	require.Len(t, got, 8)
	for i, path := range [][]string{nil, {"a"}, {"a", "c"}, {"sysinit", "b"}} {
		pcr, err := PCR11(crypto.SHA384, golden(), path...)
		require.NoError(t, err)
		d, err := PolicyPCR(PolicyDigest{}, crypto.SHA384, map[int][]byte{11: pcr})
		require.NoError(t, err)
		assert.Equal(t, d, got[i].Digest)
		assert.Equal(t, crypto.SHA384, got[i].Bank)
	}
}

// pssSigner is a broken HSM: it signs with another scheme than it was asked for.
type pssSigner struct{ *rsa.PrivateKey }

func (s pssSigner) Sign(r io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	return s.PrivateKey.Sign(r, digest, &rsa.PSSOptions{Hash: crypto.SHA256})
}

func TestSignPoliciesErrors(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	_, err = SignPolicies(ec, nil, golden(), nil)
	assert.ErrorIs(t, err, ErrKey)
	_, err = SignPolicies(nil, nil, golden(), nil)
	assert.ErrorIs(t, err, ErrKey)
	_, err = SignPolicies(pssSigner{testKey}, nil, golden(), nil)
	assert.ErrorIs(t, err, rsa.ErrVerification)
	_, err = PreparePolicies(&rsa.PublicKey{N: testKey.N, E: 3}, nil, golden(), nil, "")
	assert.ErrorIs(t, err, ErrKey)
	_, err = PreparePolicies(&testKey.PublicKey, nil, golden(), [][]string{}, "")
	assert.ErrorContains(t, err, "no banks or no phase paths")
	_, err = PreparePolicies(&testKey.PublicKey, nil, golden(), [][]string{{"a:b"}}, "")
	assert.ErrorContains(t, err, `phase "a:b"`)
	_, err = PreparePolicies(&testKey.PublicKey, nil, golden(), nil, "a\"b")
	assert.ErrorContains(t, err, "policy reference")

	p, err := PreparePolicies(&testKey.PublicKey, []crypto.Hash{crypto.SHA256}, golden(), nil, "")
	require.NoError(t, err)
	_, err = p.Join(&testKey.PublicKey, nil)
	assert.ErrorContains(t, err, "joining 0 signatures with 4 policies")
	_, err = p.Join(&testKey.PublicKey, make([][]byte, 4))
	assert.ErrorIs(t, err, rsa.ErrVerification)
	_, err = p.Join(vectorKey(t), make([][]byte, 4))
	assert.ErrorContains(t, err, "not by")
}

func TestPoliciesJSON(t *testing.T) {
	p, err := PreparePolicies(&testKey.PublicKey, nil, golden(), nil, "initrd")
	require.NoError(t, err)
	raw, err := p.MarshalJSON()
	require.NoError(t, err)
	got, err := ParsePolicies(raw)
	require.NoError(t, err)
	assert.Equal(t, p, got)
	_, err = ParseSignatures(raw)
	assert.ErrorContains(t, err, "sig: no value")
	sigs, err := p.Sign(testKey)
	require.NoError(t, err)
	signed, err := sigs.MarshalJSON()
	require.NoError(t, err)
	assert.True(t, bytes.Contains(signed, []byte(`", "ref": "initrd", "pol": "`)))
	_, err = ParsePolicies(signed)
	assert.ErrorContains(t, err, "signed already")
}

func TestParseSignaturesErrors(t *testing.T) {
	entry := func(change ...string) string {
		s := `{"pcrs":[11],"pkfp":"` + strings.Repeat("ab", 32) + `","pol":"` + strings.Repeat("cd", 32) + `","sig":"AA=="}`
		return strings.NewReplacer(change...).Replace(s)
	}
	_, err := ParseSignatures([]byte(`{"sha256":[` + entry() + `]}`))
	require.NoError(t, err)
	for _, c := range []struct{ name, in, want string }{
		{"empty", "", "unexpected EOF"},
		{"array", "[]", "want {"},
		{"truncated", `{"sha256":[`, "sha256 at 0xb"},
		{"unknown bank", `{"md5":[]}`, "not a PCR bank that is known here"},
		{"bank in capitals", `{"SHA256":[]}`, "not a PCR bank that is known here"},
		{"bank twice", `{"sha256":[],"sha256":[]}`, "comes twice"},
		{"bank not array", `{"sha256":{}}`, "want an array"},
		{"more", `{} {}`, "something follows"},
		{"pcrs missing", `{"sha256":[` + entry(`"pcrs":[11],`, "") + `]}`, "pcrs: no value"},
		{"pcrs order", `{"sha256":[` + entry(`[11]`, "[11,4]") + `]}`, "want ascending"},
		{"pcrs range", `{"sha256":[` + entry(`[11]`, "[24]") + `]}`, "want ascending"},
		{"pkfp short", `{"sha256":[` + entry("abab", "ab") + `]}`, "pkfp: 32 characters"},
		{"pol hex", `{"sha256":[` + entry("cd", "xy") + `]}`, "pol: encoding/hex"},
		{"sig base64", `{"sha256":[` + entry("AA==", "A") + `]}`, "sig: illegal base64"},
		{"ref empty", `{"sha256":[` + entry(`"pcrs"`, `"ref":"","pcrs"`) + `]}`, "ref:"},
		{"tbs wrong", `{"sha256":[` + entry(`"pcrs"`, `"tbs":"00","pcrs"`) + `]}`, "tbs:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseSignatures([]byte(c.in))
			require.ErrorContains(t, err, c.want)
			assert.Nil(t, got)
			var format *FormatError
			require.True(t, errors.As(err, &format))
			assert.ErrorIs(t, err, format.Err)
			assert.Equal(t, strings.Contains(c.name, "bank") && strings.Contains(c.want, "known"), errors.Is(err, ErrBank))
			assert.True(t, strings.HasPrefix(err.Error(), "tpm: .pcrsig: "), err.Error())
		})
	}
}
