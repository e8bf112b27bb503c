package secureboot

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	_ "crypto/sha512" // digests of certificates in dbx
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/cms"
	"github.com/osmith-dev/osmith/internal/sbat"
)

// A Verdict is what firmware, and shim on a machine with an SBAT level, would say to one image.
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

// EvaluateOptions are the choices of [Evaluate].
type EvaluateOptions struct {
	// At is the time for warnings about certificates that have expired, which firmware does not care about; the zero time asks for none.
	At time.Time
}

// Evaluate tells whether a machine with these variables would run an image.
//
// It follows edk2 (SecurityPkg, DxeImageVerificationLib, DxeImageVerificationHandler): every signature is held against
// dbx, certificates and digests; any one signature that leads to a certificate in db, or the digest of the image in db, is enough;
// the first matching entry of db is the authority. Dates do not matter. A certificate that dbx revokes from some time on counts as
// revoked, since time stamps are not read. Variables that cannot be parsed allow nothing; a SecureBoot that does not exist is off.
//
// Where SbatLevel is known, shim's rule comes on top: it refuses an image with a component below the level, and one whose .sbat it cannot parse.
func Evaluate(v osmith.FirmwareVariables, im Image, o EvaluateOptions) Verdict {
	if r, off := unverified(v); off {
		return r
	}
	r := evaluateDB(v, im.Digests, im.Signatures)
	if !r.Allowed {
		return r
	}
	if s := checkSBAT(v.SbatLevel, im.SBAT, &r); s != "" {
		return revoke("%s", s)
	}
	if o.At.IsZero() || r.Certificate == nil {
		return r
	}
	if c := r.Certificate; o.At.After(c.NotAfter) {
		r.Warnings = append(r.Warnings, fmt.Sprintf("the certificate %q in db has expired on %s; firmware does not care, but nothing new will be signed by it",
			c.Subject, c.NotAfter.UTC().Format(time.DateOnly)))
	}
	for _, s := range im.Signatures {
		if s.Signer != nil && !bytes.Equal(s.Signer.Raw, r.Certificate.Raw) && o.At.After(s.Signer.NotAfter) {
			r.Warnings = append(r.Warnings, fmt.Sprintf("the signer's certificate %q has expired on %s", s.Signer.Subject, s.Signer.NotAfter.UTC().Format(time.DateOnly)))
		}
	}
	return r
}

// checkSBAT says why shim refuses an image, "" if it does not.
func checkSBAT(current, section []byte, r *Verdict) string {
	if current == nil {
		return ""
	}
	level, err := sbat.ParseLevel(current)
	if err != nil {
		r.Warnings = append(r.Warnings, fmt.Sprintf("SbatLevel cannot be parsed, so SBAT was not checked: %v", err))
		return ""
	}
	if section == nil {
		r.Warnings = append(r.Warnings, "the image has no section .sbat: shim would not load it, only firmware")
		return ""
	}
	entries, err := sbat.Parse(section)
	if err != nil {
		return fmt.Sprintf("shim cannot parse the section .sbat: %v", err)
	}
	if old := level.Revokes(entries); old != nil {
		return fmt.Sprintf("revoked by SBAT: %v (SbatLevel %s)", old, level.Date())
	}
	return ""
}

// unverified tells whether the machine verifies nothing, and the verdict on any image then.
func unverified(v osmith.FirmwareVariables) (r Verdict, off bool) {
	setup, err := isSet("SetupMode", v.SetupMode)
	if err != nil {
		return refuse("%v", err), true
	}
	enforces, err := isSet("SecureBoot", v.SecureBoot)
	switch {
	case err != nil:
		return refuse("%v", err), true
	case setup:
		return Verdict{Allowed: true, Reason: "the machine is in Setup Mode and verifies nothing"}, true
	case !enforces:
		return Verdict{Allowed: true, Reason: "Secure Boot is off"}, true
	}
	return r, false
}

