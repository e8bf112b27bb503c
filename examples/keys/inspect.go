package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// maxUpdate bounds an update or list that is read, in bytes: stores have room for less than a megabyte.
const maxUpdate = 16 << 20

// inspect prints what an update or a file of signature lists holds. It fails only where firmware could not read it either.
func inspect(c *cli.Call, operands []string) error {
	b, err := cli.ReadFile(operands[0], maxUpdate)
	if err != nil {
		return err
	}
	r := inspectResult{Header: c.Header(), Lists: []listResult{}}
	var text strings.Builder
	payload := b
	auth, notAuth := secureboot.ParseAuth(b)
	if notAuth == nil {
		r.Kind, r.Time, payload = "auth", auth.Time.Format(time.RFC3339), auth.Payload
		sum := sha256.Sum256(auth.RawSigner)
		r.SignerFingerprint = hex.EncodeToString(sum[:])
		if auth.Signer != nil {
			r.Signer = auth.Signer.Subject.String()
		}
		fmt.Fprintf(&text, "update of %s, signed by %s (certificate sha256:%s)\n", r.Time, orUnparsed(r.Signer), r.SignerFingerprint)
		if len(payload) == 0 {
			text.WriteString("it deletes the variable\n")
		}
	} else {
		r.Kind = "esl"
	}
	lists, err := secureboot.ParseSignatureLists(payload)
	if err != nil {
		return fmt.Errorf("%s: neither an update nor signature lists: %w", operands[0], errors.Join(notAuth, err))
	}
	for i, l := range lists {
		out := listResult{Type: secureboot.TypeName(l.Type), Entries: []entryResult{}}
		fmt.Fprintf(&text, "list %d: %d x %s\n", i, len(l.Signatures), out.Type)
		for _, s := range l.Signatures {
			e := entryResult{Owner: s.Owner, Data: hex.EncodeToString(s.Data)}
			if l.Type == secureboot.TypeX509 {
				sum := sha256.Sum256(s.Data)
				e.Data, e.CertificateFingerprint = "", hex.EncodeToString(sum[:])
				if cert, err := x509.ParseCertificate(s.Data); err == nil {
					e.Subject = cert.Subject.String()
				}
				fmt.Fprintf(&text, "  %s  %s  sha256:%s\n", s.Owner, orUnparsed(e.Subject), e.CertificateFingerprint)
			} else {
				fmt.Fprintf(&text, "  %s  %s\n", s.Owner, e.Data)
			}
			out.Entries = append(out.Entries, e)
		}
		r.Lists = append(r.Lists, out)
	}
	return c.Answer(r, strings.ToValidUTF8(text.String(), "?"))
}

// orUnparsed names a certificate whose names this program cannot read; firmware may take it all the same.
func orUnparsed(subject string) string {
	if subject == "" {
		return "a certificate that crypto/x509 does not parse"
	}
	return fmt.Sprintf("%q", subject)
}

// inspectResult is the object of inspect.
type inspectResult struct {
	cli.Header
	Kind              string       `json:"kind"` // auth, esl
	Time              string       `json:"time,omitempty"`
	Signer            string       `json:"signer,omitempty"`
	SignerFingerprint string       `json:"signerFingerprint,omitempty"` // SHA-256 of the certificate
	Lists             []listResult `json:"lists"`
}

type listResult struct {
	Type    string        `json:"type"` // X509, SHA256...
	Entries []entryResult `json:"entries"`
}

type entryResult struct {
	Owner                  osmith.GUID `json:"owner"`
	Subject                string      `json:"subject,omitempty"`
	CertificateFingerprint string      `json:"certificateFingerprint,omitempty"` // SHA-256
	Data                   string      `json:"data,omitempty"`                   // of other entries, hexadecimal
}
