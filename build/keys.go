package build

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"

	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// Keys sign what is built. Each may be in a file, a device or a service, as a
// crypto.Signer. A key that is not given signs nothing: what it would have signed is left unsigned,
// and the result says so.
type Keys struct {
	// SecureBoot signs UKIs and boot loaders. Its certificate, or one above it, is to be in db of
	// the machines.
	SecureBoot secureboot.KeyPair

	// SignOptions are further choices of these signatures, such as the time that they claim.
	SignOptions authenticode.SignOptions

	// PCR are the keys of policies for PCR 11, by which secrets of a machine open for each version
	// that has a signature. One is usual; systemd uses the one whose public half is in .pcrpkey: of
	// several it has to be given ([github.com/osmith-dev/osmith/uki.Image].PCRPublicKey).
	PCR []PCRKey

	// Verity signs root hashes. Its certificate is to be in a keyring of the kernel.
	Verity secureboot.KeyPair
}

// PCRKey is a key that policies for PCR 11 are signed with.
type PCRKey struct {
	// Signer is an RSA key with the exponent 65537. Nil: the policies are listed in
	// [UKIImage].ToSign, to be signed elsewhere with the key whose public half is Public.
	Signer crypto.Signer
	Public *rsa.PublicKey // nil: that of Signer

	// Phases are the points of a boot that are signed for: each is the words that PCR 11 was
	// extended with until then. Nil: [github.com/osmith-dev/osmith/tpm.DefaultPhasePaths].
	Phases [][]string
}

// pcrKey is a PCRKey that was looked at.
type pcrKey struct {
	PCRKey
	fingerprint [sha256.Size]byte
}

// pcrKeys checks the keys.
func (k *Keys) pcrKeys() (list []pcrKey, err error) {
	for i, key := range k.PCR {
		if key.Signer != nil {
			public, ok := key.Signer.Public().(*rsa.PublicKey)
			switch {
			case !ok:
				return nil, fmt.Errorf("PCR key %d is of type %T: TPM policies are signed with RSA", i+1, key.Signer.Public())
			case key.Public != nil && !key.Public.Equal(public):
				return nil, fmt.Errorf("PCR key %d: Public is not the public half of Signer", i+1)
			}
			key.Public = public
		}
		if key.Public == nil {
			return nil, fmt.Errorf("PCR key %d has neither Signer nor Public", i+1)
		}
		c := pcrKey{PCRKey: key}
		if c.fingerprint, err = policy.Fingerprint(key.Public); err != nil {
			return nil, fmt.Errorf("PCR key %d: %w", i+1, err)
		}
		for j, other := range list {
			if other.fingerprint == c.fingerprint {
				return nil, fmt.Errorf("PCR key %d is the same as key %d: list the key once, with all Phases", i+1, j+1)
			}
		}
		list = append(list, c)
	}
	return list, nil
}

// checkPair refuses half a key.
func checkPair(what string, k secureboot.KeyPair) error {
	switch {
	case k.Key == nil && k.Cert != nil:
		return fmt.Errorf("the %s key has a certificate and no Key", what)
	case k.Key != nil && k.Cert == nil:
		return fmt.Errorf("the %s key has no certificate (Cert)", what)
	}
	return nil
}
