package tpm

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// Command codes (TPM 2.0 Library, part 2, section 6.5.2).
const (
	ccPolicyNV          = 0x00000149
	ccPolicySecret      = 0x00000151
	ccPolicySigned      = 0x00000160
	ccPolicyAuthorize   = 0x0000016a
	ccPolicyAuthValue   = 0x0000016b
	ccPolicyCommandCode = 0x0000016c
	ccPolicyOR          = 0x00000171
	ccPolicyPCR         = 0x0000017f
	ccPolicyNvWritten   = 0x0000018f
	ccPolicyAuthorizeNV = 0x00000192
)

// MaxPolicyOR is how many branches one TPM2_PolicyOR takes.
const MaxPolicyOR = 8

// PolicyOR is the digest after TPM2_PolicyOR: one of 2 to 8 branches was satisfied (part 3, section 23.6). For more,
// see [NewPolicyTree].
func PolicyOR(branches ...PolicyDigest) (PolicyDigest, error) {
	if len(branches) < 2 || len(branches) > MaxPolicyOR {
		return PolicyDigest{}, fmt.Errorf("tpm: PolicyOR: %d branches: want 2 to %d", len(branches), MaxPolicyOR)
	}
	parts := make([][]byte, len(branches))
	for i := range branches {
		parts[i] = branches[i][:]
	}
	return PolicyDigest{}.extend(ccPolicyOR, parts...), nil
}

// PolicyAuthValue is the digest after TPM2_PolicyAuthValue, or after TPM2_PolicyPassword, which leaves the same: the
// object's own secret, a PIN, is asked for (part 3, sections 23.17 and 23.18).
func PolicyAuthValue(start PolicyDigest) PolicyDigest { return start.extend(ccPolicyAuthValue) }

// PolicyNvWritten is the digest after TPM2_PolicyNvWritten: the NV index that the policy is used for must have been
// written, or must not (part 3, section 23.20).
func PolicyNvWritten(start PolicyDigest, written bool) PolicyDigest {
	var b byte
	if written {
		b = 1
	}
	return start.extend(ccPolicyNvWritten, []byte{b})
}

// PolicyCommandCode is the digest after TPM2_PolicyCommandCode: only this command may use the object (part 3, section
// 23.11).
func PolicyCommandCode(start PolicyDigest, command uint32) PolicyDigest {
	return start.extend(ccPolicyCommandCode, binary.BigEndian.AppendUint32(nil, command))
}

// Comparison is the operation of a PolicyNV: TPM_EO of part 2, section 6.8. The contents of the index stand on the left.
type Comparison uint16

const (
	NVEqual          Comparison = 0x0000
	NVNotEqual       Comparison = 0x0001
	NVSignedGreater  Comparison = 0x0002
	NVGreater        Comparison = 0x0003 // unsigned
	NVSignedLess     Comparison = 0x0004
	NVLess           Comparison = 0x0005
	NVSignedAtLeast  Comparison = 0x0006
	NVAtLeast        Comparison = 0x0007
	NVSignedAtMost   Comparison = 0x0008
	NVAtMost         Comparison = 0x0009
	NVAllBitsSet     Comparison = 0x000a
	NVAllBitsClear   Comparison = 0x000b
	lastNVComparison            = NVAllBitsClear
)

// PolicyNV is the digest after TPM2_PolicyNV: the contents of an NV index at an offset compare in this way with operand
// (part 3, section 23.9). index is the name of the index: see [NVPublic.Name]. A counter with [NVAtLeast] is a floor
// below which a version cannot be rolled back.
func PolicyNV(start PolicyDigest, index, operand []byte, offset uint16, op Comparison) (PolicyDigest, error) {
	if err := checkName(index, "PolicyNV"); err != nil {
		return PolicyDigest{}, err
	}
	if op > lastNVComparison || len(operand) == 0 || len(operand) > 64 {
		return PolicyDigest{}, fmt.Errorf("tpm: PolicyNV: operation %d with an operand of %d bytes: want 0 to %d and 1 to 64", op, len(operand), lastNVComparison)
	}
	args := binary.BigEndian.AppendUint16(append([]byte(nil), operand...), offset)
	digest := sha256.Sum256(binary.BigEndian.AppendUint16(args, uint16(op)))
	return start.extend(ccPolicyNV, digest[:], index), nil
}
