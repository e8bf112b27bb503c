package sealing

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSealUnseal(t *testing.T) {
	s := newTPM(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	sigs := s.signState(t, key, "")
	for name, p := range map[string]Policy{
		"tpm":    {},
		"pcr":    {PCRs: []int{0, 7}},
		"sha384": {PCRs: []int{0, 7}, Bank: crypto.SHA384},
		"pin":    {PIN: "1234"},
		"argon":  {PIN: "1234", Argon2id: &Argon2id{Memory: 1 << 20, Iterations: 1, Lanes: 2}},
		"signed": {PublicKey: &key.PublicKey},
		"all":    {PublicKey: &key.PublicKey, PCRs: []int{7}, PIN: "x"},
	} {
		t.Run(name, func(t *testing.T) {
			secret := p.NewSecret()
			token, err := s.Seal(secret, p, Unlock{Signatures: sigs})
			require.NoError(t, err)
			text, err := token.MarshalJSON()
			require.NoError(t, err)
			again, err := ParseToken(text)
			require.NoError(t, err)
			got, err := s.Unseal(again, Unlock{PIN: p.PIN, Signatures: sigs})
			require.NoError(t, err)
			want, err := token.Secret(secret, p.PIN)
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
}
