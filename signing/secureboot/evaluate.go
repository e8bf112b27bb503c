package secureboot

import (
	"bytes"
	"crypto"
	_ "crypto/sha256" // digests of certificates in dbx
	_ "crypto/sha512"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/osmith-dev/osmith/internal/cms"
)

// Variables are the Secure Boot state of a machine. The byte slices are the content of the variables, without the four attribute bytes that
// efivarfs puts in front; an absent variable is nil.
type Variables struct {
	SecureBoot bool // the variable SecureBoot is 1
	SetupMode  bool // the variable SetupMode is 1

	PK, KEK, DB, DBX []byte
	DBT, DBR         []byte // time stamp and recovery databases, rarely there

	// Times are those of the last update of each variable by name, as far as they are known: firmware keeps them, a variable store
	// shows them, efivarfs does not. [Variables.Apply] refuses what is not later.
	Times map[string]time.Time

	// SBATLevel is shim's variable SbatLevelRT, nil on a machine without shim.
	SBATLevel []byte
}

// A Candidate is one signature of an image: what authenticode.Signatures returns, by a plain conversion, as the fields are the
// same. Digest is what the signature says, Err why it is not one by Signer.
type Candidate struct {
	Hash         crypto.Hash
	Digest       []byte
	Signer       *x509.Certificate
	Certificates []*x509.Certificate
	SigningTime  time.Time
	Err          error
}

// A Verdict is what firmware would say to an image.
type Verdict struct {
	Allowed bool
	Reason  string // for a person, always set

	// Authority is the entry of db that validated the image, nil if none did or none was needed. Firmware measures it, as
	// [Signature.AppendBinary] writes it, into PCR 7, once per boot and entry.
	Authority *Signature

	// Certificate is the one in Authority, nil if that is a digest.
	Certificate *x509.Certificate

	// Revoked says that the image was refused because dbx has its digest, a certificate or the digest of one, or because shim's SBAT
	// level is above its generation; a refused image that is not revoked is unknown or damaged.
	Revoked bool

	// Warnings do not stop firmware, but should make a person think.
	Warnings []string
}

// Evaluate tells whether a machine with these variables would run an image with these Authenticode digests and signatures, in the order of the
// file. digests needs an entry for each Hash of the signatures, and SHA-256 at least for an unsigned image.
//
// It follows edk2 (SecurityPkg, DxeImageVerificationLib, DxeImageVerificationHandler): every signature is held against
// dbx, certificates and digests; any one signature that leads to a certificate in db, or the digest of the image in db, is enough;
// the first matching entry of db is the authority. Dates do not matter. A certificate that dbx revokes from some time on counts as
// revoked, since time stamps are not read. Variables that cannot be parsed allow nothing.
func (v Variables) Evaluate(digests map[crypto.Hash][]byte, signatures []Candidate) Verdict {
	if v.SetupMode {
		return Verdict{Allowed: true, Reason: "the machine is in Setup Mode and verifies nothing"}
	}
	if !v.SecureBoot {
		return Verdict{Allowed: true, Reason: "Secure Boot is off"}
	}
	db, err := ParseSignatureLists(v.DB)
	if err != nil {
		return refuse("db cannot be parsed: %v", err)
	}
	dbx, err := ParseSignatureLists(v.DBX)
	if err != nil {
		return refuse("dbx cannot be parsed: %v", err)
	}
	if len(signatures) == 0 {
		return evaluateUnsigned(db, dbx, digests)
	}
	var accepted *Verdict
	var why string
	var withdrawn bool
	for i := range signatures {
		s := &signatures[i]
		sum := digests[s.Hash]
		if s.Hash == 0 {
			why = because(why, "signature %d: digest algorithm that firmware does not know", i)
			continue
		}
		if len(sum) == 0 {
			return refuse("the %v digest of the image, which signature %d is about, was not given", s.Hash, i)
		}
		if r := revoked(dbx, s, sum); r != "" {
			return revoke("%s", r)
		}
		if accepted == nil {
			if got := s.accept(db, dbx, sum); got.Allowed {
				accepted = &got
			} else {
				why = because(why, "signature %d: %s", i, got.Reason)
				withdrawn = withdrawn || got.Revoked
			}
		}
		if findDigest(dbx, s.Hash, sum) != nil {
			return revoke("dbx has the digest of the image, %v %x", s.Hash, sum)
		}
		if accepted == nil {
			if e := findDigest(db, s.Hash, sum); e != nil {
				accepted = &Verdict{Allowed: true, Reason: fmt.Sprintf("db has the digest of the image, %v %x", s.Hash, sum), Authority: e}
			}
		}
	}
	if accepted == nil {
		return Verdict{Reason: why, Revoked: withdrawn}
	}
	return *accepted
}

func refuse(format string, args ...any) Verdict {
	return Verdict{Reason: fmt.Sprintf(format, args...)}
}

func revoke(format string, args ...any) Verdict {
	return Verdict{Revoked: true, Reason: fmt.Sprintf(format, args...)}
}

