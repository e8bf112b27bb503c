package secureboot

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"time"

	"github.com/osmith-dev/osmith/internal/cms"
	"github.com/osmith-dev/osmith/internal/efi"
)

// EFI_VARIABLE_AUTHENTICATION_2 (UEFI Specification 2.10, section 8.2.2): EFI_TIME, then WIN_CERTIFICATE_UEFI_GUID, which is u32 length
// with header, u16 revision, u16 type, GUID, SignedData. The new content of the variable follows.
const (
	certHeaderSize  = 24
	certRevision    = 0x0200
	certTypeEFIGUID = 0x0ef1
	authHeaderSize  = timeSize + certHeaderSize
)

// An Update is a change of a key variable that a key is about to sign.
type Update struct {
	Name    string    // PK, KEK, db, dbx, dbt or dbr
	Payload []byte    // signature lists; empty deletes the variable
	Time    time.Time // whole seconds count; firmware refuses one that is not later than the variable's, unless Append
	Append  bool      // add to the variable instead of replacing it; firmware drops entries that it already has
}

// SignVariable returns the .auth form of a change, ready for SetVariable, for the firmware's menu, or for systemd-boot's enrolment
// from /loader/keys. PK and KEK are signed by the key of PK, db and dbx by one of KEK; in Setup Mode firmware takes all but PK without
// looking at the signature, and PK signed by itself.
func SignVariable(name string, payload []byte, at time.Time, key crypto.Signer, cert *x509.Certificate, appendWrite bool) ([]byte, error) {
	return Update{Name: name, Payload: payload, Time: at, Append: appendWrite}.Sign(key, cert)
}

// Digest returns the SHA-256 digest that a key has to sign: RSA by PKCS #1 v1.5, or ECDSA. See [Update.Join].
func (u Update) Digest() ([]byte, error) {
	if u.Time.IsZero() {
		return nil, errors.New("secureboot: an update needs a time")
	}
	stamp, err := appendTime(nil, u.Time)
	if err != nil {
		return nil, err
	}
	lists, err := ParseSignatureLists(u.Payload)
	if err != nil {
		return nil, err
	}
	if u.Name == "PK" && len(u.Payload) > 0 && (len(lists) != 1 || len(lists[0].Signatures) != 1 || lists[0].Type != TypeX509) {
		return nil, errors.New("secureboot: PK holds exactly one certificate")
	}
	signed, err := signedBytes(u.Name, u.Payload, stamp, u.Append)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(signed)
	return sum[:], nil
}

// Sign signs an update. The same inputs give the same bytes with an RSA key and with an *ecdsa.PrivateKey; not all firmware
// takes ECDSA.
func (u Update) Sign(key crypto.Signer, cert *x509.Certificate) ([]byte, error) {
	if cert == nil {
		return nil, errors.New("secureboot: no certificate of the signer")
	}
	sum, err := u.Digest()
	if err != nil {
		return nil, err
	}
	signature, err := cms.SignDigest(key, cert, crypto.SHA256, sum)
	if err != nil {
		return nil, at(err)
	}
	return u.Join(cert, signature)
}

// Join returns the .auth form from a signature over [Update.Digest] made elsewhere, after checking it against the certificate.
func (u Update) Join(cert *x509.Certificate, signature []byte) ([]byte, error) {
	sum, err := u.Digest()
	if err != nil {
		return nil, err
	}
	t := cms.Template{Digest: sum, Certificate: cert, Bare: true}
	message, err := t.Join(signature)
	if err != nil {
		return nil, at(err)
	}
	if err := checkFixedOffsets(message, 0); err != nil {
		return nil, err
	}
	b, err := appendTime(nil, u.Time)
	if err != nil {
		return nil, err
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(certHeaderSize+len(message)))
	b = binary.LittleEndian.AppendUint16(b, certRevision)
	b = binary.LittleEndian.AppendUint16(b, certTypeEFIGUID)
	b = efi.AppendGUID(b, guidPKCS7)
	b = append(b, message...)
	return append(b, u.Payload...), nil
}

