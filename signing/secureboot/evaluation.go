package secureboot

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/signing/secureboot/internal/edk2"
)

// EvaluateSetOptions are the choices of [EvaluateSet].
type EvaluateSetOptions struct {
	// Pending are updates to be applied one after the other; the verdicts after them are reported
	// beside the present ones.
	Pending []Pending

	// At is the time for warnings about expired certificates; the zero time asks for none.
	At time.Time

	// Firmware is the row that judges; Shim and NoShim say whether a shim starts the images: see
	// [EvaluateOptions]. With Shim, the first image of the answer is shim itself, which firmware
	// judges.
	Firmware Firmware
	Shim     *Shim
	NoShim   bool

	// ByProgram are the names of images that a program started by Shim loads, such as a kernel that
	// GRUB loads: see [EvaluateOptions].
	ByProgram []string
}

// An Evaluation is the answer about all images that have to boot, before any variable is written.
type Evaluation struct {
	Images []ImageEvaluation

	// Refused is a [*RefusedError] that says why firmware would refuse a pending update; nil if it
	// takes them all. With Refused, there is no After.
	Refused error

	// After are the variables once the pending updates are in, nil without any.
	After *osmith.FirmwareVariables

	// Warnings are about the machine as a whole.
	Warnings []string
}

// An ImageEvaluation holds the verdicts on one image.
type ImageEvaluation struct {
	Name  string
	Now   Verdict
	After *Verdict // verdict after the pending updates, nil without any
}

// EvaluateSet judges a whole set of images, such as loader, UKI, add-ons and the previous release,
// today and with updates that are pending.
func EvaluateSet(v osmith.FirmwareVariables, images []Image, o EvaluateSetOptions) *Evaluation {
	e := &Evaluation{Warnings: warnings(v)}
	if len(o.Pending) > 0 {
		after := v
		for i, p := range o.Pending {
			a, err := ApplyWith(after, p, ApplyOptions{Firmware: o.Firmware})
			if e.Refused = err; err != nil {
				break
			}
			after = a.Variables
			if len(a.Differs) > 0 {
				e.Warnings = append(e.Warnings, fmt.Sprintf("pending update %s: %s refuses it or leaves other content", p.title(i), firmwareNames(a.Differs)))
			}
			if len(a.Undecided) > 0 {
				e.Warnings = append(e.Warnings, fmt.Sprintf("pending update %s: it cannot be told whether %s takes it", p.title(i), firmwareNames(a.Undecided)))
			}
		}
		if e.Refused == nil {
			e.After = &after
		}
	}
	add := func(im Image, o EvaluateOptions) {
		r := ImageEvaluation{Name: im.Name, Now: Evaluate(v, im, o)}
		if e.After != nil {
			after := Evaluate(*e.After, im, o)
			r.After = &after
		}
		e.Images = append(e.Images, r)
	}
	if o.Shim != nil {
		add(o.Shim.Image, EvaluateOptions{At: o.At, Firmware: o.Firmware, NoShim: true})
	}
	for _, im := range images {
		add(im, EvaluateOptions{At: o.At, Firmware: o.Firmware, Shim: o.Shim, NoShim: o.NoShim, ByProgram: slices.Contains(o.ByProgram, im.Name)})
	}
	return e
}

// title is how a pending update is called.
func (p Pending) title(i int) string {
	if p.Name != "" {
		return fmt.Sprintf("%s of %s", p.Name, p.Variable)
	}
	return fmt.Sprintf("%d, of %s", i+1, p.Variable)
}

// warnings are about keys whose private half is public.
func warnings(v osmith.FirmwareVariables) (texts []string) {
	for _, s := range []struct {
		name string
		data []byte
	}{{"PK", v.PK}, {"KEK", v.KEK}, {"db", v.DB}} {
		if _, err := parseLists(s.data); err != nil {
			texts = append(texts, fmt.Sprintf("%s cannot be parsed: %v", s.name, err))
		}
		// those before the place where it cannot
		certs, _ := edk2.Certificates(s.data, x509Lists, edk2.Options{})
		for _, raw := range certs {
			c, err := x509.ParseCertificate(raw.Raw)
			if err != nil {
				continue // none of those that are known
			}
			if IsTestKey(c) {
				texts = append(texts, fmt.Sprintf("%s has the test certificate %q, whose private key is in many hands", s.name, c.Subject))
			}
		}
	}
	return texts
}

// Allowed reports whether every image boots today and after the pending updates, which firmware
// takes.
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

