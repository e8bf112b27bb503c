package cosign

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
)

// ParseKeys returns the public keys of a PEM file such as cosign.pub; there must be
// at least one, and nothing but public keys.
func ParseKeys(text []byte) ([]crypto.PublicKey, error) {
	var keys []crypto.PublicKey
	for len(bytes.TrimSpace(text)) > 0 {
		block, rest := pem.Decode(text)
		if block == nil {
			return nil, errors.New("cosign: key: not a PEM block")
		}
		key, err := cryptoutils.UnmarshalPEMToPublicKey(pem.EncodeToMemory(block))
		if err != nil {
			return nil, fmt.Errorf("cosign: key: PEM block %q: %w", block.Type, err)
		}
		if err := checkKey(key); err != nil {
			return nil, err
		}
		keys, text = append(keys, key), rest
	}
	if len(keys) == 0 {
		return nil, errors.New("cosign: key: the file is empty")
	}
	return keys, nil
}

// checkKey refuses keys that are of another kind, or too weak.
func checkKey(key crypto.PublicKey) error {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		if key == nil {
			return errors.New("cosign: key: nil")
		}
	case *rsa.PublicKey:
		if key == nil {
			return errors.New("cosign: key: nil")
		}
	case ed25519.PublicKey:
		if len(key) != ed25519.PublicKeySize {
			return fmt.Errorf("cosign: key: %d bytes, want %d for Ed25519", len(key), ed25519.PublicKeySize)
		}
	default:
		return fmt.Errorf("cosign: key: %T is not supported, want *ecdsa.PublicKey, *rsa.PublicKey or ed25519.PublicKey", key)
	}
	if err := cryptoutils.ValidatePubKey(key); err != nil {
		return fmt.Errorf("cosign: key: %w", err)
	}
	return nil
}

// KeyHint returns the name that bundles have for a key: the SHA-256 of its
// SubjectPublicKeyInfo, in base64.
func KeyHint(key crypto.PublicKey) (string, error) {
	der, err := cryptoutils.MarshalPublicKeyToDER(key)
	if err != nil {
		return "", fmt.Errorf("cosign: key: %w", err)
	}
	sum := sha256.Sum256(der)
	return base64.StdEncoding.EncodeToString(sum[:]), nil
}

// signingHash returns the hash that cosign signs with. The simple-signing format
// takes SHA-256 for every key, bundles take what fits the key. It is 0 for Ed25519,
// which signs the message itself.
func signingHash(key crypto.PublicKey, format Format) (crypto.Hash, error) {
	if _, ok := key.(ed25519.PublicKey); ok {
		return 0, nil
	}
	if format == SimpleSigning {
		return crypto.SHA256, nil
	}
	details, err := signature.GetDefaultAlgorithmDetails(key)
	if err != nil {
		return 0, fmt.Errorf("cosign: key: %w", err)
	}
	return details.GetHashType(), nil
}

// verifySignature verifies a signature with the hash of either format, since tools
// can be told to use the other.
func verifySignature(key crypto.PublicKey, message, sig []byte) error {
	tried := map[crypto.Hash]bool{}
	for _, format := range []Format{SimpleSigning, Bundle} {
		hash, err := signingHash(key, format)
		if err != nil {
			return err
		}
		if tried[hash] {
			continue
		}
		tried[hash] = true
		verifier, err := signature.LoadVerifier(key, hash)
		if err != nil {
			return fmt.Errorf("cosign: key: %w", err)
		}
		if verifier.VerifySignature(bytes.NewReader(sig), bytes.NewReader(message)) == nil {
			return nil
		}
	}
	return ErrOtherKey
}
