package secureboot

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/osmith-dev/osmith"
)

// DigestList is the list of Authenticode digests of images under one hash, in the order given: SHA-1, SHA-224, SHA-256, SHA-384 or
// SHA-512. All firmware knows SHA-256.
func DigestList(owner osmith.GUID, h crypto.Hash, digests ...[]byte) (SignatureList, error) {
	types := map[crypto.Hash]osmith.GUID{crypto.SHA1: TypeSHA1, crypto.SHA224: TypeSHA224, crypto.SHA256: TypeSHA256, crypto.SHA384: TypeSHA384, crypto.SHA512: TypeSHA512}
	typ, ok := types[h]
	if !ok {
		return SignatureList{}, fmt.Errorf("secureboot: no signature list holds %v digests", h)
	}
	l := SignatureList{Type: typ}
	for i, d := range digests {
		if len(d) != h.Size() {
			return SignatureList{}, fmt.Errorf("secureboot: digest %d has %d bytes, %v has %d", i, len(d), h, h.Size())
		}
		l.Signatures = append(l.Signatures, Signature{Owner: owner, Data: bytes.Clone(d)})
	}
	return l, nil
}

// CertificateHashList is the list for dbx that revokes certificates by the digest of their to-be-signed part, SHA-256, SHA-384 or SHA-512, which
// takes far less room than the certificates. from is the time from which signatures are void; the zero time, always. Firmware looks at
// it only for signatures with a time stamp.
func CertificateHashList(owner osmith.GUID, h crypto.Hash, from time.Time, certs ...*x509.Certificate) (SignatureList, error) {
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
				return SignatureList{}, err
			}
			l.Signatures = append(l.Signatures, Signature{Owner: owner, Data: data})
		}
		return l, nil
	}
	return SignatureList{}, fmt.Errorf("secureboot: certificates are not revoked by their %v digests, but SHA-256, SHA-384, SHA-512", h)
}

// Merge appends the entries of more that lists does not have, as edk2 does when a variable is appended to (AuthService.c,
// FilterSignatureList): entries are equal if type, size, owner and data are. Lists of more that have nothing new vanish.
func Merge(lists []SignatureList, more ...SignatureList) []SignatureList {
	merged := append([]SignatureList(nil), lists...)
	for _, l := range more {
		fresh := SignatureList{Type: l.Type, Header: l.Header}
		for _, s := range l.Signatures {
			if !contains(lists, l.Type, s) {
				fresh.Signatures = append(fresh.Signatures, s)
			}
		}
		if len(fresh.Signatures) > 0 {
			merged = append(merged, fresh)
		}
	}
	return merged
}

// Without returns lists without the entries for which drop is true. Lists that have nothing left vanish.
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

func contains(lists []SignatureList, typ osmith.GUID, s Signature) bool {
	for _, l := range lists {
		if l.Type != typ {
			continue
		}
		for _, have := range l.Signatures {
			if have.Owner == s.Owner && bytes.Equal(have.Data, s.Data) {
				return true
			}
		}
	}
	return false
}

// containsCertificate looks for a certificate whoever owns it.
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
