package secureboot

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// Types of signature lists (UEFI Specification 2.10, section 32.4.1; the two of SM3 as in
// MdePkg/Include/Guid/ImageAuthentication.h of edk2). Lists of other types are kept as they are.
var (
	// a DER certificate
	TypeX509 = osmith.MustParseGUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
	// digests of images
	TypeSHA1   = osmith.MustParseGUID("826ca512-cf10-4ac9-b187-be01496631bd")
	TypeSHA224 = osmith.MustParseGUID("0b6e5233-a65c-44c9-9407-d9ab83bfc8bd")
	TypeSHA256 = osmith.MustParseGUID("c1c41626-504c-4092-aca9-41f936934328")
	TypeSHA384 = osmith.MustParseGUID("ff3e5307-9fd0-48c9-85f1-8ad56c701e01")
	TypeSHA512 = osmith.MustParseGUID("093e0fae-a6c4-4f50-9f1b-d41e2b89c19a")
	TypeSM3    = osmith.MustParseGUID("57347f87-7a9b-403a-b93c-dc4afb7a0ebc")
	// digest of a certificate's to-be-signed part, then EFI_TIME
	TypeX509SHA256 = osmith.MustParseGUID("3bd2a492-96c0-4079-b420-fcf98ef103ed")
	TypeX509SHA384 = osmith.MustParseGUID("7076876e-80c2-4ee6-aad2-28b349a6865b")
	TypeX509SHA512 = osmith.MustParseGUID("446dbf63-2502-4cda-bcfa-2465d2b0fe9d")
	TypeX509SM3    = osmith.MustParseGUID("60d807e5-10b4-49a9-9331-e40437888d37")
	// a bare modulus
	TypeRSA2048 = osmith.MustParseGUID("3c5766e8-269c-4e34-aa14-ed776e85b3b6")
	// an RSA-2048 signature of a SHA-1 digest
	TypeRSA2048SHA1 = osmith.MustParseGUID("67f8444f-8743-48f1-a328-1eaab8736080")
	// an RSA-2048 signature of a SHA-256 digest
	TypeRSA2048SHA256 = osmith.MustParseGUID("e2b36190-879b-4a3d-ad8d-f2e7bba32784")
	// keys that a management entity outside the machine sets
	TypeExternalManagement = osmith.MustParseGUID("452e8ced-dfff-4b8c-ae01-5118862e682c")
)

// typeNames are the specification's, without EFI_CERT_ and _GUID.
var typeNames = map[osmith.GUID]string{
	TypeX509: "X509", TypeSHA1: "SHA1", TypeSHA224: "SHA224", TypeSHA256: "SHA256", TypeSHA384: "SHA384", TypeSHA512: "SHA512", TypeSM3: "SM3",
	TypeX509SHA256: "X509_SHA256", TypeX509SHA384: "X509_SHA384", TypeX509SHA512: "X509_SHA512", TypeX509SM3: "X509_SM3",
	TypeRSA2048: "RSA2048", TypeRSA2048SHA1: "RSA2048_SHA1", TypeRSA2048SHA256: "RSA2048_SHA256", TypeExternalManagement: "EXTERNAL_MANAGEMENT",
}

// TypeName is the specification's name of a list type, such as X509 or SHA256, and the GUID of an
// unknown type.
func TypeName(t osmith.GUID) string {
	if n, ok := typeNames[t]; ok {
		return n
	}
	return t.String()
}

// sizes are those of the signature data (without owner) where the type fixes one; edk2 refuses
// others.
var sizes = map[osmith.GUID]int{
	TypeSHA1: 20, TypeSHA224: 28, TypeSHA256: 32, TypeSHA384: 48, TypeSHA512: 64, TypeSM3: 32,
	TypeX509SHA256: 32 + timeSize, TypeX509SHA384: 48 + timeSize, TypeX509SHA512: 64 + timeSize, TypeX509SM3: 32 + timeSize,
	TypeRSA2048: 256, TypeRSA2048SHA1: 256, TypeRSA2048SHA256: 256, TypeExternalManagement: 1,
}

