// Package releasecli is what the programs examples/release of this module, of upgrade/release/registry and of signing/cosign/keyless
// have in common: how they are told whom to trust and what to sign with, and how they report what was verified.
package releasecli

import (
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"github.com/osmith-dev/osmith/signing/cosign"
)

// Schema is that of the object which the programs print with -json. The config of a release has "osmith.release/1".
const Schema = "osmith.release-report/1"

// ReadFile reads a document of limited size.
func ReadFile(name string) ([]byte, error) {
	const most = 64 << 20
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && len(b) > most {
		err = fmt.Errorf("%s: more than %d bytes", name, most)
	}
	return b, err
}

// ReadSigner reads a private key: PKCS #8, PKCS #1 or SEC 1, or cosign's own, which is encrypted with what COSIGN_PASSWORD holds.
func ReadSigner(name string) (crypto.Signer, error) {
	text, err := ReadFile(name)
	if err != nil {
		return nil, err
	}
	key, err := cryptoutils.UnmarshalPEMToPrivateKey(text, func(bool) ([]byte, error) {
		password, ok := os.LookupEnv("COSIGN_PASSWORD")
		if !ok {
			return nil, errors.New("it is encrypted, and COSIGN_PASSWORD is not set")
		}
		return []byte(password), nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s: a key of type %T cannot sign", name, key)
	}
	return signer, nil
}

// readKeys reads the public keys of some files.
func readKeys(names []string) (keys []crypto.PublicKey, err error) {
	for _, name := range names {
		text, err := ReadFile(name)
		if err != nil {
			return nil, err
		}
		some, err := cosign.ParseKeys(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		keys = append(keys, some...)
	}
	return keys, nil
}

// Fingerprint is the SHA-256 of a key's SubjectPublicKeyInfo.
func Fingerprint(key crypto.PublicKey) (string, error) {
	der, err := cryptoutils.MarshalPublicKeyToDER(key)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// FormatNames are those of -format, for signatures and for attestations.
var FormatNames = map[cosign.Format]string{cosign.FormatSimpleSigning: "legacy", cosign.FormatDSSE: "legacy", cosign.FormatBundle: "bundle"}

// Formats returns what -format asks for; legacy is the old format of what is to be written.
func Formats(name string, legacy cosign.Format, unsaid ...cosign.Format) ([]cosign.Format, error) {
	switch name {
	case "":
		return unsaid, nil
	case "legacy":
		return []cosign.Format{legacy}, nil
	case "bundle":
		return []cosign.Format{cosign.FormatBundle}, nil
	}
	return nil, usagef("-format %q: want legacy or bundle", name)
}
