package secureboot

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/cms"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/signing/secureboot/internal/edk2"
)

// Sentinels for what callers branch on.
var (
	// ErrUntrusted says that an update is well-formed and signed, but not by a trusted certificate.
	ErrUntrusted = errors.New("the update is not signed by a trusted certificate")

	// ErrSignature says that the signature of an update does not match it: content, variable,
	// attributes or time differ.
	ErrSignature = errors.New("the signature does not match the update")
)

// guidPKCS7 is EFI_CERT_TYPE_PKCS7_GUID.
var guidPKCS7 = osmith.MustParseGUID("4aafd29d-68df-49ee-8aa9-347d375665a7")

// winCertificate is the beginning of WIN_CERTIFICATE_UEFI_GUID, which follows the time in
// EFI_VARIABLE_AUTHENTICATION_2 (UEFI Specification 2.10, section 8.2.2). SignedData follows it,
// then the new content of the variable.
type winCertificate struct {
	Length         uint32 // with this header
	Revision, Type uint16
	CertType       [16]byte // mixed-endian
}

const (
	certHeaderSize  = 24
	certRevision    = 0x0200
	certTypeEFIGUID = 0x0ef1
	authHeaderSize  = timeSize + certHeaderSize
)

// An Update is a change of a variable that holds keys, which a key is about to sign.
type Update struct {
	Variable string // PK, KEK, db, dbx, dbt or dbr
	Payload  []byte // signature lists; empty deletes the variable
	// in whole seconds; firmware refuses a time that is not later than the variable's, unless
	// Append
	Time time.Time
	// add to the variable instead of replacing it; firmware drops entries that it already has
	Append bool
}

// A Pending update is signed but not yet written: an announced dbx, a step of a rotation.
type Pending struct {
	Variable string
	Auth     []byte // the .auth file
	Append   bool   // as it was signed
	Name     string // name for reports and errors: the update's file
}

// Digest returns the SHA-256 digest that a key has to sign: RSA by PKCS #1 v1.5, or ECDSA. See
// [Update.Join].
func (u Update) Digest() ([]byte, error) {
	sum, err := u.digest()
	return sum, prefix.Error("secureboot", err)
}

func (u Update) digest() ([]byte, error) {
	if u.Time.IsZero() {
		return nil, errors.New("the update has no time: set Update.Time to one that is later than the variable's")
	}
	stamp, err := appendTime(nil, u.Time)
	if err != nil {
		return nil, err
	}
	lists, err := parseLists(u.Payload)
	if err != nil {
		return nil, err
	}
	if u.Variable == "PK" && len(u.Payload) > 0 && (len(lists) != 1 || len(lists[0].Signatures) != 1 || lists[0].Type != TypeX509) {
		return nil, fmt.Errorf("PK holds exactly one certificate in one list: got %d lists", len(lists))
	}
	signed, err := signedBytes(u.Variable, u.Payload, stamp, u.Append)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(signed)
	return sum[:], nil
}

// Sign returns the .auth form of an update, ready for SetVariable, for the firmware's menu, or for
// systemd-boot's enrolment from /loader/keys. PK and KEK are signed by the key of PK, db and dbx by
// a key of KEK. In Setup Mode firmware takes all updates except PK without checking the signature;
// PK must be signed by its own key. The same inputs give the same bytes with an RSA key and with an
// *ecdsa.PrivateKey; not all firmware takes ECDSA.
func (u Update) Sign(key crypto.Signer, cert *x509.Certificate) (auth []byte, err error) {
	defer prefix.Add("secureboot", &err)
	if cert == nil {
		return nil, errors.New("no certificate of the signer was given")
	}
	sum, err := u.digest()
	if err != nil {
		return nil, err
	}
	signature, err := cms.SignDigest(key, cert, crypto.SHA256, sum)
	if err != nil {
		return nil, err
	}
	return u.join(cert, signature)
}

// Join returns the .auth form from a signature over [Update.Digest] made elsewhere, after checking
// it against the certificate.
func (u Update) Join(cert *x509.Certificate, signature []byte) ([]byte, error) {
	auth, err := u.join(cert, signature)
	return auth, prefix.Error("secureboot", err)
}

