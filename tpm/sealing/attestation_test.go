package sealing

import (
	"bytes"
	"crypto"
	"encoding/json"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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
	_, err = s.Quote(key, nil, pcrs)
	require.Error(t, err)
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
	f.Fuzz(func(t *testing.T, public []byte) {
		key, err := (&AttestationKey{Public: public}).PublicKey()
		assert.Equal(t, err == nil, key != nil)
		challenge, _, err := NewChallenge(public, bytes.Repeat([]byte{1}, 34))
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
