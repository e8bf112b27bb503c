package secureboot

import (
	"bytes"
	"crypto"
	"fmt"
	"time"

	"github.com/osmith-dev/osmith/internal/sbat"
)

// An Image is a PE image as far as firmware and shim judge it.
type Image struct {
	Name       string // for the report
	Digests    map[crypto.Hash][]byte
	Signatures []Candidate

	// SBAT is the content of its section .sbat, nil if it has none.
	SBAT []byte
}

// EvaluateImage is [Variables.Evaluate] together with what else decides about an image on a machine whose SBATLevel is known: shim refuses
// an image with a component below the level, and one whose .sbat it cannot parse. at is the time for warnings about certificates that have
// expired, which firmware does not care about; the zero time asks for none.
func (v Variables) EvaluateImage(im Image, at time.Time) Verdict {
	r := v.Evaluate(im.Digests, im.Signatures)
	if !r.Allowed || !v.SecureBoot || v.SetupMode {
		return r
	}
	if s := v.checkSBAT(im.SBAT, &r); s != "" {
		return revoke("%s", s)
	}
	if at.IsZero() || r.Certificate == nil {
		return r
	}
	if c := r.Certificate; at.After(c.NotAfter) {
		r.Warnings = append(r.Warnings, fmt.Sprintf("the certificate %q in db has expired on %s; firmware does not care, but nothing new will be signed by it",
			c.Subject, c.NotAfter.UTC().Format(time.DateOnly)))
	}
	for _, s := range im.Signatures {
		if s.Signer != nil && !bytes.Equal(s.Signer.Raw, r.Certificate.Raw) && at.After(s.Signer.NotAfter) {
			r.Warnings = append(r.Warnings, fmt.Sprintf("the signer's certificate %q has expired on %s", s.Signer.Subject, s.Signer.NotAfter.UTC().Format(time.DateOnly)))
		}
	}
	return r
}

// checkSBAT says why shim refuses an image, "" if it does not.
func (v Variables) checkSBAT(section []byte, r *Verdict) string {
	if v.SBATLevel == nil {
		return ""
	}
	level, err := sbat.ParseLevel(v.SBATLevel)
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
