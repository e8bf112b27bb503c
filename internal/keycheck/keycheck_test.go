package keycheck

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"
)

func modulus(bits uint) *big.Int { return new(big.Int).SetBit(big.NewInt(1), int(bits-1), 1) }

func TestPublic(t *testing.T) {
	for _, c := range []struct {
		key  crypto.PublicKey
		text string // of the error, "": used
	}{
		{&rsa.PublicKey{N: modulus(2048), E: 65537}, ""},
		{&rsa.PublicKey{N: modulus(512), E: 3}, ""},
		{&rsa.PublicKey{N: modulus(16384), E: 65537}, ""},
		{&rsa.PublicKey{N: modulus(16385), E: 65537}, "16385 bits"},
		{&rsa.PublicKey{N: modulus(2048), E: 0}, "an invalid RSA key"},
		{&rsa.PublicKey{N: big.NewInt(7), E: 3}, "an invalid RSA key"},
		{&rsa.PublicKey{}, "without a modulus"},
		{&ecdsa.PublicKey{Curve: elliptic.P384()}, ""},
		{&ecdsa.PublicKey{}, "without a curve"},
		{&ecdsa.PublicKey{Curve: &elliptic.CurveParams{BitSize: 4096}}, "4096 bits"},
		{ed25519.PublicKey(make([]byte, 32)), ""},
		{nil, "want RSA"},
		{"text", "want RSA"},
	} {
		if err := Public(c.key); c.text == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, c.text)
		}
	}
	require.NoError(t, RSA(modulus(3072), modulus(3000)))
	require.ErrorContains(t, RSA(modulus(4096), modulus(65)), "exponent of 65 bits")
}
