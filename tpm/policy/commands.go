package policy

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// pkg is what errors of this package begin with.
const pkg = "policy"

// ErrBank is the cause of every error about a hash of an unknown PCR bank. It is the same value as
// ErrBank of package tpm.
var ErrBank = pcrbank.ErrUnknown

// Digest is the digest of a TPM 2.0 policy. Policies of systemd, and so of this package, are
// SHA-256 digests for PCRs of any bank. The zero value is the policy of a session that has just
// started.
type Digest [sha256.Size]byte

// String is the digest in hexadecimal, as in the "pol" field of a .pcrsig.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText implements [encoding.TextMarshaler]: the text is that of [Digest.String].
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Digest) UnmarshalText(text []byte) error {
	if len(text) != 2*len(d) {
		return prefix.Error(pkg, fmt.Errorf("%d characters, want %d", len(text), 2*len(d)))
	}
	if _, err := hex.Decode(d[:], text); err != nil {
		return prefix.Error(pkg, fmt.Errorf("not hexadecimal: %w", err))
	}
	return nil
}

// Command codes (TPM 2.0 Library, part 2, section 6.5.2).
const (
	ccPolicyNV          = 0x00000149
	ccPolicyAuthorize   = 0x0000016a
	ccPolicyAuthValue   = 0x0000016b
	ccPolicyOR          = 0x00000171
	ccPolicyPCR         = 0x0000017f
	ccPolicyAuthorizeNV = 0x00000192
)

// extend is PolicyUpdate of part 3, section 23.2.3: the digest after a command with these
// arguments.
func (d Digest) extend(command uint32, parts ...[]byte) Digest {
	b := binary.BigEndian.AppendUint32(d[:], command)
	for _, p := range parts {
		b = append(b, p...)
	}
	return sha256.Sum256(b)
}

// pcrSelection is a TPML_PCR_SELECTION of one bank with 24 PCRs (part 2, section 10.9.7).
type pcrSelection struct {
	Count uint32
	Hash  uint16
	Size  uint8
	PCRs  [pcrbank.Count / 8]uint8
}

// PolicyPCR is the digest after TPM2_PolicyPCR over the values of some PCRs of one bank, in a
// session whose digest was start (TPM 2.0 Library, part 3, section 23.7).
func PolicyPCR(start Digest, bank crypto.Hash, values map[int][]byte) (d Digest, err error) {
	defer prefix.Add(pkg, &err)
	a, ok := pcrbank.ByHash(bank)
	if !ok {
		return Digest{}, pcrbank.Check(bank)
	}
	if len(values) == 0 {
		return Digest{}, errors.New("PolicyPCR: no PCRs selected")
	}
	selection := pcrSelection{Count: 1, Hash: a.ID, Size: pcrbank.Count / 8}
	pcrs := sha256.New()
	for _, n := range pcrbank.PCRs(values) {
		if n < 0 || n >= pcrbank.Count {
			return Digest{}, fmt.Errorf("PolicyPCR: PCR %d: want 0 to %d", n, pcrbank.Count-1)
		}
		if len(values[n]) != bank.Size() {
			return Digest{}, fmt.Errorf("PolicyPCR: PCR %d: a value of %d bytes, want %d for %s", n, len(values[n]), bank.Size(), a.Name)
		}
		selection.PCRs[n/8] |= 1 << (n % 8)
		pcrs.Write(values[n])
	}
	b, err := binary.Append(nil, binary.BigEndian, selection)
	if err != nil {
		return Digest{}, err
	}
	return start.extend(ccPolicyPCR, b, pcrs.Sum(nil)), nil
}

// PolicyAuthorize is the digest after TPM2_PolicyAuthorize: the session's digest is replaced by one
// that depends only on ref and on the key whose signature approved the old digest (TPM 2.0 Library,
// part 3, section 23.16). A secret sealed to this digest can be opened with any policy that the key
// has signed. ref is [PolicyRef] of a name, usually "".
func PolicyAuthorize(key *rsa.PublicKey, ref []byte) (d Digest, err error) {
	defer prefix.Add(pkg, &err)
	keyName, err := KeyName(key)
	if err != nil {
		return Digest{}, err
	}
	// PolicyUpdate with a reference is two extends, the second also of an empty one.
	d = d.extend(ccPolicyAuthorize, keyName)
	return sha256.Sum256(append(d[:], ref...)), nil
}