// imageHashTypes and certificateHashes say which list type holds which digest.
var (
	imageHashTypes = map[crypto.Hash]osmith.GUID{
		crypto.SHA1: TypeSHA1, crypto.SHA256: TypeSHA256, crypto.SHA384: TypeSHA384, crypto.SHA512: TypeSHA512,
	}

	certificateHashes = map[osmith.GUID]crypto.Hash{
		TypeX509SHA256: crypto.SHA256, TypeX509SHA384: crypto.SHA384, TypeX509SHA512: crypto.SHA512,
	}
)

// A Signature is one EFI_SIGNATURE_DATA: who added it, and a certificate or digest (UEFI
// Specification 2.10, section 32.4.1).
type Signature struct {
	Owner osmith.GUID
	Data  []byte
}

// AppendBinary appends EFI_SIGNATURE_DATA: the owner in its mixed-endian form, then the data. This
// is what firmware measures into PCR 7 for the entry of db by which it accepted an image.
func (s Signature) AppendBinary(b []byte) ([]byte, error) {
	return append(efi.AppendGUID(b, s.Owner), s.Data...), nil
}

// A SignatureList is one EFI_SIGNATURE_LIST: signatures of one type and one size. A certificate
// usually has a list of its own; digests of one kind share a list.
type SignatureList struct {
	Type       osmith.GUID
	Header     []byte // empty for all types in use
	Signatures []Signature

	// SignatureSize is, for a list without signatures, the stated size of a signature with its
	// owner, in bytes; for other lists it is ignored. Firmware accepts lists without signatures,
	// which have no effect.
	SignatureSize int64
}

// listHeader is the beginning of EFI_SIGNATURE_LIST (UEFI Specification 2.10, section 32.4.1). A
// header of the type's and the signatures follow.
type listHeader struct {
	Type          [16]byte // mixed-endian
	ListSize      uint32   // of all of it
	HeaderSize    uint32   // of the type's header
	SignatureSize uint32   // of each signature with its owner
}

const (
	listHeaderSize = 28
	ownerSize      = 16
)

// ParseSignatureLists reads the content of a variable such as PK, KEK, db or dbx, or an .esl file:
// any number of lists. Files of efivarfs begin with four attribute bytes; pass the bytes after
// them. Unknown types are kept; a known type with a wrong size, and sizes that do not add up, are
// errors of type [*osmith.FormatError]. The result points into data.
func ParseSignatureLists(data []byte) ([]SignatureList, error) {
	lists, err := parseLists(data)
	return lists, prefix.Error("secureboot", err)
}

func parseLists(data []byte) ([]SignatureList, error) {
	lists := []SignatureList{}
	for pos := 0; pos < len(data); {
		l, n, err := parseList(data[pos:], pos)
		if err != nil {
			return nil, err
		}
		lists = append(lists, l)
		pos += n
	}
	return lists, nil
}

func parseList(b []byte, pos int) (l SignatureList, size int, err error) {
	var h listHeader
	if _, err := binary.Decode(b, binary.LittleEndian, &h); err != nil {
		return l, 0, bad(pos, "signature list", "%d bytes left, its header has %d", len(b), listHeaderSize)
	}
	total, header, each := int64(h.ListSize), int64(h.HeaderSize), int64(h.SignatureSize)
	if total > int64(len(b)) || total < listHeaderSize {
		return l, 0, bad(pos+16, "size of a signature list", "%d, want %d to the %d bytes left", total, listHeaderSize, len(b))
	}
	body := total - listHeaderSize
	if header > body {
		return l, 0, bad(pos+20, "header size of a signature list", "%d, the list has %d bytes left", header, body)
	}
	body -= header
	if each < ownerSize || body%each != 0 {
		return l, 0, bad(pos+24, "signature size", "%d, want at least %d and a divisor of the %d bytes of signatures", each, ownerSize, body)
	}
	l.Type = efi.GUID(h.Type[:])
	if want, ok := sizes[l.Type]; ok && each != int64(ownerSize+want) {
		return l, 0, bad(pos+24, "signature size", "%d, a list of type %v has %d", each, l.Type, ownerSize+want)
	}
	first := listHeaderSize + int(header)
	l.Header = b[listHeaderSize:first:first]
	if body == 0 {
		l.SignatureSize = each
	}
	l.Signatures = make([]Signature, 0, body/each)
	for rest := b[first:total]; len(rest) > 0; rest = rest[each:] {
		l.Signatures = append(l.Signatures, Signature{Owner: efi.GUID(rest), Data: rest[ownerSize:each:each]})
	}
	return l, int(total), nil
}

