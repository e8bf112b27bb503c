package tpm

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"fmt"
)

// KeyName is the name of the TPM object that systemd loads for a PCR signing key: an unrestricted signing and
// decryption key with SHA-256 names, no scheme and no policy of its own (TPM 2.0 Library, part 1, section 16; part 2,
// section 12.2.4).
func KeyName(key *rsa.PublicKey) ([]byte, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	const (
		algRSA    = 0x0001
		algSHA256 = 0x000b
		algNull   = 0x0010
		// userWithAuth, decrypt, sign
		attributes = 1<<6 | 1<<17 | 1<<18
	)
	be := binary.BigEndian
	n := key.N.Bytes()
	b := be.AppendUint16(nil, algRSA)
	b = be.AppendUint16(b, algSHA256)
	b = be.AppendUint32(b, attributes)
	b = be.AppendUint16(b, 0) // authPolicy
	b = be.AppendUint16(b, algNull)
	b = be.AppendUint16(b, algNull)
	b = be.AppendUint16(b, uint16(key.N.BitLen()))
	b = be.AppendUint32(b, uint32(key.E))
	b = be.AppendUint16(b, uint16(len(n)))
	b = append(b, n...)
	digest := sha256.Sum256(b)
	return append(be.AppendUint16(nil, algSHA256), digest[:]...), nil
}

// Fingerprint is the "pkfp" of a .pcrsig: the SHA-256 of the key as a PKCS #1 RSAPublicKey in DER.
func Fingerprint(key *rsa.PublicKey) ([sha256.Size]byte, error) {
	if err := checkKey(key); err != nil {
		return [sha256.Size]byte{}, err
	}
	return sha256.Sum256(x509.MarshalPKCS1PublicKey(key)), nil
}

// checkKey refuses what a TPM would refuse to load.
func checkKey(key *rsa.PublicKey) error {
	switch {
	case key == nil || key.N == nil:
		return fmt.Errorf("tpm: PCR signing key: no key: %w", ErrKey)
	case key.E != 65537:
		return fmt.Errorf("tpm: PCR signing key: exponent %d: %w", key.E, ErrKey)
	case key.N.BitLen() < 1024 || key.N.BitLen() > 16384 || key.N.BitLen()%8 != 0:
		return fmt.Errorf("tpm: PCR signing key: modulus of %d bits: want 1024 to 16384, whole bytes", key.N.BitLen())
	}
	return nil
}
