package sealing

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/tpm"
)

func TestQuote(t *testing.T) {
	t.Parallel()
	s := newTPM(t)
	key, err := s.CreateAttestationKey()
	require.NoError(t, err)
	text, err := json.Marshal(key)
	require.NoError(t, err)
	var again AttestationKey
	require.NoError(t, json.Unmarshal(text, &again))
	s.reboot(t, measured{7, "secure boot"})
	nonce := []byte("of the verifier")
	pcrs := map[crypto.Hash][]int{crypto.SHA256: {0, 4, 7}, crypto.SHA384: {7}}
	q, err := s.Quote(&again, nonce, pcrs)
	require.NoError(t, err)

	public, err := key.PublicKey()
	require.NoError(t, err)
	quoted, err := tpm.VerifyQuote(public, q.Attest, q.Signature, nonce)
	require.NoError(t, err)
	require.True(t, quoted.Has(crypto.SHA256, 0, 4, 7))
	require.NoError(t, quoted.Check(q.PCRs))
	log, err := tpm.ParseLog(eventLog([]measured{{0, "firmware"}, {7, "secure boot"}}))
	require.NoError(t, err)
	require.NoError(t, log.VerifyQuote(quoted))
	other, err := tpm.ParseLog(eventLog([]measured{{0, "firmware"}, {7, "none"}}))
	require.NoError(t, err)
	require.Error(t, other.VerifyQuote(quoted))

	stranger := newTPM(t)
	_, err = stranger.Quote(key, nonce, pcrs)
	require.ErrorIs(t, err, ErrMissingKey)
	for _, bad := range []map[crypto.Hash][]int{nil, {crypto.SHA256: nil}, {crypto.SHA256: {7, 0}}, {crypto.MD5: {0}}} {
		_, err = s.Quote(key, nonce, bad)
		require.Error(t, err)
	}
	for _, none := range [][]byte{nil, {}, make([]byte, 32)} {
		_, err = s.Quote(key, none, pcrs)
		require.ErrorIs(t, err, tpm.ErrNoNonce)
	}
	_, err = s.Quote(key, make([]byte, 33), pcrs)
	require.ErrorContains(t, err, "33 bytes")

	text, err = json.Marshal(q)
	require.NoError(t, err)
	var sent Quote
	require.NoError(t, json.Unmarshal(text, &sent))
	_, proved, err := sent.Verify(public, nonce)
	require.NoError(t, err)
	require.Equal(t, q.PCRs, proved)
}

// attestationArea is the public half of an attestation key that no TPM has.
func attestationArea(t testing.TB, change func(*tpm2.TPMTPublic)) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	public := attestationTemplate(&storageKey{})
	public.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
		X: tpm2.TPM2BECCParameter{Buffer: key.X.FillBytes(make([]byte, 32))}, Y: tpm2.TPM2BECCParameter{Buffer: key.Y.FillBytes(make([]byte, 32))},
	})
	if change != nil {
		change(&public)
	}
	return tpm2.Marshal(public)
}

// TestNames are names that a challenge can be made out to, and such that tie it to no key.
func TestNames(t *testing.T) {
	area := attestationArea(t, nil)
	key := &AttestationKey{Public: area}
	name, err := key.Name()
	require.NoError(t, err)
	_, err = key.PublicKey()
	require.NoError(t, err)
	ek := ekArea(t, nil)
	_, _, err = NewChallenge(ek, name)
	require.NoError(t, err)
	good := func(algorithm byte, size int) []byte { return append([]byte{0, algorithm}, make([]byte, size)...) }
	for _, ok := range [][]byte{good(0x0b, 32), good(0x0c, 48), good(0x0d, 64)} {
		_, _, err = NewChallenge(ek, ok)
		require.NoError(t, err)
	}
	for what, bad := range map[string][]byte{
		"none": nil, "one byte": {0}, "an algorithm alone": {0, 0x0b}, "SHA-1": good(4, 20), "short": name[:33], "long": append(bytes.Clone(name), 0), "SHA-384 of SHA-256": good(0x0c, 32),
		"no algorithm": good(0x99, 32), "null": good(0x10, 0), "a handle": {0x81, 0, 0, 1},
	} {
		challenge, answer, err := NewChallenge(ek, bad)
		require.ErrorIs(t, err, ErrName, what)
		require.ErrorAs(t, err, new(*osmith.FormatError), what)
		require.Nil(t, challenge, what)
		require.Nil(t, answer, what)
	}

	for what, bad := range map[string][]byte{
		"SHA-1":      attestationArea(t, func(p *tpm2.TPMTPublic) { p.NameAlg = tpm2.TPMAlgSHA1 }),
		"no name":    attestationArea(t, func(p *tpm2.TPMTPublic) { p.NameAlg = tpm2.TPMAlgNull }),
		"trailing":   append(bytes.Clone(area), 0),
		"cut":        area[:len(area)-1],
		"decrypts":   attestationArea(t, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Decrypt = true }),
		"of any TPM": attestationArea(t, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.FixedTPM = false }),
		"of a group": attestationArea(t, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.FixedParent = false }),
		"imported":   attestationArea(t, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.SensitiveDataOrigin = false }),
		"no signer":  attestationArea(t, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.SignEncrypt = false }),
		"no key":     attestationArea(t, func(p *tpm2.TPMTPublic) { p.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{}) }),
		"of anybody": attestationArea(t, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Restricted = false }),
	} {
		key := &AttestationKey{Public: bad}
		_, err := key.PublicKey()
		require.ErrorAs(t, err, new(*osmith.FormatError), what)
		require.Equal(t, what == "SHA-1" || what == "no name", errors.Is(err, ErrName), what)
		name, nameErr := key.Name()
		require.Equal(t, err, nameErr, what)
		require.Nil(t, name, what)
	}
}

