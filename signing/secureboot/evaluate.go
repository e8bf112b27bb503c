package secureboot

import (
	"bytes"
	"cmp"
	_ "crypto/sha512" // digests of certificates in dbx
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/sbat"
)

// A Verdict is the answer of firmware, or of shim if firmware starts one, about one image.
type Verdict struct {
	Allowed bool
	Reason  string // text for a person, always set
	Rule    Rule   // rule that decided, always set; its Remedy says what to change

	// Authority is the entry that validated the image, nil if no entry did or none was needed.
	// Firmware and shim measure it into PCR 7, once per boot and entry; [Verdict.AuthorityEvent] is
	// what they hash. U-Boot measures no authority: the field is nil in the verdicts of its rows.
	Authority *Signature

	// AuthorityVariable is the variable that holds Authority, as named in the event: db; MokListRT,
	// also for what shim was built to trust; vendor_db for signature lists that shim was built
	// with; Shim, if the certificate of shim counts and shim does not look for it in MokListRT.
	// Empty without Authority.
	AuthorityVariable string

	// Certificate is the certificate that validated the image; nil if a digest did, or if
	// crypto/x509 cannot parse the certificate.
	Certificate *x509.Certificate

	// Revoked says that the image was refused because dbx, MokListX or shim itself has its digest,
	// a certificate or the digest of one, or because shim's SBAT level is above its generation; a
	// refused image that is not revoked is unknown or damaged.
	Revoked bool

	// Unknown says that it is unknown whether firmware or shim allows or refuses the image; the
	// image then counts as not allowed.
	Unknown bool

	// Differs are the other rows of firmware with the opposite answer.
	Differs []Firmware

	// Undecided are the other rows of firmware whose answer is unknown.
	Undecided []Firmware

	// Warnings do not keep firmware from starting the image, but a person should look at them.
	Warnings []string
}

// EvaluateOptions are the choices of [Evaluate].
type EvaluateOptions struct {
	// At is the time for warnings about certificates that have expired, although firmware ignores
	// dates; with the zero time there are no such warnings.
	At time.Time

	// Firmware is the row that judges: [FirmwareEDK2Stable202608] if it is empty. With
	// [FirmwareAny] an image is allowed if all rows allow it, those of U-Boot too; otherwise the
	// reason begins with the row that does not.
	Firmware Firmware

	// Shim is the shim that judges the image in place of Firmware: shim starts the image itself, or
	// a program that shim has started asks shim about it. Whether firmware starts shim is a
	// separate question: call Evaluate with [Shim].Image.
	Shim *Shim

	// ByProgram says that a program such as GRUB asks Shim about the image, and not shim itself:
	// the image may then lack a section .sbat.
	ByProgram bool

	// NoShim says that firmware starts the image and no shim is involved. With neither Shim nor
	// NoShim it is unknown whether there is a shim: if there is a SbatLevel, an image must then
	// pass firmware, SBAT, and the checks by all known variables of shim.
	NoShim bool
}

// Evaluate says whether a machine with these variables would run an image. It knows two kinds of
// firmware, in rows: see [Firmwares].
//
// The rows of edk2 follow it (SecurityPkg, DxeImageVerificationLib, DxeImageVerificationHandler,
// and what that calls of CryptoPkg and OpenSSL) including what edk2 overlooks and what it refuses,
// in the version that the options name: every signature is checked against dbx, certificates and
// digests; any one signature that leads to a certificate in db, or the digest of the image in db,
// is enough; the first matching entry of db is the authority. Dates do not matter. A certificate
// that dbx revokes from some time on counts as revoked, since time stamps are not read. If some
// path leads to a certificate in dbx, the image is revoked, also if firmware would not find that
// path, which a warning then says. An image whose answer is unknown is not allowed. Variables that
// cannot be parsed allow no image; a SecureBoot that is known not to exist is off, and a nil one is
// unknown.
//
// The rows of U-Boot follow what it was seen to do with 194 images and 35 combinations of db and
// dbx, and return unknown for all other cases. It refuses an image whose signing time is outside of
// the validity of its signer's certificate, and every image while dbx has digests other than
// SHA-256 ones; it hashes sections rounded up to FileAlignment ([Image].Layout); it runs an image
// whose digest is in db even if an unknown signer signed it. With MbedTLS it crashes at time
// stamps, at padding that is counted as a part of the signature, at ECDSA and RSASSA-PSS
// certificates in a signature, in dbx, and in db unless the list with the signer's certificate
// comes after them; and its dates of signing times at the end of a month are wrong by days.
//
// With Shim in the options, shim's answer is given: see [EvaluateOptions] and the package.
func Evaluate(v osmith.FirmwareVariables, im Image, o EvaluateOptions) Verdict {
	if o.Shim != nil && o.NoShim {
		return unknown(RuleShimUnknown, "the options have both a Shim and NoShim")
	}
	if r, off := unverified(v); off {
		return r
	}
	var r Verdict
	if o.Shim != nil {
		r = o.Shim.judge(v, im, o.ByProgram)
	} else if r = evaluateRows(v, im, o.Firmware); !o.NoShim && len(v.SbatLevel) > 0 {
		if !r.Allowed {
			r.Warnings = append(r.Warnings, "the machine has a SbatLevel: where shim starts the image, shim's answer counts, which was not asked for")
		} else if refused := perhapsShim(v, im); refused != nil {
			return *refused
		}
	}
	if !r.Allowed {
		return r
	}
	if r.Authority != nil && r.AuthorityVariable == "" {
		r.AuthorityVariable = "db"
	}
	r.addExpiry(im, o.At)
	return r
}