func evaluateDB(v osmith.FirmwareVariables, digests map[crypto.Hash][]byte, signatures []Candidate) Verdict {
	db, err := parseLists(v.DB)
	if err != nil {
		return refuse("db cannot be parsed: %v", err)
	}
	dbx, err := parseLists(v.DBX)
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

// EvaluateSetOptions are the choices of [EvaluateSet].
type EvaluateSetOptions struct {
	// Pending are updates to be applied one after the other; the verdicts after them are reported besides those of today.
	Pending []Pending

	// At is the time for warnings about expired certificates; the zero time asks for none.
	At time.Time
}

// An Evaluation is the answer about all images that have to boot, before anything is written.
type Evaluation struct {
	Images []ImageEvaluation

	// Refused is why firmware would not take the pending updates, nil if it would: a [*RefusedError]. Then there is no After.
	Refused error

	// After are the variables once the pending updates are in, nil without any.
	After *osmith.FirmwareVariables

	// Warnings are about the machine as a whole.
	Warnings []string
}

// An ImageEvaluation is what is to be said of one image.
type ImageEvaluation struct {
	Name  string
	Now   Verdict
	After *Verdict // with the pending updates, nil without
}

// EvaluateSet judges a whole set of images, such as loader, UKI, add-ons and the previous release, today and with updates that are pending.
func EvaluateSet(v osmith.FirmwareVariables, images []Image, o EvaluateSetOptions) *Evaluation {
	e := &Evaluation{Warnings: warnings(v)}
	if len(o.Pending) > 0 {
		after := v
		for _, p := range o.Pending {
			if after, e.Refused = Apply(after, p); e.Refused != nil {
				break
			}
		}
		if e.Refused == nil {
			e.After = &after
		}
	}
	for _, im := range images {
		r := ImageEvaluation{Name: im.Name, Now: Evaluate(v, im, EvaluateOptions{At: o.At})}
		if e.After != nil {
			after := Evaluate(*e.After, im, EvaluateOptions{At: o.At})
			r.After = &after
		}
		e.Images = append(e.Images, r)
	}
	return e
}

// warnings are about keys that anybody has.
func warnings(v osmith.FirmwareVariables) (texts []string) {
	for _, s := range []struct {
		name string
		data []byte
	}{{"PK", v.PK}, {"KEK", v.KEK}, {"db", v.DB}} {
		certs, err := trusted(s.data)
		if err != nil {
			texts = append(texts, fmt.Sprintf("%s cannot be parsed: %v", s.name, err))
		}
		for _, c := range certs {
			if IsTestKey(c) {
				texts = append(texts, fmt.Sprintf("%s has the test certificate %q, whose private key is in many hands", s.name, c.Subject))
			}
		}
	}
	return texts
}

// Allowed reports whether every image boots today and after the pending updates, which firmware takes.
func (e *Evaluation) Allowed() bool {
	if e.Refused != nil {
		return false
	}
	for _, im := range e.Images {
		if !im.Now.Allowed || (im.After != nil && !im.After.Allowed) {
			return false
		}
	}
	return true
}

// Changed are the images that the pending updates would stop, or let run.
func (e *Evaluation) Changed() (names []string) {
	for _, im := range e.Images {
		if im.After != nil && im.After.Allowed != im.Now.Allowed {
			names = append(names, im.Name)
		}
	}
	return names
}

// String is the report for a person.
func (e *Evaluation) String() string {
	var b strings.Builder
	for _, w := range e.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	if e.Refused != nil {
		fmt.Fprintf(&b, "pending: %v\n", e.Refused)
	}
	for _, im := range e.Images {
		fmt.Fprintf(&b, "%s: %s\n", im.Name, im.Now.text())
		if a := im.After; a != nil && (a.Allowed != im.Now.Allowed || a.Reason != im.Now.Reason) {
			fmt.Fprintf(&b, "  with the pending updates: %s\n", a.text())
		}
		for _, w := range im.Now.Warnings {
			fmt.Fprintf(&b, "  warning: %s\n", w)
		}
	}
	return b.String()
}

// text is the verdict in a line.
func (v Verdict) text() string {
	switch {
	case v.Allowed:
		return "allowed: " + v.Reason
	case v.Revoked:
		return "revoked: " + v.Reason
	}
	return "refused: " + v.Reason
}

// EvaluationSchema names the form of an [Evaluation] in JSON.
const EvaluationSchema = "osmith.evaluation/1"

type evaluationJSON struct {
	Schema   string      `json:"schema"`
	Allowed  bool        `json:"allowed"`
	Images   []imageJSON `json:"images"`
	Refused  string      `json:"pendingRefused,omitempty"`
	Changed  []string    `json:"changed,omitempty"`
	Warnings []string    `json:"warnings,omitempty"`
}

type imageJSON struct {
	Name  string       `json:"name"`
	Now   verdictJSON  `json:"now"`
	After *verdictJSON `json:"after,omitempty"`
}

type verdictJSON struct {
	Allowed     bool     `json:"allowed"`
	Revoked     bool     `json:"revoked,omitempty"`
	Reason      string   `json:"reason"`
	Authority   string   `json:"authority,omitempty"`   // the entry of db that PCR 7 gets, hexadecimal
	Certificate string   `json:"certificate,omitempty"` // SHA-256 of the one in db
	Warnings    []string `json:"warnings,omitempty"`
}

// MarshalJSON writes the object with schema [EvaluationSchema]: allowed, images with their verdicts now and after, pendingRefused, changed,
// warnings.
func (e *Evaluation) MarshalJSON() ([]byte, error) {
	o := evaluationJSON{Schema: EvaluationSchema, Allowed: e.Allowed(), Images: []imageJSON{}, Changed: e.Changed(), Warnings: e.Warnings}
	if e.Refused != nil {
		o.Refused = e.Refused.Error()
	}
	for _, im := range e.Images {
		j := imageJSON{Name: im.Name}
		var err error
		if j.Now, err = im.Now.json(); err != nil {
			return nil, err
		}
		if im.After != nil {
			after, err := im.After.json()
			if err != nil {
				return nil, err
			}
			j.After = &after
		}
		o.Images = append(o.Images, j)
	}
	return json.Marshal(o)
}

func (v Verdict) json() (verdictJSON, error) {
	j := verdictJSON{Allowed: v.Allowed, Revoked: v.Revoked, Reason: v.Reason, Warnings: v.Warnings}
	if v.Authority != nil {
		b, err := v.Authority.AppendBinary(nil)
		if err != nil {
			return j, err
		}
		j.Authority = hex.EncodeToString(b)
	}
	if v.Certificate != nil {
		sum := sha256.Sum256(v.Certificate.Raw)
		j.Certificate = hex.EncodeToString(sum[:])
	}
	return j, nil
}
