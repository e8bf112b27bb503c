package acmeos

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// Owner marks the entries of our signature lists.
var Owner = osmith.GUID{0xac, 0x3e, 0x05, 0x00, 0x00, 0x00, 0x40, 0x00, 0x80, 0x00, 0x0a, 0xc3, 0x3e, 0x05, 0x00, 0x01}

// Keys are the private keys of the vendor. In a real one they live in an HSM or a KMS: all that
// signs takes a crypto.Signer.
type Keys struct {
	SecureBoot *secureboot.Hierarchy // PK, KEK and db
	PCR        *rsa.PrivateKey       // signs PCR policies; the TPM unlocks for what it signed
	Release    *ecdsa.PrivateKey     // signs release artifacts
}

// GenerateKeys makes new keys. The dates go into the certificates: an image that claims to have
// been signed at another time does not start on U-Boot.
func GenerateKeys(notBefore time.Time) (*Keys, error) {
	var k Keys
	var err error
	k.SecureBoot, err = secureboot.Generate(nil, secureboot.GenerateOptions{
		CommonName: "Acme OS",
		Owner:      Owner,
		NotBefore:  notBefore,
		NotAfter:   notBefore.AddDate(20, 0, 0),
	})
	if err != nil {
		return nil, err
	}
	if k.PCR, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return nil, fmt.Errorf("PCR key: %w", err)
	}
	if k.Release, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, fmt.Errorf("release key: %w", err)
	}
	return &k, nil
}

// PCRPublicKey is the PEM form that goes into .pcrpkey.
func (k *Keys) PCRPublicKey() ([]byte, error) { return policy.MarshalPublicKey(&k.PCR.PublicKey) }
