package tpm

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// NVAttributes are those of an NV index: TPMA_NV of part 2, section 13.4.
type NVAttributes uint32

// The attributes that matter here; the type of the index is in bits 4 to 7.
const (
	NVOwnerWrite    NVAttributes = 1 << 1
	NVAuthWrite     NVAttributes = 1 << 2
	NVPolicyWrite   NVAttributes = 1 << 3
	NVCounter       NVAttributes = 1 << 4 // type
	NVExtend        NVAttributes = 4 << 4 // type
	NVWriteLocked   NVAttributes = 1 << 11
	NVWriteAll      NVAttributes = 1 << 12
	NVOwnerRead     NVAttributes = 1 << 17
	NVAuthRead      NVAttributes = 1 << 18
	NVPolicyRead    NVAttributes = 1 << 19
	NVNoDA          NVAttributes = 1 << 25
	NVOrderly       NVAttributes = 1 << 26
	NVClearStClear  NVAttributes = 1 << 27
	NVReadLocked    NVAttributes = 1 << 28
	NVWritten       NVAttributes = 1 << 29
	NVPlatformIndex NVAttributes = 1 << 30
)

// NVPublic is a TPMS_NV_PUBLIC (part 2, section 13.5) with SHA-256 names.
type NVPublic struct {
	Index      uint32 // 0x01000000 to 0x01ffffff
	Attributes NVAttributes
	Policy     []byte // empty, or 32 bytes: the policy that guards it
	Size       uint16 // of the contents, in bytes
}

// Name is the TPM name of the index as it is now: it changes with every attribute, and the first write sets [NVWritten].
func (p NVPublic) Name() ([]byte, error) {
	b, err := p.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(b)
	return append([]byte{0x00, 0x0b}, digest[:]...), nil
}

// AppendBinary appends the structure as a TPM writes it, without a length in front.
func (p NVPublic) AppendBinary(b []byte) ([]byte, error) {
	if p.Index>>24 != 1 || len(p.Policy) != 0 && len(p.Policy) != sha256.Size {
		return nil, fmt.Errorf("tpm: NV index 0x%08x with a policy of %d bytes: want 0x01000000 to 0x01ffffff and 0 or 32", p.Index, len(p.Policy))
	}
	b = binary.BigEndian.AppendUint32(b, p.Index)
	b = binary.BigEndian.AppendUint16(b, 0x000b)
	b = binary.BigEndian.AppendUint32(b, uint32(p.Attributes))
	b = appendSized(b, p.Policy)
	return binary.BigEndian.AppendUint16(b, p.Size), nil
}

// ParseNVPublic reads a TPMS_NV_PUBLIC with SHA-256 names.
func ParseNVPublic(b []byte) (NVPublic, error) {
	r := &wireReader{data: bytes.Clone(b), what: "NV public area"}
	p := NVPublic{Index: r.u32("index")}
	if alg := r.u16("name algorithm"); r.err == nil && alg != 0x000b {
		r.fail(4, "name algorithm", fmt.Errorf("0x%04x, want SHA-256", alg))
	}
	p.Attributes, p.Policy, p.Size = NVAttributes(r.u32("attributes")), r.sized("policy"), r.u16("size")
	if err := r.end(); err != nil {
		return NVPublic{}, err
	}
	if _, err := p.AppendBinary(nil); err != nil {
		return NVPublic{}, &FormatError{Offset: 0, Field: "NV public area", Err: err}
	}
	return p, nil
}

// ObjectName is the TPM name of an object: the hash of its TPMT_PUBLIC by the name algorithm in it, behind that
// algorithm (part 1, section 16).
func ObjectName(public []byte) ([]byte, error) {
	if len(public) < 4 {
		return nil, &FormatError{Offset: int64(len(public)), Field: "TPM public area", Err: errShort}
	}
	a, ok := byID(binary.BigEndian.Uint16(public[2:]))
	if !ok {
		return nil, &FormatError{Offset: 2, Field: "TPM public area: name algorithm", Err: ErrBank}
	}
	return append(bytes.Clone(public[2:4]), sum(a.hash, public)...), nil
}

// ApprovedPolicy is the contents of an NV index that PolicyAuthorizeNV compares a session with: a TPMT_HA of SHA-256.
func ApprovedPolicy(d PolicyDigest) []byte { return append([]byte{0x00, 0x0b}, d[:]...) }

// ParseApprovedPolicy is the inverse of [ApprovedPolicy].
func ParseApprovedPolicy(b []byte) (PolicyDigest, error) {
	if len(b) != 2+crypto.SHA256.Size() || b[0] != 0 || b[1] != 0x0b {
		return PolicyDigest{}, &FormatError{Offset: 0, Field: "approved policy", Err: errors.New("want SHA-256 and 32 bytes")}
	}
	return PolicyDigest(b[2:]), nil
}