func (u Update) join(cert *x509.Certificate, signature []byte) ([]byte, error) {
	sum, err := u.digest()
	if err != nil {
		return nil, err
	}
	t := cms.Template{Digest: sum, Certificate: cert, Bare: true}
	message, err := t.Join(signature)
	if err != nil {
		return nil, err
	}
	if len(message) > 0xffff || !edk2.TakesDigest(message, edk2.Options{OnlySHA256: true, NoContentInfo: true}) {
		return nil, fmt.Errorf("a SignedData of %d bytes: firmware takes 256 to 65535: use a smaller certificate", len(message))
	}
	b, err := appendTime(nil, u.Time)
	if err != nil {
		return nil, err
	}
	b, err = binary.Append(b, binary.LittleEndian, winCertificate{
		Length: uint32(certHeaderSize + len(message)), Revision: certRevision, Type: certTypeEFIGUID, CertType: [16]byte(efi.AppendGUID(nil, guidPKCS7)),
	})
	if err != nil {
		return nil, err
	}
	b = append(b, message...)
	return append(b, u.Payload...), nil
}

// Auth is a parsed .auth file.
type Auth struct {
	// the zero time if the stamp is not a date, which firmware does not check
	Time      time.Time
	Payload   []byte // signature lists; empty deletes the variable
	RawSigner []byte // the signer's certificate, DER
	// the same certificate; nil if crypto/x509 cannot parse it, though firmware may
	Signer *x509.Certificate
	// certificates that the signature carries, without those that crypto/x509 cannot parse
	Certificates []*x509.Certificate

	stamp   efiStamp
	message *edk2.Message
	signer  *edk2.Certificate
}

// ParseAuth reads an .auth file without judging its signature. What firmware would refuse before it
// looks at the signature is a [*osmith.FormatError]. The result points into b.
func ParseAuth(b []byte) (*Auth, error) {
	a, err := parseAuth(b)
	return a, prefix.Error("secureboot", err)
}

func parseAuth(b []byte) (*Auth, error) {
	u, err := splitAuth(b)
	if err != nil {
		return nil, err
	}
	return u.parse()
}

// UnverifiedPayload returns the new content of the variable that an .auth file carries, and checks
// only its lengths and the type of its certificate: this is what firmware writes in Setup Mode,
// even if [ParseAuth] fails. Errors are [*osmith.FormatError]. The result points into b.
func UnverifiedPayload(b []byte) (payload []byte, err error) {
	defer prefix.Add("secureboot", &err)
	u, err := splitAuth(b)
	if err != nil {
		return nil, err
	}
	if err := u.checkType(); err != nil {
		return nil, err
	}
	return u.payload, nil
}

// checkType checks that what is between time and payload calls itself a signature.
func (u *rawAuth) checkType() error {
	if u.header.Type != certTypeEFIGUID { // the revision is not looked at
		return bad(timeSize+6, "WIN_CERTIFICATE", "type 0x%04x, want 0x%04x: an update begins with a time and a signature (.auth), signature lists alone (.esl) are not an update", u.header.Type, certTypeEFIGUID)
	}
	if g := efi.GUID(u.header.CertType[:]); g != guidPKCS7 {
		return bad(timeSize+8, "certificate type", "%v, want PKCS #7 (%v)", g, guidPKCS7)
	}
	return nil
}

// rawAuth is an .auth file in its parts: all that firmware looks at in Setup Mode.
type rawAuth struct {
	stamp            efiStamp
	header           winCertificate
	message, payload []byte
}

// splitAuth checks lengths.
func splitAuth(b []byte) (*rawAuth, error) {
	if len(b) < authHeaderSize {
		return nil, bad(0, "header", "%d bytes, want at least the %d of time and WIN_CERTIFICATE", len(b), authHeaderSize)
	}
	u := &rawAuth{stamp: efiStamp(b[:timeSize])}
	cert := b[timeSize:]
	if _, err := binary.Decode(cert, binary.LittleEndian, &u.header); err != nil {
		return nil, err
	}
	size := int64(u.header.Length)
	if size < certHeaderSize || size > int64(len(cert)) {
		return nil, bad(timeSize, "certificate length", "%d, want %d to the %d bytes left", size, certHeaderSize, len(cert))
	}
	u.message, u.payload = cert[certHeaderSize:size], cert[size:]
	return u, nil
}