// addExpiry adds warnings about certificates that have expired at a time.
func (r *Verdict) addExpiry(im Image, at time.Time) {
	if at.IsZero() || r.Certificate == nil {
		return
	}
	if c := r.Certificate; at.After(c.NotAfter) {
		r.Warnings = append(r.Warnings, fmt.Sprintf("the certificate %q in %s has expired on %s; firmware does not care, but nothing new will be signed by it",
			c.Subject, cmp.Or(r.AuthorityVariable, "db"), c.NotAfter.UTC().Format(time.DateOnly)))
	}
	for _, s := range im.signers() {
		if !bytes.Equal(s.Raw, r.Certificate.Raw) && at.After(s.NotAfter) {
			r.Warnings = append(r.Warnings, fmt.Sprintf("the signer's certificate %q has expired on %s", s.Subject, s.NotAfter.UTC().Format(time.DateOnly)))
		}
	}
}

// AuthorityEvent returns UEFI_VARIABLE_DATA with the entry that validated the image (TCG PC Client
// Platform Firmware Profile, section 10.2.6): what is hashed for the event
// EV_EFI_VARIABLE_AUTHORITY of PCR 7, and its data. nil without Authority.
func (v Verdict) AuthorityEvent() ([]byte, error) {
	if v.Authority == nil {
		return nil, nil
	}
	// of the variable Shim, which has a certificate without owner
	vendor, data := efi.ShimLock, v.Authority.Data
	var err error
	switch v.AuthorityVariable {
	case "db", "vendor_db":
		vendor = ImageSecurityDatabase
	case "MokListRT", variableShim:
	default:
		return nil, fmt.Errorf("secureboot: authority in the variable %q: want db, vendor_db, MokListRT or Shim", v.AuthorityVariable)
	}
	if v.AuthorityVariable != variableShim {
		if data, err = v.Authority.AppendBinary(nil); err != nil {
			return nil, err
		}
	}
	b := efi.AppendGUID(nil, vendor)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(v.AuthorityVariable)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(data)))
	for _, c := range []byte(v.AuthorityVariable) {
		b = append(b, c, 0)
	}
	return append(b, data...), nil
}

// perhapsShim is the verdict on an image of which firmware alone would say yes, on a machine with a
// SbatLevel where it is not known whether shim is asked: nil if nothing that is known of shim's
// variables is against the image. A shim of which nothing is known trusts no more than they say.
func perhapsShim(v osmith.FirmwareVariables, im Image) *Verdict {
	level, err := sbat.ParseLevel(v.SbatLevel)
	if err != nil {
		r := unknown(RuleShimUnknown, "whether shim starts the image is unknown, and SbatLevel cannot be parsed: %v", err)
		return &r
	}
	if r := checkSBAT(level, im, false); r != nil {
		if r.Rule == RuleSBATMissing {
			*r = unknown(RuleSBATMissing, "whether shim starts the image is unknown; shim starts no image without a section .sbat")
		}
		return r
	}
	for _, list := range []*[]byte{&v.MokList, &v.MokDBState} {
		if *list == nil {
			*list = []byte{}
		}
	}
	if v.MokListX == nil && v.MokListXRT == nil {
		v.MokListX = []byte{}
	}
	if r := new(Shim).authenticate(v, im); !r.Allowed {
		r = unknown(RuleShimUnknown, "shim would not start the image: %s", r.Reason)
		return &r
	}
	return nil
}

// checkSBAT is shim's verdict on an image that it refuses for its .sbat, nil if it does not
// (verify_buffer_sbat, verify_sbat_section).
func checkSBAT(level *sbat.Level, im Image, byProgram bool) *Verdict {
	var r Verdict
	switch {
	case im.SBATRepeated:
		r = refuse(RuleSBATMalformed, "the image has several .sbat sections, which shim refuses")
		return &r
	case len(im.SBAT) == 0 && byProgram:
		return nil
	case len(im.SBAT) == 0:
		r = refuse(RuleSBATMissing, "the image has no section .sbat, which shim requires")
		return &r
	case len(im.SBAT) > sbat.MaxSize:
		r = unknown(RuleNotModelled, "the section .sbat has more than %d bytes", sbat.MaxSize)
		return &r
	}
	entries, err := sbat.Parse(im.SBAT)
	if err != nil {
		r = refuse(RuleSBATMalformed, "shim cannot parse the section .sbat: %v", err)
		return &r
	}
	if old := level.Revokes(entries); old != nil {
		r = revoke(RuleSBATRevoked, "revoked by SBAT: %v (SbatLevel %s)", old, level.Date())
		return &r
	}
	return nil
}

// unverified tells whether the machine verifies nothing, and the verdict on any image then.
func unverified(v osmith.FirmwareVariables) (r Verdict, off bool) {
	setup, err := isSet("SetupMode", v.SetupMode)
	if err != nil {
		return refuse(RuleVariableMalformed, "%v", err), true
	}
	enforces, err := isSet("SecureBoot", v.SecureBoot)
	switch {
	case err != nil:
		return refuse(RuleVariableMalformed, "%v", err), true
	case setup:
		return Verdict{Allowed: true, Rule: RuleSetupMode, Reason: "the machine is in Setup Mode and verifies nothing"}, true
	case v.SecureBoot == nil:
		return unknown(RuleSecureBootUnknown, "whether Secure Boot is on is unknown: the variable SecureBoot is not given"), true
	case !enforces:
		return Verdict{Allowed: true, Rule: RuleSecureBootOff, Reason: "Secure Boot is off"}, true
	}
	return r, false
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
