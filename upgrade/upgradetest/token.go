package upgradetest

import (
	"encoding/binary"

	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/tpm/sealing"
)

// SealedToken completes a token as a TPM does that seals to a policy: with an object that asks for
// it, TPM2B_PRIVATE and TPM2B_PUBLIC of a KEYEDHASH (TPM 2.0 Library, part 2, 12.2.4). There is no
// secret in it, and no TPM opens it; [sealing.Token.Check], and the unlocks verdict with it, say of
// it what they say of a real one.
func SealedToken(t sealing.Token, d policy.Digest) *sealing.Token {
	sized := func(b []byte) []byte {
		return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
	}
	public := []byte{
		0x00, 0x08, // TPM_ALG_KEYEDHASH
		0x00, 0x0b, // TPM_ALG_SHA256: of the name
		0x00, 0x00, 0x00, 0x12, // fixedTPM, fixedParent
	}
	public = append(public, sized(d[:])...)
	public = append(public, 0x00, 0x10) // TPM_ALG_NULL: no scheme
	public = append(public, sized(make([]byte, 32))...)
	t.Blobs = [][]byte{append(sized([]byte("nothing is encrypted here")), sized(public)...)}
	t.PolicyHashes = []policy.Digest{d}
	return &t
}
