package secureboot

import (
	"bytes"
	_ "crypto/sha512" // digests of certificates in dbx
	"crypto/x509"
	"fmt"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sbat"
)

// A Verdict is what firmware, and shim on a machine with an SBAT level, would say to one image.
type Verdict struct {
	Allowed bool
	Reason  string // for a person, always set
	Rule    Rule   // that decided, always set; its Remedy says what to change

	// Authority is the entry of db that validated the image, nil if none did or none was needed. Firmware measures it, as
	// [Signature.AppendBinary] writes it, into PCR 7, once per boot and entry. U-Boot measures none: it is nil in the verdicts of its rows.
	Authority *Signature

	// Certificate is the one in db that validated the image, nil if a digest did, or a certificate that crypto/x509 does not parse.
	Certificate *x509.Certificate

	// Revoked says that the image was refused because dbx has its digest, a certificate or the digest of one, or because shim's SBAT
	// level is above its generation; a refused image that is not revoked is unknown or damaged.
	Revoked bool

	// Unknown says that it cannot be told what firmware does: the image is then not allowed, and nothing says that it is refused.
	Unknown bool

	// Differs are the other rows of firmware whose answer is another one: they refuse what is allowed, or allow what is not.
	Differs []Firmware

	// Undecided are the other rows of firmware of which it cannot be told.
	Undecided []Firmware

	// Warnings do not stop firmware, but should make a person think.
	Warnings []string
}

// EvaluateOptions are the choices of [Evaluate].
type EvaluateOptions struct {
	// At is the time for warnings about certificates that have expired, which firmware does not care about; the zero time asks for none.
	At time.Time

	// Firmware is the row that judges: [FirmwareEDK2Stable202608] if it is empty. With [FirmwareAny] an image is allowed if all rows allow it, those of
	// U-Boot too; otherwise the reason begins with the row that does not.
	Firmware Firmware
}

// Evaluate tells whether a machine with these variables would run an image. Two kinds of firmware are known, by rows: see [Firmwares].
//
// The rows of edk2 follow it (SecurityPkg, DxeImageVerificationLib, DxeImageVerificationHandler, and what that calls of CryptoPkg and OpenSSL) with what that overlooks and
// what it refuses, by the row that the options name: every signature is held against dbx, certificates and digests; any one signature that leads to a
// certificate in db, or the digest of the image in db, is enough; the first matching entry of db is the authority. Dates do not matter. A
// certificate that dbx revokes from some time on counts as revoked, since time stamps are not read. Where dbx has a certificate to which some
// path leads, the image is revoked, also if firmware would not find that path: then a warning says so. What cannot be
// told is not allowed. Variables that cannot be parsed allow nothing; a SecureBoot that does not exist is off.
//
// The rows of U-Boot follow what it was seen to do with 50 images, and say of everything that is not like one of these that it cannot be told.
// It refuses an image whose signing time is outside of the validity of its signer's certificate, and every image while dbx has digests other than SHA-256 ones;
// it hashes sections rounded up to FileAlignment ([Image].Layout); with MbedTLS it crashes at ECDSA and RSASSA-PSS certificates; and it runs
// an image whose digest is in db although a stranger signed it. Time stamps, padding that is counted as a part of the signature, revocation lists, more than
// one intermediate certificate, signed attributes other than content type, digest and time, and certificates with other extensions were not tried.
//
// Where SbatLevel is known, shim's rule comes on top: it refuses an image with a component below the level, and one whose .sbat it cannot parse.
func Evaluate(v osmith.FirmwareVariables, im Image, o EvaluateOptions) Verdict {
	if r, off := unverified(v); off {
		return r
	}
	r := evaluateRows(v, im, o.Firmware)
	if !r.Allowed {
		return r
	}
	if refused := checkSBAT(v.SbatLevel, im.SBAT, &r); refused != nil {
		return *refused
	}
	if o.At.IsZero() || r.Certificate == nil {
		return r
	}
	if c := r.Certificate; o.At.After(c.NotAfter) {
		r.Warnings = append(r.Warnings, fmt.Sprintf("the certificate %q in db has expired on %s; firmware does not care, but nothing new will be signed by it",
			c.Subject, c.NotAfter.UTC().Format(time.DateOnly)))
	}
	for _, s := range im.signers() {
		if !bytes.Equal(s.Raw, r.Certificate.Raw) && o.At.After(s.NotAfter) {
			r.Warnings = append(r.Warnings, fmt.Sprintf("the signer's certificate %q has expired on %s", s.Subject, s.NotAfter.UTC().Format(time.DateOnly)))
		}
	}
	return r
}

// checkSBAT is shim's verdict on an image that it refuses, nil if it does not.
func checkSBAT(current, section []byte, r *Verdict) *Verdict {
	if current == nil {
		return nil
	}
	level, err := sbat.ParseLevel(current)
	if err != nil {
		r.Warnings = append(r.Warnings, fmt.Sprintf("SbatLevel cannot be parsed, so SBAT was not checked: %v", err))
		return nil
	}
	if section == nil {
		r.Warnings = append(r.Warnings, "the image has no section .sbat: shim would not load it, only firmware")
		return nil
	}
	entries, err := sbat.Parse(section)
	if err != nil {
		no := revoke(RuleSBATMalformed, "shim cannot parse the section .sbat: %v", err)
		return &no
	}
	if old := level.Revokes(entries); old != nil {
		no := revoke(RuleSBATRevoked, "revoked by SBAT: %v (SbatLevel %s)", old, level.Date())
		return &no
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