// parse reads what firmware looks at out of Setup Mode.
func (u *rawAuth) parse() (*Auth, error) {
	if err := u.stamp.check(); err != nil {
		return nil, err
	}
	if err := u.checkType(); err != nil {
		return nil, err
	}
	if !edk2.TakesDigest(u.message, edk2.Options{}) {
		return nil, bad(authHeaderSize, "SignedData", "%d bytes without the identifier of SHA-256, SHA-384 or SHA-512 where firmware looks for it "+
			"(byte 13, or 32 with a ContentInfo; a length of two bytes): sign the update again", len(u.message))
	}
	m, err := edk2.ParseSignedData(u.message)
	if err != nil {
		return nil, &osmith.FormatError{Offset: authHeaderSize, Field: "SignedData", Err: err}
	}
	if !m.IsData() {
		return nil, bad(authHeaderSize, "SignedData", "its content type is not plain data (1.2.840.113549.1.7.1), as updates require: sign the update again")
	}
	signers, err := m.SignerCertificates()
	if err != nil {
		return nil, &osmith.FormatError{Offset: authHeaderSize, Field: "SignedData", Err: err}
	}
	a := &Auth{Payload: u.payload, RawSigner: signers[0].Raw, stamp: u.stamp, message: m, signer: signers[0]}
	a.Time, _ = u.stamp.time()
	for _, c := range m.Certificates {
		parsed, err := x509.ParseCertificate(c.Raw)
		if err != nil {
			continue
		}
		a.Certificates = append(a.Certificates, parsed)
		if bytes.Equal(c.Raw, a.RawSigner) {
			a.Signer = parsed
		}
	}
	return a, nil
}

// VerifyAuth reads an .auth file and checks it as firmware does for its variable: the signature
// covers name, vendor, attributes (which say whether the update appends), time and content, and was
// made by one of the trusted certificates or by a certificate issued by them. Pass the certificate
// in PK for PK and KEK, those in KEK for db and dbx. The caller compares the time with that of the
// variable. Errors are [*osmith.FormatError], [ErrSignature], [ErrUntrusted].
func VerifyAuth(p Pending, trusted []*x509.Certificate) (a *Auth, err error) {
	defer prefix.Add("secureboot", &err)
	if a, err = parseAuth(p.Auth); err != nil {
		return nil, err
	}
	var certs []*edk2.Certificate
	for _, c := range trusted {
		parsed, err := edk2.ParseCertificate(c.Raw)
		if err != nil {
			return nil, fmt.Errorf("the trusted certificate %q: %w", c.Subject, err)
		}
		certs = append(certs, parsed)
	}
	if err := a.verify(p, certs, edk2.Options{}, "want one that the trusted certificates lead to"); err != nil {
		return nil, err
	}
	return a, nil
}

// fits checks the signature over the update, without a look at where its certificate leads.
func (a *Auth) fits(p Pending) error {
	signed, err := signedBytes(p.Variable, a.Payload, a.stamp[:], p.Append)
	if err != nil {
		return err
	}
	if err = a.message.Signs(signed); err == nil || edk2.IsUnknown(err) {
		return err
	}
	advice := "it was not signed for any variable with this time and content: sign it anew"
	if name, add, ok := a.SignedFor(); ok {
		advice = fmt.Sprintf("it was signed as %s of %s: give it as that", writeKind(add), name)
	}
	return fmt.Errorf("%w as %s of %s, by %q: %w; %s", ErrSignature, writeKind(p.Append), p.Variable, subject(a.signer), err, advice)
}

// SignedFor returns the variable for which the signer has signed the update, and whether as an
// append; ok is false if no variable that holds keys matches, or the update was changed.
// [VerifyAuth] and [Apply] decide whether a machine trusts the signer.
func (a *Auth) SignedFor() (variable string, appendWrite, ok bool) {
	for _, k := range keyVariables(new(osmith.FirmwareVariables)) {
		for _, add := range []bool{true, false} {
			signed, err := signedBytes(k.name, a.Payload, a.stamp[:], add)
			if err == nil && a.message.Signs(signed) == nil {
				return k.name, add, true
			}
		}
	}
	return "", false, false
}

// writeKind is how an update is written, for a person.
func writeKind(appendWrite bool) string {
	if appendWrite {
		return "an append"
	}
	return "a replacement"
}

// verify checks the signature of an update as edk2 does (AuthService.c, VerifyTimeBasedPayload),
// against each of the certificates. want says what they are.
func (a *Auth) verify(p Pending, certs []*edk2.Certificate, o edk2.Options, want string) error {
	signed, err := signedBytes(p.Variable, a.Payload, a.stamp[:], p.Append)
	if err != nil {
		return err
	}
	var open, closest error
	for _, c := range certs {
		_, err := a.message.Verify(c, signed, o)
		if err == nil {
			return nil
		}
		if edk2.IsUnknown(err) {
			open = err
		} else if leads, _ := edk2.Leads(a.signer, a.message.Certificates, c); leads {
			closest = fmt.Errorf("the certificate %q chains there, but firmware does not use it: %w", subject(c), err)
		}
	}
	// Why not: the signature does not fit the update, or another signer made it.
	if err := a.fits(p); err != nil && !edk2.IsUnknown(err) {
		return err
	}
	switch {
	case open != nil:
		return fmt.Errorf("%w: signed by %q: %w", ErrUntrusted, subject(a.signer), open)
	case closest != nil:
		return fmt.Errorf("%w: signed by %q: %w", ErrUntrusted, subject(a.signer), closest)
	}
	var have []string
	for _, c := range certs {
		have = append(have, fmt.Sprintf("%q", subject(c)))
	}
	if len(have) == 0 {
		have = []string{"none"}
	}
	return fmt.Errorf("%w: signed by %q, %s: %s", ErrUntrusted, subject(a.signer), want, strings.Join(have, ", "))
}

