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

// maxUpdate bounds an update or list that is read, in bytes: stores have room for less than a
// megabyte.
const maxUpdate = 16 << 20

// inspect prints what an update or a file of signature lists holds. The call fails only where
// firmware could not read it either. An update that firmware takes in Setup Mode alone, since it
// cannot read the signature or that is for no variable, is a no.
func inspect(c *cli.Call, operands []string) error {
	b, err := cli.ReadFile(operands[0], maxUpdate)
	if err != nil {
		return err
	}
	r := inspectResult{Header: c.Header(), Kind: "esl", Lists: []listResult{}}
	var text strings.Builder
	var no error
	payload := b
	auth, notAuth := secureboot.ParseAuth(b)
	if notAuth == nil {
		payload = auth.Payload
		no = r.describe(auth, &text)
	} else if content, err := secureboot.UnverifiedPayload(b); err == nil {
		r.Kind, payload, no = "auth", content, fmt.Errorf("firmware takes the update in Setup Mode alone: %w", notAuth)
		r.SignatureError = notAuth.Error()
		fmt.Fprintf(&text, "update whose signature cannot be read: %v\n", notAuth)
	}
	lists, err := secureboot.ParseSignatureLists(payload)
	if err != nil {
		if r.Kind == "auth" {
			return fmt.Errorf("%s: an update whose signature lists cannot be read: %w", operands[0], err)
		}
		return fmt.Errorf("%s: neither an update nor signature lists: %w", operands[0], errors.Join(notAuth, err))
	}
	for i, l := range lists {
		out := listResult{Type: secureboot.TypeName(l.Type), Entries: []entryResult{}}
		fmt.Fprintf(&text, "list %d: %d x %s\n", i, len(l.Signatures), out.Type)
		for _, s := range l.Signatures {
			e := newEntry(l.Type, s)
			fmt.Fprintf(&text, "  %s  %s\n", s.Owner, e)
			out.Entries = append(out.Entries, e)
		}
		r.Lists = append(r.Lists, out)
	}
	if err := c.Answer(r, strings.ToValidUTF8(text.String(), "?")); err != nil {
		return err
	}
	if no != nil {
		return cli.No{Err: fmt.Errorf("%s: %w", operands[0], no)}
	}
	return nil
}

// describe notes what an update says besides its lists, and returns why firmware takes it in Setup
// Mode alone.
func (r *inspectResult) describe(auth *secureboot.Auth, text *strings.Builder) (no error) {
	r.Kind = "auth"
	when := "no date"
	if !auth.Time.IsZero() {
		when = auth.Time.Format(time.RFC3339)
		r.Time = when
	}
	sum := sha256.Sum256(auth.RawSigner)
	r.SignerFingerprint = hex.EncodeToString(sum[:])
	if auth.Signer != nil {
		r.Signer = auth.Signer.Subject.String()
	}
	of := ""
	var ok bool
	if r.Variable, r.Append, ok = auth.SignedFor(); ok {
		how := "replaces"
		if r.Append {
			how = "appends to"
		}
		of = fmt.Sprintf(" that %s %s", how, r.Variable)
	} else {
		no = errors.New("firmware takes the update in Setup Mode alone: the signature is for no variable that holds keys, or the update was changed afterwards")
		r.SignatureError = "for no variable that holds keys, or the update was changed afterwards"
	}
	fmt.Fprintf(text, "update of %s%s, signed by %s (certificate sha256:%s)\n", when, of, orUnparsed(r.Signer), r.SignerFingerprint)
	if no != nil {
		fmt.Fprintf(text, "its signature is %s\n", r.SignatureError)
	}
	if len(auth.Payload) == 0 && !r.Append {
		text.WriteString("it deletes the variable\n")
	}
	return no
}

// orUnparsed names a certificate whose names this program cannot read; firmware may take it all the
// same.
func orUnparsed(subject string) string {
	if subject == "" {
		return "a certificate that crypto/x509 does not parse"
	}
	return fmt.Sprintf("%q", subject)
}

// inspectResult is the object of inspect.
type inspectResult struct {
	cli.Header
	Kind     string `json:"kind"` // auth, esl
	Time     string `json:"time,omitempty"`
	Variable string `json:"variable,omitempty"` // for which it was signed
	Append   bool   `json:"append,omitempty"`
	Signer   string `json:"signer,omitempty"`
	// SHA-256 of the certificate
	SignerFingerprint string `json:"signerFingerprint,omitempty"`
	// why firmware takes it in Setup Mode alone
	SignatureError string       `json:"signatureError,omitempty"`
	Lists          []listResult `json:"lists"`
}

type listResult struct {
	Type    string        `json:"type"` // X509, SHA256...
	Entries []entryResult `json:"entries"`
}

type entryResult struct {
	Owner                  osmith.GUID `json:"owner"`
	Subject                string      `json:"subject,omitempty"`
	CertificateFingerprint string      `json:"certificateFingerprint,omitempty"` // SHA-256
	// of other entries, hexadecimal
	Data string `json:"data,omitempty"`
	// what the data says if it is a security version number
	SVN *svnResult `json:"svn,omitempty"`
}

// svnResult is the version of a boot manager of Windows below which it does not start.
type svnResult struct {
	Application osmith.GUID `json:"application"`
	Name        string      `json:"name"`    // its file name, or the GUID
	Version     string      `json:"version"` // such as 9.0
}

func newSVN(v *secureboot.SVN) *svnResult {
	if v == nil {
		return nil
	}
	return &svnResult{v.Application, v.Name(), fmt.Sprintf("%d.%d", v.Major, v.Minor)}
}

func newEntry(typ osmith.GUID, s secureboot.Signature) entryResult {
	e := entryResult{Owner: s.Owner, Data: hex.EncodeToString(s.Data)}
	if v, ok := secureboot.ParseSVN(typ, s); ok {
		e.SVN = newSVN(&v)
	}
	if typ == secureboot.TypeX509 {
		sum := sha256.Sum256(s.Data)
		e.Data, e.CertificateFingerprint = "", hex.EncodeToString(sum[:])
		if cert, err := x509.ParseCertificate(s.Data); err == nil {
			e.Subject = cert.Subject.String()
		}
	}
	return e
}

// String is the entry in a line, without its owner.
func (e entryResult) String() string {
	switch {
	case e.SVN != nil:
		return fmt.Sprintf("%s %s at least (security version number, application %s)", e.SVN.Name, e.SVN.Version, e.SVN.Application)
	case e.CertificateFingerprint != "":
		return fmt.Sprintf("%s  sha256:%s", orUnparsed(e.Subject), e.CertificateFingerprint)
	}
	return e.Data
}
