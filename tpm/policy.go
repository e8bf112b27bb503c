package tpm

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// PolicyDigest is the digest of a TPM 2.0 policy. Policies of systemd, and so of this package, are SHA-256 whatever
// bank the PCRs are of. The zero value is the policy of a session that has just started.
type PolicyDigest [sha256.Size]byte

// String is the digest in hexadecimal, as in the "pol" field of a .pcrsig.
func (d PolicyDigest) String() string { return hex.EncodeToString(d[:]) }

// Command codes (TPM 2.0 Library, part 2, section 6.5.2).
const (
	ccPolicyAuthorize = 0x0000016a
	ccPolicyPCR       = 0x0000017f
)

// PolicyPCR is the digest after TPM2_PolicyPCR over the values of some PCRs of one bank, in a session whose digest was
// start (TPM 2.0 Library, part 3, section 23.7).
func PolicyPCR(start PolicyDigest, bank crypto.Hash, values map[int][]byte) (PolicyDigest, error) {
	a, ok := byHash(bank)
	if !ok {
		return PolicyDigest{}, checkBank(bank)
	}
	if len(values) == 0 {
		return PolicyDigest{}, fmt.Errorf("tpm: PolicyPCR: no PCRs selected")
	}
	// TPML_PCR_SELECTION with one bank and three bytes of bitmap (part 2, section 10.9.7).
	selection := binary.BigEndian.AppendUint32(nil, 1)
	selection = binary.BigEndian.AppendUint16(selection, a.id)
	selection = append(selection, PCRCount/8)
	var bitmap [PCRCount / 8]byte
	pcrs := sha256.New()
	for _, n := range sortedPCRs(values) {
		if n < 0 || n >= PCRCount {
			return PolicyDigest{}, fmt.Errorf("tpm: PolicyPCR: PCR %d: want 0 to %d", n, PCRCount-1)
		}
		if len(values[n]) != bank.Size() {
			return PolicyDigest{}, fmt.Errorf("tpm: PolicyPCR: PCR %d: a value of %d bytes, want %d for %s", n, len(values[n]), bank.Size(), a.name)
		}
		bitmap[n/8] |= 1 << (n % 8)
		pcrs.Write(values[n])
	}
	selection = append(selection, bitmap[:]...)
	return start.extend(ccPolicyPCR, selection, pcrs.Sum(nil)), nil
}

// PolicyAuthorize is the digest after TPM2_PolicyAuthorize: whatever the session's digest was, it becomes one that only
// depends on the key whose signature approved it and on ref (TPM 2.0 Library, part 3, section 23.16). This is what a
// secret is sealed to so that any policy signed by the key opens it. ref is [PolicyRef] of a name, usually "".
func PolicyAuthorize(key *rsa.PublicKey, ref []byte) (PolicyDigest, error) {
	name, err := KeyName(key)
	if err != nil {
		return PolicyDigest{}, err
	}
	d := PolicyDigest{}.extend(ccPolicyAuthorize, name)
	return sha256.Sum256(append(d[:], ref...)), nil
}

// PolicyRef is the policyRef that systemd derives from a name: its SHA-256, or nothing for the empty name.
func PolicyRef(name string) []byte {
	if name == "" {
		return nil
	}
	h := sha256.Sum256([]byte(name))
	return h[:]
}

func (d PolicyDigest) extend(command uint32, parts ...[]byte) PolicyDigest {
	b := binary.BigEndian.AppendUint32(d[:], command)
	for _, p := range parts {
		b = append(b, p...)
	}
	return sha256.Sum256(b)
}

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
