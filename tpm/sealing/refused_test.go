package sealing

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/tpm/policy"
)

// TestRefusedPolicies are such that make no sense or protect nothing.
func TestRefusedPolicies(t *testing.T) {
	t.Parallel()
	s := newTPM(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	odd := key.PublicKey
	odd.E = 3
	now, err := s.PCRs(crypto.SHA256, 7)
	require.NoError(t, err)
	lock := &policy.PCRLock{Bank: crypto.SHA256, NVIndex: 0x01800077, Values: map[int][][]byte{7: {now[7]}}}
	for name, tt := range map[string]struct {
		p   Policy
		err string
	}{
		"PCR":            {Policy{PCRs: []int{24}}, "0 to 23"},
		"PCRs twice":     {Policy{PCRs: []int{7, 7}}, "ascending"},
		"signed PCRs":    {Policy{PublicKeyPCRs: []int{11}}, "without a public key"},
		"reference":      {Policy{PublicKeyRef: "initrd"}, "without a public key"},
		"no signed PCRs": {Policy{PublicKey: &key.PublicKey, PublicKeyPCRs: []int{}}, "a public key without the PCRs that it signs for"},
		"exponent":       {Policy{PublicKey: &odd}, "exponent 3"},
		"bank":           {Policy{PCRs: []int{7}, Bank: crypto.MD5}, "not a PCR bank"},
		"other values":   {Policy{PCRs: []int{7}, Values: map[int][]byte{8: now[7]}}, "values of PCRs [8]"},
		"short values":   {Policy{PCRs: []int{7}, Values: map[int][]byte{7: now[7][:20]}}, "20 bytes, want 32"},
		"argon":          {Policy{Argon2id: &Argon2id{Memory: 1 << 20, Iterations: 1, Lanes: 1}}, "Argon2id without a PIN"},
		"argon cost":     {Policy{PIN: "1", Argon2id: &Argon2id{Memory: 1 << 20, Lanes: 1}}, "0 iterations"},
		"argon lanes":    {Policy{PIN: "1", Argon2id: &Argon2id{Memory: 1 << 20, Iterations: 1}}, "no lanes"},
		"no index":       {Policy{PCRLock: lock}, "no such NV index"},
		"no counter":     {Policy{Floor: &Floor{Index: 0x01800078}}, "no such NV index"},
		"one state":      {Policy{PCRs: []int{7}, Alternatives: []map[int][]byte{now}}, "2 to 64"},
	} {
		token, err := s.Seal([]byte("secret"), tt.p, Unlock{})
		require.ErrorContains(t, err, tt.err, name)
		require.Nil(t, token, name)
	}
	for _, size := range []int{0, 129} {
		_, err := s.Seal(make([]byte, size), Policy{}, Unlock{})
		require.ErrorContains(t, err, "1 to 128")
	}
	_, err = s.Seal(make([]byte, 128), Policy{}, Unlock{})
	require.NoError(t, err)
	both := Policy{PublicKey: &key.PublicKey, PCRLock: lock}
	for _, size := range []int{32, 65} {
		_, err := both.cut(make([]byte, size))
		require.ErrorContains(t, err, "random bytes of its own")
	}
	require.Len(t, both.NewSecret(), 64)
}

func TestHas(t *testing.T) {
	t.Parallel()
	s, other := newTPM(t), newTPM(t)
	token, err := s.Seal([]byte("secret"), Policy{PCRs: []int{7}, PIN: "1"}, Unlock{})
	require.NoError(t, err)
	s.extend(t, 7, []byte("more"))
	require.NoError(t, s.Has(token), "whatever the PCRs are")
	require.ErrorIs(t, other.Has(token), ErrMissingKey)
	require.Error(t, s.Has(&Token{}))
}

// TestStorageKeys are keys that a TPM may show at the handle of the storage root key.
func TestStorageKeys(t *testing.T) {
	for name, change := range map[string]func(*tpm2.TPMTPublic){
		"good":          func(*tpm2.TPMTPublic) {},
		"SHA-384":       func(p *tpm2.TPMTPublic) { p.NameAlg = tpm2.TPMAlgSHA384 },
		"of many TPMs":  func(p *tpm2.TPMTPublic) { p.ObjectAttributes.FixedTPM = false },
		"imported":      func(p *tpm2.TPMTPublic) { p.ObjectAttributes.SensitiveDataOrigin = false },
		"policy":        func(p *tpm2.TPMTPublic) { p.ObjectAttributes.UserWithAuth = false },
		"signs":         func(p *tpm2.TPMTPublic) { p.ObjectAttributes.SignEncrypt = true },
		"not for keys":  func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Restricted = false },
		"another curve": func(p *tpm2.TPMTPublic) { *p = eccWith(tpm2.TPMECCBNP256, tpm2.TPMAlgAES) },
		"no AES":        func(p *tpm2.TPMTPublic) { *p = eccWith(tpm2.TPMECCNistP256, tpm2.TPMAlgCamellia) },
		"RSA 1024": func(p *tpm2.TPMTPublic) {
			*p = rsaTemplate()
			p.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: 1024})
		},
		"no key": func(p *tpm2.TPMTPublic) { p.Type = tpm2.TPMAlgKeyedHash },
	} {
		public := eccTemplate()
		change(&public)
		err := (&storageKey{public: public}).check()
		require.Equal(t, name == "good", err == nil, name)
	}
}

func eccWith(curve tpm2.TPMECCCurve, symmetric tpm2.TPMAlgID) tpm2.TPMTPublic {
	p := eccTemplate()
	p.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
		Symmetric: tpm2.TPMTSymDefObject{Algorithm: symmetric}, CurveID: curve,
	})
	return p
}

// TestErrors are what callers branch on.
func TestErrors(t *testing.T) {
	policy := error(&PolicyError{Err: fmt.Errorf("NV index: %w", ErrNoIndex)})
	require.ErrorIs(t, policy, ErrNoIndex)
	require.EqualError(t, policy, "the policy does not hold: NV index: the TPM has no such NV index")
	for state, text := range map[BankState]string{BankStateAbsent: "no such bank", BankStateZero: "all zero", BankStateOnes: "all ones", 9: "state 9"} {
		require.ErrorContains(t, &BankError{crypto.SHA256, state}, text)
	}
	require.ErrorContains(t, &LockoutError{Lockout{Locked: true, Failed: 3, Most: 3}}, "does not recover by itself")
	require.Equal(t, 5*time.Second, Lockout{Locked: true, Most: 3, Interval: 5 * time.Second}.Wait())
	var bank *BankError
	require.False(t, errors.As(policy, &bank))
}