// Changed returns the images whose verdict the pending updates change.
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
		fmt.Fprintf(&b, "%s: %s\n%s", im.Name, im.Now.text(), im.Now.rule("  "))
		if a := im.After; a != nil && (a.Allowed != im.Now.Allowed || a.Reason != im.Now.Reason) {
			fmt.Fprintf(&b, "  with the pending updates: %s\n%s", a.text(), a.rule("    "))
		}
		for _, w := range im.Now.Warnings {
			fmt.Fprintf(&b, "  warning: %s\n", w)
		}
		for _, f := range im.Now.Differs {
			fmt.Fprintf(&b, "  other firmware: %s %s it\n", f, map[bool]string{true: "does not allow", false: "allows"}[im.Now.Allowed])
		}
		if u := im.Now.Undecided; len(u) > 0 {
			fmt.Fprintf(&b, "  other firmware: cannot be told of %s\n", strings.Trim(fmt.Sprint(u), "[]"))
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
	case v.Unknown:
		return "not allowed: " + v.Reason
	}
	return "refused: " + v.Reason
}

// rule is the rule that decided, and what to change if it does not allow the image; a line each.
func (v Verdict) rule(indent string) string {
	text := fmt.Sprintf("%srule: %s\n", indent, v.Rule)
	if !v.Allowed {
		text += fmt.Sprintf("%sto change: %s\n", indent, v.Rule.Remedy())
	}
	return text
}

// EvaluationSchema names the form of an [Evaluation] in JSON.
const EvaluationSchema = "osmith.evaluation/1"

type evaluationJSON struct {
	Schema  string      `json:"schema"`
	Allowed bool        `json:"allowed"`
	Images  []imageJSON `json:"images"`
	Refused string      `json:"pendingRefused,omitempty"`
	// it cannot be told whether the pending updates are taken
	Unknown  bool     `json:"pendingUnknown,omitempty"`
	Changed  []string `json:"changed,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

type imageJSON struct {
	Name  string       `json:"name"`
	Now   verdictJSON  `json:"now"`
	After *verdictJSON `json:"after,omitempty"`
}

type verdictJSON struct {
	Allowed bool   `json:"allowed"`
	Revoked bool   `json:"revoked,omitempty"`
	Unknown bool   `json:"unknown,omitempty"` // it cannot be told; allowed is false then
	Reason  string `json:"reason"`
	Rule    Rule   `json:"rule"` // the name of what decided
	// what to change; only if it is not allowed
	Remedy string `json:"remedy,omitempty"`
	// the entry that PCR 7 gets, hexadecimal
	Authority string `json:"authority,omitempty"`
	// where it stands: db, MokListRT, vendor_db, Shim
	Variable    string `json:"authorityVariable,omitempty"`
	Certificate string `json:"certificate,omitempty"` // SHA-256 of the one in it
	// rows of firmware with the other answer
	Differs []string `json:"differs,omitempty"`
	// rows of firmware of which it cannot be told
	Undecided []string `json:"undecided,omitempty"`
	Warnings  []string `json:"warnings,omitempty"`
}

// MarshalJSON writes the object with schema [EvaluationSchema]: allowed, images with their verdicts
// now and after, pendingRefused, pendingUnknown, changed, warnings.
func (e *Evaluation) MarshalJSON() ([]byte, error) {
	o := evaluationJSON{Schema: EvaluationSchema, Allowed: e.Allowed(), Images: []imageJSON{}, Changed: e.Changed(), Warnings: e.Warnings}
	if e.Refused != nil {
		o.Refused = e.Refused.Error()
		if r, ok := errors.AsType[*RefusedError](e.Refused); ok {
			o.Unknown = r.Unknown
		}
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
	j := verdictJSON{Allowed: v.Allowed, Revoked: v.Revoked, Unknown: v.Unknown, Reason: v.Reason, Rule: v.Rule, Warnings: v.Warnings}
	if !v.Allowed {
		j.Remedy = v.Rule.Remedy()
	}
	for _, f := range v.Differs {
		j.Differs = append(j.Differs, string(f))
	}
	for _, f := range v.Undecided {
		j.Undecided = append(j.Undecided, string(f))
	}
	if v.Authority != nil {
		b, err := v.Authority.AppendBinary(nil)
		if err != nil {
			return j, err
		}
		j.Authority, j.Variable = hex.EncodeToString(b), v.AuthorityVariable
	}
	if v.Certificate != nil {
		sum := sha256.Sum256(v.Certificate.Raw)
		j.Certificate = hex.EncodeToString(sum[:])
	}
	return j, nil
}
