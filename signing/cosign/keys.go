package cosign

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/options"

	"github.com/osmith-dev/osmith/internal/keycheck"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// ParseKeys returns the public keys of a PEM file such as cosign.pub; there must be at least one,
// and no other PEM blocks. Of a certificate, only the key counts: its dates and names are ignored.
func ParseKeys(text []byte) ([]crypto.PublicKey, error) {
	keys, err := parseKeys(text)
	return keys, prefix.Error("cosign", err)
}

func parseKeys(text []byte) ([]crypto.PublicKey, error) {
	var keys []crypto.PublicKey
	for len(bytes.TrimSpace(text)) > 0 {
		block, rest := pem.Decode(text)
		if block == nil {
			return nil, errors.New("key: not a PEM block")
		}
		key, err := parseKey(block)
		if err != nil {
			return nil, fmt.Errorf("key: PEM block %q: %w", block.Type, err)
		}
		if err := checkKey(key); err != nil {
			return nil, err
		}
		keys, text = append(keys, key), rest
	}
	if len(keys) == 0 {
		return nil, errors.New("key: the file is empty")
	}
	return keys, nil
}

func parseKey(block *pem.Block) (crypto.PublicKey, error) {
	if block.Type != string(cryptoutils.CertificatePEMType) {
		return cryptoutils.UnmarshalPEMToPublicKey(pem.EncodeToMemory(block))
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	return cert.PublicKey, nil
}

// Sizes of RSA keys, in bits: smaller keys can be broken; larger keys only cost time.
const (
	minRSA = 2048
	maxRSA = 16384
)

// checkKey refuses keys that are of another kind, or too weak.
func checkKey(key crypto.PublicKey) error {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		if key == nil || key.Curve != elliptic.P256() && key.Curve != elliptic.P384() && key.Curve != elliptic.P521() {
			return errors.New("key: ECDSA needs a key on P-256, P-384 or P-521")
		}
	case *rsa.PublicKey:
		if key == nil || key.N == nil {
			return errors.New("key: the RSA key is empty")
		}
		if n := key.N.BitLen(); n < minRSA || n > maxRSA {
			return fmt.Errorf("key: RSA with %d bits, want %d to %d", n, minRSA, maxRSA)
		}
	case ed25519.PublicKey:
		if len(key) != ed25519.PublicKeySize {
			return fmt.Errorf("key: %d bytes, want %d for Ed25519", len(key), ed25519.PublicKeySize)
		}
	default:
		return fmt.Errorf("key: %T is not supported, want *ecdsa.PublicKey, *rsa.PublicKey or ed25519.PublicKey", key)
	}
	return nil
}

// KeyHint returns the hint that bundles carry for a key: the SHA-256 of its SubjectPublicKeyInfo,
// in base64.
func KeyHint(key crypto.PublicKey) (string, error) {
	der, err := cryptoutils.MarshalPublicKeyToDER(key)
	if err != nil {
		return "", prefix.Error("cosign", fmt.Errorf("key: %w", err))
	}
	sum := sha256.Sum256(der)
	return base64.StdEncoding.EncodeToString(sum[:]), nil
}

// signingHash returns the hash that cosign signs with: SHA-256 for every key, even
// where its curve would deserve a longer one (cosign 3.1 refuses a bundle that was
// signed with P-384 and SHA-384). It is 0 for Ed25519, which signs the message itself.
func signingHash(key crypto.PublicKey) crypto.Hash {
	if _, ok := key.(ed25519.PublicKey); ok {
		return 0
	}
	return crypto.SHA256
}

// verifiers returns what may have made a signature with the key: the algorithm that
// cosign takes by default, and the one that Sigstore's registry of algorithms assigns
// to the key, which tools can be told to take. For Ed25519 the other is Ed25519ph,
// with which cosign 3.1 signs; for RSA it is PSS. The algorithms cannot be mistaken for
// one another.
func verifiers(key crypto.PublicKey) ([]signature.Verifier, error) {
	if err := keycheck.Public(key); err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	algorithms := [][]signature.LoadOption{{options.WithHash(crypto.SHA256)}}
	switch key.(type) {
	case ed25519.PublicKey:
		algorithms = append(algorithms, []signature.LoadOption{options.WithED25519ph()})
	case *rsa.PublicKey:
		pss := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto, Hash: crypto.SHA256}
		algorithms = append(algorithms, []signature.LoadOption{options.WithHash(crypto.SHA256), options.WithRSAPSS(pss)})
	case *ecdsa.PublicKey:
		details, err := signature.GetDefaultAlgorithmDetails(key)
		if err != nil {
			return nil, fmt.Errorf("key: %w", err)
		}
		if h := details.GetHashType(); h != crypto.SHA256 {
			algorithms = append(algorithms, []signature.LoadOption{options.WithHash(h)})
		}
	}
	var all []signature.Verifier
	for _, o := range algorithms {
		v, err := signature.LoadVerifierWithOpts(key, o...)
		if err != nil {
			return nil, fmt.Errorf("key: %w", err)
		}
		all = append(all, v)
	}
	return all, nil
}

// verifySignature reports whether a key made a signature, with ErrOtherKey if not.
func verifySignature(key crypto.PublicKey, message, sig []byte) error {
	all, err := verifiers(key)
	if err != nil {
		return err
	}
	// The first of Sigstore's verifiers for Ed25519 would do the same with a copy of the message.
	if key, ok := key.(ed25519.PublicKey); ok {
		if ed25519.Verify(key, message, sig) {
			return nil
		}
		all = all[1:]
	}
	for _, v := range all {
		if v.VerifySignature(bytes.NewReader(sig), bytes.NewReader(message)) == nil {
			return nil
		}
	}
	return ErrOtherKey
}