// checkFixedOffsets makes sure of what edk2 (AuthService.c, VerifyTimeBasedPayload) looks at before it parses a message: a length of two
// bytes, and the identifier of SHA-256 at byte 13 of a bare SignedData or 32 of one in a ContentInfo.
func checkFixedOffsets(m []byte, off int) error {
	const bare, wrapped = 13, 32
	sha := []byte{0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01}
	if len(m) < wrapped+len(sha) || m[1] != 0x82 {
		return bad(off, "SignedData", "%d bytes; firmware expects 256 to 65535", len(m))
	}
	if !bytes.HasPrefix(m[bare:], sha) && !bytes.HasPrefix(m[wrapped:], sha) {
		return bad(off+bare, "digest algorithm", "not SHA-256 where firmware looks for it")
	}
	return nil
}

// Auth is an .auth file as read.
type Auth struct {
	Time         time.Time
	Payload      []byte // signature lists; empty deletes the variable
	Signer       *x509.Certificate
	Certificates []*x509.Certificate // all that the signature carries

	stamp   []byte
	message *cms.SignedData
}

// ParseAuth reads an .auth file without judging its signature. What firmware would refuse before it looks at the signature is a
// [*FormatError]. The result points into b.
func ParseAuth(b []byte) (*Auth, error) {
	if len(b) < authHeaderSize {
		return nil, bad(0, "header", "%d bytes, want at least %d", len(b), authHeaderSize)
	}
	when, err := parseTime(b)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	cert := b[timeSize:]
	if rev, typ := le.Uint16(cert[4:]), le.Uint16(cert[6:]); rev != certRevision || typ != certTypeEFIGUID {
		return nil, bad(timeSize+4, "WIN_CERTIFICATE", "revision 0x%04x and type 0x%04x, want 0x%04x and 0x%04x", rev, typ, certRevision, certTypeEFIGUID)
	}
	if g := efi.GUID(cert[8:]); g != guidPKCS7 {
		return nil, bad(timeSize+8, "certificate type", "%v, want PKCS #7 (%v)", g, guidPKCS7)
	}
	size := int64(le.Uint32(cert))
	if size < certHeaderSize || size > int64(len(cert)) {
		return nil, bad(timeSize, "certificate length", "%d, want %d to the %d bytes left", size, certHeaderSize, len(cert))
	}
	message := cert[certHeaderSize:size]
	if err := checkFixedOffsets(message, authHeaderSize); err != nil {
		return nil, err
	}
	sd, rest, err := cms.Parse(message, authHeaderSize)
	if err != nil {
		return nil, at(err)
	}
	switch {
	case len(rest) != 0:
		return nil, bad(authHeaderSize+len(sd.Raw), "SignedData", "%d bytes follow it inside the certificate", len(rest))
	case sd.Content != nil || !sd.ContentType.Equal(cms.OIDData):
		return nil, bad(authHeaderSize, "SignedData", "not detached data")
	case len(sd.Signers) != 1:
		return nil, bad(authHeaderSize, "SignedData", "%d signers, want 1", len(sd.Signers))
	}
	a := &Auth{Time: when, Payload: cert[size:], Certificates: sd.Certificates, stamp: b[:timeSize], message: sd}
	if a.Signer = sd.Certificate(&sd.Signers[0]); a.Signer == nil {
		return nil, bad(authHeaderSize, "SignedData", "it does not carry the signer's certificate")
	}
	if _, err := ParseSignatureLists(a.Payload); err != nil {
		e, _ := errors.AsType[*FormatError](err)
		return nil, bad(timeSize+int(size)+int(e.Offset), e.Field, "%w", e.Err)
	}
	return a, nil
}

// VerifyAuth reads an .auth file and checks it as firmware does for the variable of that name: the signature covers name, vendor,
// attributes (which say whether the update appends), time and content, and was made by one of the trusted certificates or by one issued by
// them. These are the certificate in PK for PK and KEK, those in KEK for db and dbx. Whether the time is later than the variable's is for
// the caller to compare. Errors are [*FormatError], [ErrSignature], [ErrUntrusted].
func VerifyAuth(b []byte, name string, appendWrite bool, trusted []*x509.Certificate) (*Auth, error) {
	a, err := ParseAuth(b)
	if err != nil {
		return nil, err
	}
	if err := a.verify(name, appendWrite, trusted, false); err != nil {
		return nil, err
	}
	return a, nil
}
