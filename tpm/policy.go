package tpm

import (
	"crypto"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// PolicyDigest is the digest of a TPM 2.0 policy. Policies of systemd, and so of this package, are SHA-256 whatever
// bank the PCRs are of. The zero value is the policy of a session that has just started.
type PolicyDigest [sha256.Size]byte

// String is the digest in hexadecimal, as in the "pol" field of a .pcrsig.
func (d PolicyDigest) String() string { return hex.EncodeToString(d[:]) }

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

func (d PolicyDigest) extend(command uint32, parts ...[]byte) PolicyDigest {
	b := binary.BigEndian.AppendUint32(d[:], command)
	for _, p := range parts {
		b = append(b, p...)
	}
	return sha256.Sum256(b)
}
