// Package keycheck bounds public keys that come with the input, before they are used: an operation
// with an RSA key of 131,072 bits takes seconds, one with a key of a few megabytes hours.
package keycheck

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
)

// Bounds of RSA keys, those of OpenSSL (include/openssl/rsa.h), and so of firmware.
const (
	maxModulusBits   = 16384
	smallModulusBits = 3072
	maxExponentBits  = 64 // with a modulus that is not small
)

// RSA says why an RSA key with a modulus and an exponent is not used.
func RSA(n, e *big.Int) error {
	switch bits := n.BitLen(); {
	case bits > maxModulusBits:
		return fmt.Errorf("an RSA key of %d bits: at most %d are used", bits, maxModulusBits)
	case bits > smallModulusBits && e.BitLen() > maxExponentBits:
		return fmt.Errorf("an exponent of %d bits with an RSA key of %d: at most %d are used", e.BitLen(), bits, maxExponentBits)
	case bits < 64 || e.Sign() <= 0 || e.Cmp(n) >= 0:
		return errors.New("an invalid RSA key")
	}
	return nil
}

// Public says why a public key is not used: it is an RSA key beyond the bounds, or of a kind or
// curve that is not known. Known are RSA, ECDSA over the curves of NIST, and Ed25519.
func Public(key crypto.PublicKey) error {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if k == nil || k.N == nil {
			return errors.New("an RSA key without a modulus")
		}
		return RSA(k.N, big.NewInt(int64(k.E)))
	case *ecdsa.PublicKey:
		if k == nil || k.Curve == nil {
			return errors.New("an ECDSA key without a curve")
		}
		if bits := k.Curve.Params().BitSize; bits > 521 {
			return fmt.Errorf("an ECDSA key over a curve of %d bits: at most 521 are used", bits)
		}
		return nil
	case ed25519.PublicKey:
		return nil
	}
	return fmt.Errorf("a key of type %T: want RSA, ECDSA or Ed25519", key)
}
