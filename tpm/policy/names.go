package policy

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/tpmwire"
)

// ErrKey is the cause of every error about a key that cannot sign PCR policies. systemd accepts
// only RSA keys with the exponent 65537.
var ErrKey = errors.New("not an RSA key with exponent 65537")

// Numbers of the TCG Algorithm Registry.
const (
	algRSA    = 0x0001
	algSHA256 = 0x000b
	algNull   = 0x0010
)

// ParsePublicKey reads the key that signs PCR policies as a .pcrpkey section and the token of a
// LUKS2 volume hold it: PEM with one block PUBLIC KEY. A key that systemd does not accept is
// [ErrKey].
func ParsePublicKey(text []byte) (_ *rsa.PublicKey, err error) {
	defer prefix.Add(pkg, &err)
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, errors.New("PCR signing key: want a PEM block PUBLIC KEY")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("PCR signing key: %w", err)
	}
	public, ok := key.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("PCR signing key: %T: %w", key, ErrKey)
	}
	return public, checkKey(public)
}

// MarshalPublicKey is the inverse of [ParsePublicKey].
func MarshalPublicKey(key *rsa.PublicKey) (_ []byte, err error) {
	defer prefix.Add(pkg, &err)
	if err := checkKey(key); err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// rsaArea is the TPMT_PUBLIC of an RSA key (TPM 2.0 Library, part 2, section 12.2.4) up to the
// bytes of its modulus.
type rsaArea struct {
	Type, NameAlg     uint16
	Attributes        uint32
	PolicySize        uint16
	Symmetric, Scheme uint16
	KeyBits           uint16
	Exponent          uint32
	ModulusSize       uint16
}

// KeyName is the name of the TPM object that systemd loads for a PCR signing key: an unrestricted
// signing and decryption key with SHA-256 names, no scheme and no policy of its own (TPM 2.0
// Library, part 1, section 16; part 2, section 12.2.4).
func KeyName(key *rsa.PublicKey) (_ []byte, err error) {
	defer prefix.Add(pkg, &err)
	if err := checkKey(key); err != nil {
		return nil, err
	}
	const userWithAuth, decrypt, sign = 1 << 6, 1 << 17, 1 << 18
	modulus := key.N.Bytes()
	area, err := binary.Append(nil, binary.BigEndian, rsaArea{
		Type: algRSA, NameAlg: algSHA256, Attributes: userWithAuth | decrypt | sign, Symmetric: algNull, Scheme: algNull,
		KeyBits: uint16(key.N.BitLen()), Exponent: uint32(key.E), ModulusSize: uint16(len(modulus)),
	})
	if err != nil {
		return nil, err
	}
	return nameOf(append(area, modulus...)), nil
}

// nameOf is the name of a public area with SHA-256 names: the algorithm and the digest.
func nameOf(area []byte) []byte {
	digest := sha256.Sum256(area)
	return append([]byte{0, algSHA256}, digest[:]...)
}

// Fingerprint is the "pkfp" of a .pcrsig: the SHA-256 of the key as a PKCS #1 RSAPublicKey in DER.
func Fingerprint(key *rsa.PublicKey) ([sha256.Size]byte, error) {
	if err := checkKey(key); err != nil {
		return [sha256.Size]byte{}, prefix.Error(pkg, err)
	}
	return sha256.Sum256(x509.MarshalPKCS1PublicKey(key)), nil
}

// checkKey refuses what a TPM would refuse to load.
func checkKey(key *rsa.PublicKey) error {
	switch {
	case key == nil || key.N == nil:
		return fmt.Errorf("PCR signing key: no key: %w", ErrKey)
	case key.E != 65537:
		return fmt.Errorf("PCR signing key: exponent %d: %w", key.E, ErrKey)
	case key.N.BitLen() < 1024 || key.N.BitLen() > 16384 || key.N.BitLen()%8 != 0:
		return fmt.Errorf("PCR signing key: modulus of %d bits: want 1024 to 16384, whole bytes", key.N.BitLen())
	}
	return nil
}

// checkName refuses what cannot be the name of an object or an NV index: an algorithm and a digest
// of it.
func checkName(name []byte, command string) error {
	if len(name) >= 2 {
		if a, ok := pcrbank.ByID(binary.BigEndian.Uint16(name)); ok && len(name) == 2+a.Hash.Size() {
			return nil
		}
	}
	return fmt.Errorf("%s: a name of %d bytes: want an algorithm and a digest", command, len(name))
}

// ObjectName is the TPM name of an object: the name algorithm stated in its TPMT_PUBLIC, followed
// by the hash of the TPMT_PUBLIC by that algorithm (part 1, section 16).
func ObjectName(public []byte) (_ []byte, err error) {
	defer prefix.Add(pkg, &err)
	if len(public) < 4 {
		return nil, &osmith.FormatError{Offset: int64(len(public)), Field: "TPM public area", Err: tpmwire.ErrShort}
	}
	a, ok := pcrbank.ByID(binary.BigEndian.Uint16(public[2:]))
	if !ok {
		return nil, &osmith.FormatError{Offset: 2, Field: "TPM public area: name algorithm", Err: ErrBank}
	}
	return append(bytes.Clone(public[2:4]), pcrbank.Sum(a.Hash, public)...), nil
}

// NVAttributes are the attributes of an NV index: TPMA_NV of part 2, section 13.4.
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

// Name is the TPM name of the index as it is now: it changes with every attribute, and the first
// write sets [NVWritten].
func (p NVPublic) Name() ([]byte, error) {
	b, err := p.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	return nameOf(b), nil
}

func (p NVPublic) check() error {
	if p.Index>>24 != 1 || len(p.Policy) != 0 && len(p.Policy) != sha256.Size {
		return fmt.Errorf("NV index 0x%08x with a policy of %d bytes: want 0x01000000 to 0x01ffffff and 0 or 32", p.Index, len(p.Policy))
	}
	return nil
}

// AppendBinary appends the structure as a TPM writes it, without a length in front.
func (p NVPublic) AppendBinary(b []byte) ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, prefix.Error(pkg, err)
	}
	b = binary.BigEndian.AppendUint32(b, p.Index)
	b = binary.BigEndian.AppendUint16(b, algSHA256)
	b = binary.BigEndian.AppendUint32(b, uint32(p.Attributes))
	b = tpmwire.AppendSized(b, p.Policy)
	return binary.BigEndian.AppendUint16(b, p.Size), nil
}