// AppendSignatureLists appends the binary form of lists. All signatures of a list must have the
// same size.
func AppendSignatureLists(b []byte, lists ...SignatureList) ([]byte, error) {
	b, err := appendLists(b, lists...)
	return b, prefix.Error("secureboot", err)
}

func appendLists(b []byte, lists ...SignatureList) ([]byte, error) {
	for i, l := range lists {
		n := l.SignatureSize - ownerSize
		if len(l.Signatures) > 0 {
			n = int64(len(l.Signatures[0].Data))
		} else if n < 0 {
			return nil, fmt.Errorf("signature list %d has no signatures, and no SignatureSize either", i)
		}
		if want, ok := sizes[l.Type]; ok && n != int64(want) || n > math.MaxUint32-ownerSize {
			return nil, fmt.Errorf("signature list %d: signatures of %d bytes do not suit its type %s", i, n, TypeName(l.Type))
		}
		each := ownerSize + n
		total := listHeaderSize + int64(len(l.Header)) + each*int64(len(l.Signatures))
		if total > math.MaxInt32 {
			return nil, fmt.Errorf("signature list %d: %d bytes, want at most %d", i, total, math.MaxInt32)
		}
		h := listHeader{[16]byte(efi.AppendGUID(nil, l.Type)), uint32(total), uint32(len(l.Header)), uint32(each)}
		var err error
		if b, err = binary.Append(b, binary.LittleEndian, h); err != nil {
			return nil, err
		}
		b = append(b, l.Header...)
		for j, s := range l.Signatures {
			if int64(len(s.Data)) != n {
				return nil, fmt.Errorf("signature list %d: signature %d has %d bytes, the first %d: put it into a separate list", i, j, len(s.Data), n)
			}
			b = append(efi.AppendGUID(b, s.Owner), s.Data...)
		}
	}
	return b, nil
}

// CertificateList is the list for one certificate.
func CertificateList(owner osmith.GUID, cert *x509.Certificate) SignatureList {
	return SignatureList{Type: TypeX509, Signatures: []Signature{{Owner: owner, Data: cert.Raw}}}
}

// Certificates returns the certificates of all lists of type X.509, in order.
func Certificates(lists []SignatureList) ([]*x509.Certificate, error) {
	certs, err := certificates(lists)
	return certs, prefix.Error("secureboot", err)
}

func certificates(lists []SignatureList) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for _, l := range lists {
		if l.Type != TypeX509 {
			continue
		}
		for _, s := range l.Signatures {
			c, err := x509.ParseCertificate(s.Data)
			if err != nil {
				return nil, fmt.Errorf("the certificate of owner %v, %d bytes, cannot be read: %w", s.Owner, len(s.Data), err)
			}
			certs = append(certs, c)
		}
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("the %d signature lists have no certificate, want at least one of type X509", len(lists))
	}
	return certs, nil
}

// DigestList is the list of Authenticode digests of images under one hash, in the order given:
// SHA-1, SHA-224, SHA-256, SHA-384 or SHA-512. See [SHA256List].
func DigestList(owner osmith.GUID, h crypto.Hash, digests ...[]byte) (SignatureList, error) {
	types := map[crypto.Hash]osmith.GUID{crypto.SHA1: TypeSHA1, crypto.SHA224: TypeSHA224, crypto.SHA256: TypeSHA256, crypto.SHA384: TypeSHA384, crypto.SHA512: TypeSHA512}
	typ, ok := types[h]
	if !ok {
		return SignatureList{}, prefix.Error("secureboot", fmt.Errorf("no signature list holds %v digests: want SHA-1, SHA-224, SHA-256, SHA-384 or SHA-512", h))
	}
	l := SignatureList{Type: typ}
	for i, d := range digests {
		if len(d) != h.Size() {
			return SignatureList{}, prefix.Error("secureboot", fmt.Errorf("digest %d has %d bytes, %v has %d", i, len(d), h, h.Size()))
		}
		l.Signatures = append(l.Signatures, Signature{Owner: owner, Data: bytes.Clone(d)})
	}
	return l, nil
}