// PolicyRef is the policyRef that systemd derives from a name: its SHA-256, or nothing for the
// empty name.
func PolicyRef(name string) []byte {
	if name == "" {
		return nil
	}
	h := sha256.Sum256([]byte(name))
	return h[:]
}

// PolicyAuthorizeNV is the digest after TPM2_PolicyAuthorizeNV: the session's digest is replaced by
// one that depends only on the NV index which holds the approved policy (part 3, section 23.22).
// index is its name with the attribute WRITTEN: see [NVPublic.Name]. systemd-pcrlock seals to this.
func PolicyAuthorizeNV(index []byte) (d Digest, err error) {
	defer prefix.Add(pkg, &err)
	if err := checkName(index, "PolicyAuthorizeNV"); err != nil {
		return Digest{}, err
	}
	return d.extend(ccPolicyAuthorizeNV, index), nil
}

// PolicyAuthValue is the digest after TPM2_PolicyAuthValue, or after TPM2_PolicyPassword, which
// gives the same digest: the object's own secret, a PIN, is required (part 3, sections 23.17 and
// 23.18).
func PolicyAuthValue(start Digest) Digest { return start.extend(ccPolicyAuthValue) }

// Comparison is the operation of a PolicyNV: TPM_EO of part 2, section 6.8. The contents of the
// index are the left operand.
type Comparison uint16

const (
	ComparisonEqual         Comparison = 0x0000
	ComparisonNotEqual      Comparison = 0x0001
	ComparisonSignedGreater Comparison = 0x0002
	// unsigned, as all those below without "Signed" in the name
	ComparisonGreater       Comparison = 0x0003
	ComparisonSignedLess    Comparison = 0x0004
	ComparisonLess          Comparison = 0x0005
	ComparisonSignedAtLeast Comparison = 0x0006
	ComparisonAtLeast       Comparison = 0x0007
	ComparisonSignedAtMost  Comparison = 0x0008
	ComparisonAtMost        Comparison = 0x0009
	ComparisonAllBitsSet    Comparison = 0x000a
	ComparisonAllBitsClear  Comparison = 0x000b
	lastComparison                     = ComparisonAllBitsClear
)

// PolicyNV is the digest after TPM2_PolicyNV: the contents of an NV index at an offset satisfy the
// comparison with operand (part 3, section 23.9). index is the name of the index: see
// [NVPublic.Name]. With [ComparisonAtMost] and a counter, raising the counter prevents a return to
// older versions.
func PolicyNV(start Digest, index, operand []byte, offset uint16, op Comparison) (d Digest, err error) {
	defer prefix.Add(pkg, &err)
	if err := checkName(index, "PolicyNV"); err != nil {
		return Digest{}, err
	}
	if op > lastComparison || len(operand) == 0 || len(operand) > 64 {
		return Digest{}, fmt.Errorf("PolicyNV: operation %d with an operand of %d bytes: want 0 to %d and 1 to 64", op, len(operand), lastComparison)
	}
	args := binary.BigEndian.AppendUint16(append([]byte(nil), operand...), offset)
	digest := sha256.Sum256(binary.BigEndian.AppendUint16(args, uint16(op)))
	return start.extend(ccPolicyNV, digest[:], index), nil
}

// MaxPolicyOR is how many branches one TPM2_PolicyOR takes.
const MaxPolicyOR = 8

// PolicyOR is the digest after TPM2_PolicyOR: one of 2 to 8 branches was satisfied (part 3, section
// 23.6). For more, see [NewTree].
func PolicyOR(branches ...Digest) (d Digest, err error) {
	defer prefix.Add(pkg, &err)
	if len(branches) < 2 || len(branches) > MaxPolicyOR {
		return Digest{}, fmt.Errorf("PolicyOR: %d branches: want 2 to %d", len(branches), MaxPolicyOR)
	}
	parts := make([][]byte, len(branches))
	for i := range branches {
		parts[i] = branches[i][:]
	}
	return d.extend(ccPolicyOR, parts...), nil
}