// ParseNVPublic reads a TPMS_NV_PUBLIC with SHA-256 names.
func ParseNVPublic(b []byte) (_ NVPublic, err error) {
	defer prefix.Add(pkg, &err)
	r := tpmwire.NewReader("NV public area", bytes.Clone(b))
	p := NVPublic{Index: r.U32("index")}
	if alg := r.U16("name algorithm"); alg != algSHA256 {
		r.Fail(4, "name algorithm", fmt.Errorf("0x%04x, want SHA-256", alg))
	}
	p.Attributes, p.Policy, p.Size = NVAttributes(r.U32("attributes")), r.Sized("policy"), r.U16("size")
	if err := r.End(); err != nil {
		return NVPublic{}, err
	}
	if err := p.check(); err != nil {
		return NVPublic{}, &osmith.FormatError{Field: "NV public area", Err: err}
	}
	return p, nil
}

// ApprovedPolicy is the contents of an NV index that PolicyAuthorizeNV compares a session with: a
// TPMT_HA of SHA-256.
func ApprovedPolicy(d Digest) []byte { return append([]byte{0, algSHA256}, d[:]...) }

// ParseApprovedPolicy is the inverse of [ApprovedPolicy].
func ParseApprovedPolicy(b []byte) (Digest, error) {
	if len(b) != 2+crypto.SHA256.Size() || b[0] != 0 || b[1] != algSHA256 {
		err := &osmith.FormatError{Field: "approved policy", Err: errors.New("want SHA-256 and 32 bytes")}
		return Digest{}, prefix.Error(pkg, err)
	}
	return Digest(b[2:]), nil
}