// efiTime is EFI_TIME (UEFI Specification 2.10, section 8.3.1). All after the second is zero in a
// variable's time stamp (section 8.2.2).
type efiTime struct {
	Year                             uint16
	Month, Day, Hour, Minute, Second uint8
	_                                uint8
	Nanosecond                       uint32
	TimeZone                         int16
	Daylight                         uint8
	_                                uint8
}

const timeSize = 16

func appendTime(b []byte, t time.Time) ([]byte, error) {
	t = t.UTC()
	if y := t.Year(); y < 1900 || y > 9999 {
		return nil, fmt.Errorf("time %v: the year is not one of 1900 to 9999", t)
	}
	return binary.Append(b, binary.LittleEndian, efiTime{Year: uint16(t.Year()), Month: uint8(t.Month()), Day: uint8(t.Day()),
		Hour: uint8(t.Hour()), Minute: uint8(t.Minute()), Second: uint8(t.Second())})
}

// appendOptionalTime is [appendTime], with zero bytes for no time.
func appendOptionalTime(b []byte, t time.Time) ([]byte, error) {
	if t.IsZero() {
		return append(b, make([]byte, timeSize)...), nil
	}
	return appendTime(b, t)
}

// efiStamp is EFI_TIME as it is in a file.
type efiStamp [timeSize]byte

// check is what firmware wants of the stamp of an update: zero after the seconds.
func (s efiStamp) check() error {
	for i, x := range s[7:] {
		if x != 0 {
			return bad(7+i, "time stamp", "byte 0x%02x after the seconds, want zero", x)
		}
	}
	return nil
}

// fields are year, month, day, hour, minute and second.
func (s efiStamp) fields() [6]int {
	return [6]int{int(binary.LittleEndian.Uint16(s[:])), int(s[2]), int(s[3]), int(s[4]), int(s[5]), int(s[6])}
}

// time is the time; false if the stamp is not a date and time from 1900 on.
func (s efiStamp) time() (time.Time, bool) {
	f := s.fields()
	t := time.Date(f[0], time.Month(f[1]), f[2], f[3], f[4], f[5], 0, time.UTC)
	again, err := appendTime(nil, t)
	if err != nil || efiStamp(again).fields() != f {
		return time.Time{}, false
	}
	return t, true
}

// laterThan compares field by field, as AuthServiceInternalCompareTimeStamp does.
func (s efiStamp) laterThan(t time.Time) bool {
	t = t.UTC()
	f := s.fields()
	other := [6]int{t.Year(), int(t.Month()), t.Day(), t.Hour(), t.Minute(), t.Second()}
	return slices.Compare(f[:], other[:]) > 0
}

func parseTime(b []byte) (time.Time, error) {
	s := efiStamp(b[:timeSize])
	if err := s.check(); err != nil {
		return time.Time{}, err
	}
	t, ok := s.time()
	if !ok {
		f := s.fields()
		return time.Time{}, bad(0, "time stamp", "%d-%d-%d %d:%d:%d: want a date and time from 1900 on", f[0], f[1], f[2], f[3], f[4], f[5])
	}
	return t, nil
}

// signedBytes is what the signature of an update covers (UEFI Specification 2.10, section 8.2.2):
// name in UTF-16LE without NUL, vendor, attributes, time stamp, new content.
func signedBytes(name string, payload []byte, stamp []byte, appendWrite bool) ([]byte, error) {
	vendor, err := vendorGUID(name)
	if err != nil {
		return nil, err
	}
	attrs := uint32(attributesKeys)
	if appendWrite {
		attrs |= attributeAppend
	}
	b := efi.AppendGUID(efi.AppendUTF16(nil, name), vendor)
	b = binary.LittleEndian.AppendUint32(b, attrs)
	b = append(b, stamp...)
	return append(b, payload...), nil
}