// SHA256List is [DigestList] for SHA-256, which all firmware knows.
func SHA256List(owner osmith.GUID, digests ...[32]byte) SignatureList {
	l := SignatureList{Type: TypeSHA256}
	for _, d := range digests {
		l.Signatures = append(l.Signatures, Signature{Owner: owner, Data: bytes.Clone(d[:])})
	}
	return l
}

// CertificateDigestList is the list for dbx that revokes certificates by the digest of their
// to-be-signed part, SHA-256, SHA-384 or SHA-512, which needs far less room than the certificates.
// from is the time from which signatures are revoked; the zero time revokes all. Firmware uses it
// only for signatures with a time stamp.
func CertificateDigestList(owner osmith.GUID, h crypto.Hash, from time.Time, certs ...*x509.Certificate) (SignatureList, error) {
	for typ, known := range certificateHashes {
		if known != h {
			continue
		}
		l := SignatureList{Type: typ}
		for _, c := range certs {
			w := h.New()
			w.Write(c.RawTBSCertificate)
			data, err := appendOptionalTime(w.Sum(nil), from)
			if err != nil {
				return SignatureList{}, prefix.Error("secureboot", err)
			}
			l.Signatures = append(l.Signatures, Signature{Owner: owner, Data: data})
		}
		return l, nil
	}
	return SignatureList{}, prefix.Error("secureboot", fmt.Errorf("%v digests do not revoke certificates: want SHA-256, SHA-384 or SHA-512", h))
}

// Merge appends the entries of more that lists does not have, as edk2 does when a variable is
// appended to (AuthService.c, FilterSignatureList): entries are equal if type, size, owner and data
// are. Lists of more without a new entry are left out.
func Merge(lists []SignatureList, more ...SignatureList) []SignatureList {
	merged := append([]SignatureList(nil), lists...)
	there := entriesOf(lists)
	for _, l := range more {
		fresh := SignatureList{Type: l.Type, Header: l.Header}
		for _, s := range l.Signatures {
			if !there[entryKey{l.Type, s.Owner, string(s.Data)}] {
				fresh.Signatures = append(fresh.Signatures, s)
			}
		}
		if len(fresh.Signatures) > 0 {
			merged = append(merged, fresh)
		}
	}
	return merged
}

// Without returns lists without the entries for which drop is true. Lists that become empty are
// left out.
func Without(lists []SignatureList, drop func(typ osmith.GUID, s Signature) bool) []SignatureList {
	rest := []SignatureList{}
	for _, l := range lists {
		kept := SignatureList{Type: l.Type, Header: l.Header}
		for _, s := range l.Signatures {
			if !drop(l.Type, s) {
				kept.Signatures = append(kept.Signatures, s)
			}
		}
		if len(kept.Signatures) > 0 {
			rest = append(rest, kept)
		}
	}
	return rest
}

// without returns lists without a certificate, whatever its owner.
func without(lists []SignatureList, c *x509.Certificate) []SignatureList {
	return Without(lists, func(typ osmith.GUID, s Signature) bool { return typ == TypeX509 && string(s.Data) == string(c.Raw) })
}

// entryKey is what makes entries equal.
type entryKey struct {
	typ, owner osmith.GUID
	data       string
}

func entriesOf(lists []SignatureList) map[entryKey]bool {
	all := map[entryKey]bool{}
	for _, l := range lists {
		for _, s := range l.Signatures {
			all[entryKey{l.Type, s.Owner, string(s.Data)}] = true
		}
	}
	return all
}

// containsCertificate looks for a certificate, whatever its owner.
func containsCertificate(lists []SignatureList, c *x509.Certificate) bool {
	for _, l := range lists {
		if l.Type != TypeX509 {
			continue
		}
		for _, s := range l.Signatures {
			if bytes.Equal(s.Data, c.Raw) {
				return true
			}
		}
	}
	return false
}

func bad(off int, field, format string, args ...any) error {
	return &osmith.FormatError{Offset: int64(off), Field: field, Err: fmt.Errorf(format, args...)}
}