// because collects the reasons of several signatures.
func because(why, format string, args ...any) string {
	if why != "" {
		why += "; "
	}
	return why + fmt.Sprintf(format, args...)
}

func evaluateUnsigned(db, dbx []SignatureList, digests map[crypto.Hash][]byte) Verdict {
	if len(digests[crypto.SHA256]) == 0 {
		return refuse("the image is not signed, and its SHA-256 digest was not given")
	}
	var found *Signature
	var by crypto.Hash
	for _, h := range imageHashes {
		sum := digests[h.hash]
		if len(sum) == 0 {
			continue
		}
		if findDigest(dbx, h.hash, sum) != nil {
			return revoke("dbx has the digest of the image, %v %x", h.hash, sum)
		}
		if e := findDigest(db, h.hash, sum); e != nil && found == nil {
			found, by = e, h.hash
		}
	}
	if found == nil {
		return refuse("the image is not signed, and db does not have its digest, SHA-256 %x", digests[crypto.SHA256])
	}
	return Verdict{Allowed: true, Reason: fmt.Sprintf("db has the digest of the image, %v %x", by, digests[by]), Authority: found}
}

// accept looks for the certificate of db that a signature leads to; without one it says why not.
func (s *Candidate) accept(db, dbx []SignatureList, sum []byte) Verdict {
	switch {
	case s.Err != nil:
		return refuse("%v", s.Err)
	case s.Signer == nil:
		return refuse("it does not carry the signer's certificate")
	case !bytes.Equal(s.Digest, sum):
		return refuse("the image was changed after it was signed: its %v digest is %x, the signed one %x", s.Hash, sum, s.Digest)
	}
	for _, l := range db {
		if l.Type != TypeX509 {
			continue
		}
		for i := range l.Signatures {
			root, err := x509.ParseCertificate(l.Signatures[i].Data)
			if err != nil {
				continue // firmware cannot use it either
			}
			path := cms.Chain(s.Signer, s.Certificates, []*x509.Certificate{root})
			if path == nil {
				continue
			}
			for _, c := range path {
				if certificateRevoked(dbx, c) {
					return revoke("dbx has the digest of the certificate %q", c.Subject)
				}
			}
			reason := fmt.Sprintf("db has the certificate %q", root.Subject)
			if !bytes.Equal(root.Raw, s.Signer.Raw) {
				reason += fmt.Sprintf(", which leads to the signer %q", s.Signer.Subject)
			}
			return Verdict{Allowed: true, Reason: reason, Authority: &l.Signatures[i], Certificate: root}
		}
	}
	return refuse("signed by %q, issued by %q: no certificate in db leads there", s.Signer.Subject, s.Signer.Issuer)
}

// revoked says how dbx refuses a signature by certificates, "" if it does not.
// The digest of a certificate counts whatever else is wrong with the signature, a certificate only if the signature is valid.
func revoked(dbx []SignatureList, s *Candidate, sum []byte) string {
	if s.Signer == nil {
		return ""
	}
	if certificateRevoked(dbx, s.Signer) {
		return fmt.Sprintf("dbx has the digest of the certificate %q", s.Signer.Subject)
	}
	if s.Err != nil || !bytes.Equal(s.Digest, sum) {
		return ""
	}
	for _, l := range dbx {
		if l.Type != TypeX509 {
			continue
		}
		for _, e := range l.Signatures {
			c, err := x509.ParseCertificate(e.Data)
			if bytes.Equal(e.Data, s.Signer.Raw) {
				return fmt.Sprintf("dbx has the certificate %q", s.Signer.Subject)
			}
			if err != nil {
				continue
			}
			if cms.Chain(s.Signer, s.Certificates, []*x509.Certificate{c}) != nil {
				return fmt.Sprintf("dbx has the certificate %q, which leads to the signer %q", c.Subject, s.Signer.Subject)
			}
		}
	}
	return ""
}

// certificateRevoked looks for the digest of a certificate's to-be-signed part.
func certificateRevoked(dbx []SignatureList, c *x509.Certificate) bool {
	for _, l := range dbx {
		h, ok := certificateHashes[l.Type]
		if !ok {
			continue
		}
		w := h.New()
		w.Write(c.RawTBSCertificate)
		sum := w.Sum(nil)
		for _, e := range l.Signatures {
			if bytes.HasPrefix(e.Data, sum) {
				return true
			}
		}
	}
	return false
}

// findDigest returns the entry with a digest of an image, nil if there is none.
func findDigest(lists []SignatureList, h crypto.Hash, sum []byte) *Signature {
	for _, k := range imageHashes {
		if k.hash != h {
			continue
		}
		for _, l := range lists {
			if l.Type != k.typ {
				continue
			}
			for i := range l.Signatures {
				if bytes.Equal(l.Signatures[i].Data, sum) {
					return &l.Signatures[i]
				}
			}
		}
	}
	return nil
}