// TestEndorsementKeys are keys that a challenge is not made for: a holder of their private half is
// not known to be one TPM.
func TestEndorsementKeys(t *testing.T) {
	name := append([]byte{0, 0x0b}, make([]byte, 32)...)
	answers := map[string]bool{}
	for range 2 {
		challenge, answer, err := NewChallenge(ekArea(t, nil), name)
		require.NoError(t, err)
		require.NotContains(t, string(challenge.Credential), string(answer))
		answers[string(answer)] = true
	}
	require.Len(t, answers, 2, "random")
	for what, change := range map[string]func(*tpm2.TPMTPublic){
		"SHA-384":    func(p *tpm2.TPMTPublic) { p.NameAlg = tpm2.TPMAlgSHA384 },
		"of any TPM": func(p *tpm2.TPMTPublic) { p.ObjectAttributes.FixedTPM = false },
		"of a group": func(p *tpm2.TPMTPublic) { p.ObjectAttributes.FixedParent = false },
		"imported":   func(p *tpm2.TPMTPublic) { p.ObjectAttributes.SensitiveDataOrigin = false },
		"of anybody": func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Restricted = false },
		"no storage": func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Decrypt = false },
		"a signer":   func(p *tpm2.TPMTPublic) { p.ObjectAttributes.SignEncrypt = true },
		"no policy":  func(p *tpm2.TPMTPublic) { p.AuthPolicy.Buffer = nil },
		"no key":     func(p *tpm2.TPMTPublic) { p.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{}) },
	} {
		challenge, answer, err := NewChallenge(ekArea(t, change), name)
		require.Error(t, err, what)
		require.Nil(t, challenge, what)
		require.Nil(t, answer, what)
	}
	_, _, err := NewChallenge(ekArea(t, nil)[1:], name)
	require.ErrorAs(t, err, new(*osmith.FormatError))
}

// TestQuoteArguments are refused before the TPM is asked.
func TestQuoteArguments(t *testing.T) {
	key := &AttestationKey{Public: attestationArea(t, nil)}
	good := map[crypto.Hash][]int{crypto.SHA256: {7}}
	for want, tt := range map[string]struct {
		nonce []byte
		pcrs  map[crypto.Hash][]int
	}{
		"no nonce": {nil, good},
		"no nonce, or a nonce of zeros: want the random nonce that the quote was requested with": {make([]byte, 32), good},
		"33 bytes":              {bytes.Repeat([]byte{1}, 33), good},
		"sha256 PCRs []":        {[]byte("nonce"), map[crypto.Hash][]int{crypto.SHA256: {}}},
		"sha256 PCRs [7 0]":     {[]byte("nonce"), map[crypto.Hash][]int{crypto.SHA256: {7, 0}}},
		"banks: not a PCR bank": {[]byte("nonce"), map[crypto.Hash][]int{crypto.SHA256: {7}, crypto.MD5: {7}}},
		"quote: banks: ":        {[]byte("nonce"), nil},
	} {
		s := newScripted(t, registers{})
		q, err := New(s).Quote(key, tt.nonce, tt.pcrs)
		require.ErrorContains(t, err, want)
		require.Nil(t, q)
		require.Empty(t, s.commands)
	}
}

// ekArea is the public half of an endorsement key that no TPM has.
func ekArea(t testing.TB, change func(*tpm2.TPMTPublic)) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	public := tpm2.ECCEKTemplate
	public.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
		X: tpm2.TPM2BECCParameter{Buffer: key.X.FillBytes(make([]byte, 32))}, Y: tpm2.TPM2BECCParameter{Buffer: key.Y.FillBytes(make([]byte, 32))},
	})
	if change != nil {
		change(&public)
	}
	return tpm2.Marshal(public)
}

