package sealing

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/osmith-dev/osmith/tpm/policy"
)

// parsePublicKey reads the PEM of the key that signs PCR policies.
func parsePublicKey(text []byte) (*rsa.PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, errors.New("not a public key in PEM")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	pub, ok := key.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%T: %w", key, policy.ErrKey)
	}
	_, err = policy.KeyName(pub) // checks what a TPM can load
	return pub, err
}

func marshalPublicKey(key *rsa.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// loadPublicKey loads the key so that the TPM verifies with it. Its name is what a policy holds, so the template is
// systemd's ([policy.KeyName]).
func (t *TPM) loadPublicKey(key *rsa.PublicKey) (tpm2.NamedHandle, error) {
	rsp, err := execute(t, tpm2.LoadExternal{
		InPublic: tpm2.New2B(tpm2.TPMTPublic{
			Type:             tpm2.TPMAlgRSA,
			NameAlg:          tpm2.TPMAlgSHA256,
			ObjectAttributes: tpm2.TPMAObject{UserWithAuth: true, Decrypt: true, SignEncrypt: true},
			Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
				KeyBits: tpm2.TPMKeyBits(key.N.BitLen()), Exponent: uint32(key.E),
			}),
			Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: key.N.Bytes()}),
		}),
		Hierarchy: tpm2.TPMRHOwner,
	})
	if err != nil {
		return tpm2.NamedHandle{}, fmt.Errorf("sealing: load the public key: %w", err)
	}
	return tpm2.NamedHandle{Handle: rsp.ObjectHandle, Name: rsp.Name}, nil
}

// verify has the TPM verify an RSASSA-PKCS1-v1_5 signature with SHA-256, for a ticket to show to PolicyAuthorize.
func (t *TPM) verify(key tpm2.NamedHandle, digest [32]byte, signature []byte) (tpm2.TPMTTKVerified, error) {
	rsp, err := execute(t, tpm2.VerifySignature{
		KeyHandle: key,
		Digest:    tpm2.TPM2BDigest{Buffer: digest[:]},
		Signature: tpm2.TPMTSignature{
			SigAlg: tpm2.TPMAlgRSASSA,
			Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgRSASSA, &tpm2.TPMSSignatureRSA{
				Hash: tpm2.TPMAlgSHA256, Sig: tpm2.TPM2BPublicKeyRSA{Buffer: signature},
			}),
		},
	})
	if err != nil {
		return tpm2.TPMTTKVerified{}, fmt.Errorf("sealing: verify a PCR signature: %w", err)
	}
	return rsp.Validation, nil
}