func TestChallenge(t *testing.T) {
	t.Parallel()
	s, stranger := newTPM(t), newTPM(t)
	key, err := s.CreateAttestationKey()
	require.NoError(t, err)
	ek, err := s.EndorsementKey()
	require.NoError(t, err)
	name, err := key.Name()
	require.NoError(t, err)
	challenge, want, err := NewChallenge(ek, name)
	require.NoError(t, err)
	got, err := s.Answer(key, challenge)
	require.NoError(t, err)
	require.Equal(t, want, got)

	second, err := s.CreateAttestationKey()
	require.NoError(t, err)
	_, err = s.Answer(second, challenge)
	require.ErrorIs(t, err, ErrChallenge)
	theirs, err := stranger.CreateAttestationKey()
	require.NoError(t, err)
	_, err = stranger.Answer(theirs, challenge)
	require.ErrorIs(t, err, ErrChallenge)

	// The persistent key is used if there is one, here RSA.
	created, err := execute(s.TPM, tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(tpm2.RSAEKTemplate)})
	require.NoError(t, err)
	_, err = execute(s.TPM, tpm2.EvictControl{
		Auth: tpm2.TPMRHOwner, ObjectHandle: tpm2.NamedHandle{Handle: created.ObjectHandle, Name: created.Name}, PersistentHandle: EKHandle,
	})
	require.NoError(t, err)
	s.flush(created.ObjectHandle)
	rsaEK, err := s.EndorsementKey()
	require.NoError(t, err)
	require.NotEqual(t, ek, rsaEK)
	challenge, want, err = NewChallenge(rsaEK, name)
	require.NoError(t, err)
	got, err = s.Answer(key, challenge)
	require.NoError(t, err)
	require.Equal(t, want, got)

	_, _, err = NewChallenge(key.Public, name)
	require.Error(t, err, "not an endorsement key")
	_, err = (&AttestationKey{Public: ek}).PublicKey()
	require.Error(t, err)
}

func FuzzKeys(f *testing.F) {
	f.Add(tpm2.Marshal(tpm2.ECCEKTemplate))
	f.Add(tpm2.Marshal(tpm2.RSAEKTemplate))
	f.Add(tpm2.Marshal(attestationTemplate(&storageKey{})))
	f.Add(attestationArea(f, nil))
	f.Add(ekArea(f, nil))
	f.Fuzz(func(t *testing.T, public []byte) {
		key, err := (&AttestationKey{Public: public}).PublicKey()
		assert.Equal(t, err == nil, key != nil)
		challenge, _, err := NewChallenge(public, append([]byte{0, 0x0b}, make([]byte, 32)...))
		assert.Equal(t, err == nil, challenge != nil)
	})
}

// TestRSA has a storage root key that is RSA, as on TPMs without curves.
func TestRSA(t *testing.T) {
	t.Parallel()
	s := newTPM(t)
	created, err := s.createPrimary(rsaTemplate())
	require.NoError(t, err)
	_, err = execute(s.TPM, tpm2.EvictControl{
		Auth: tpm2.TPMRHOwner, ObjectHandle: tpm2.NamedHandle{Handle: created.ObjectHandle, Name: created.Name}, PersistentHandle: SRKHandle,
	})
	require.NoError(t, err)
	s.flush(created.ObjectHandle)
	token, err := s.Seal([]byte("secret"), Policy{PCRs: []int{7}, PIN: "1"}, Unlock{})
	require.NoError(t, err)
	require.Equal(t, "rsa", token.PrimaryAlgorithm)
	key, err := s.CreateAttestationKey()
	require.NoError(t, err)
	q, err := s.Quote(key, []byte("nonce"), map[crypto.Hash][]int{crypto.SHA256: {7}})
	require.NoError(t, err)
	public, err := key.PublicKey()
	require.NoError(t, err)
	_, err = tpm.VerifyQuote(public, q.Attest, q.Signature, []byte("nonce"))
	require.NoError(t, err)
}

// TestForeignSRK refuses a key at the handle that is no storage root key.
func TestForeignSRK(t *testing.T) {
	t.Parallel()
	s := newTPM(t)
	template := attestationTemplate(&storageKey{})
	created, err := s.createPrimary(template)
	require.NoError(t, err)
	_, err = execute(s.TPM, tpm2.EvictControl{
		Auth: tpm2.TPMRHOwner, ObjectHandle: tpm2.NamedHandle{Handle: created.ObjectHandle, Name: created.Name}, PersistentHandle: SRKHandle,
	})
	require.NoError(t, err)
	_, err = s.Seal([]byte("secret"), Policy{}, Unlock{})
	require.ErrorIs(t, err, ErrSRK)
}
