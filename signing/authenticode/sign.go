package authenticode

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/cms"
	"github.com/osmith-dev/osmith/internal/pe"
)

// SignOptions are the choices of [Sign]. The zero value is what Secure Boot needs.
type SignOptions struct {
	// Hash digests image and signature: SHA-256 when zero, SHA-384 or SHA-512. Firmware is only sure to know SHA-256.
	Hash crypto.Hash

	// Time is the signing time that the signature claims, in whole seconds. With the zero time there is no such attribute; firmware
	// does not look at it, except where a dbx entry revokes certificates from some time on.
	Time time.Time

	// Chain are certificates to carry besides the signer's: those between it and the one in db.
	Chain []*x509.Certificate

	// Replace selects signatures of the image, such as those of [SignedBy] the key before, that the new one takes the place of: it stands where the first
	// of them stood, the others are left out. When there is none the error is [ErrNoMatch], or [ErrUnsigned].
	// Without Replace the new signature is added behind all others.
	Replace func(i int, s Signature) bool
}

func (o SignOptions) hash() crypto.Hash {
	if o.Hash == 0 {
		return crypto.SHA256
	}
	return o.Hash
}

// Sign writes a signed copy of an image. An existing signature stays, the new one is added behind it. A file whose size is
// not a multiple of 8 is padded with zeros first. The checksum in the header is brought up to date.
//
// The key must be that of cert, RSA or ECDSA. The same inputs give the same bytes with an RSA key (PKCS #1 v1.5) and with an
// *ecdsa.PrivateKey (RFC 6979). src is read twice and must not change in between; it never is in memory as a whole.
// On an error what was written is no image.
func Sign(w io.Writer, src osmith.Source, key crypto.Signer, cert *x509.Certificate, o SignOptions) error {
	p, err := Prepare(src, cert, o)
	if err != nil {
		return err
	}
	signature, err := cms.SignDigest(key, cert, p.Hash, p.Digest)
	if err != nil {
		return inFile(err)
	}
	return p.Join(w, src, signature)
}

// Prepared is an image about to be signed elsewhere: an HSM, a KMS, another machine. Either Digest goes to something that
// signs digests, or SignedAttributes to something that hashes its input with Hash first. RSA signatures are PKCS #1 v1.5, ECDSA signatures
// ASN.1.
type Prepared struct {
	Hash             crypto.Hash
	SignedAttributes []byte // DER, an element of type SET
	Digest           []byte // of SignedAttributes under Hash
	ImageDigest      []byte // Authenticode digest of the image as signed, padding included

	template      cms.Template
	body          body
	before, after []byte // certificate table around the new entry
}

// Prepare is the first half of [Sign]. It depends on its arguments alone: to join in another process, prepare again from
// the same image, certificate and options.
func Prepare(src osmith.Source, cert *x509.Certificate, o SignOptions) (*Prepared, error) {
	if err := o.check(cert); err != nil {
		return nil, err
	}
	d, err := digestForSigning(src, o.hash())
	if err != nil {
		return nil, err
	}
	return prepare(d, cert, o)
}

// check looks at what can be wrong before an image is read.
func (o SignOptions) check(cert *x509.Certificate) error {
	if cert == nil {
		return errors.New("authenticode: no certificate of the signer")
	}
	if cms.HashOID(o.hash()) == nil {
		return fmt.Errorf("authenticode: digest algorithm %v: want SHA-256, SHA-384 or SHA-512", o.hash())
	}
	return nil
}

// prepare makes what has to be signed of an image that has passed.
func prepare(d *Digester, cert *x509.Certificate, o SignOptions) (*Prepared, error) {
	sums, err := d.SumsAsSigned()
	if err != nil {
		return nil, err
	}
	p := &Prepared{Hash: o.hash(), ImageDigest: sums[o.hash()], body: d.body()}
	entries, err := splitTable(d.file, d.table)
	if err != nil {
		return nil, err
	}
	if p.before, p.after, err = around(entries, o.Replace); err != nil {
		return nil, err
	}
	content, err := encodeIndirectData(p.Hash, p.ImageDigest)
	if err != nil {
		return nil, err
	}
	p.template = cms.Template{
		Hash:        p.Hash,
		ContentType: oidIndirectData,
		Content:     content,
		Attributes:  true,
		SigningTime: o.Time,
		Certificate: cert,
		Chain:       o.Chain,
	}
	req, err := p.template.Prepare()
	if err != nil {
		return nil, inFile(err)
	}
	p.SignedAttributes, p.Digest = req.Attributes, req.Digest
	return p, nil
}

// checkContiguous refuses images for which tools and firmware take different digests: the specification skips bytes between sections
// and makes up for their number at the end of the file; osslsigncode hashes the file as it stands.
func checkContiguous(f *pe.File) error {
	sum := int64(f.SizeOfHeaders)
	for _, s := range f.Sections {
		sum += int64(s.RawSize)
	}
	if end := f.DataEnd(); sum != end {
		return &FormatError{Offset: sum, Field: "section data", Err: fmt.Errorf("%d bytes before 0x%x belong to no section; %w", end-sum, end, ErrGaps)}
	}
	return nil
}

// Join writes the signed image from the image and a signature over p.Digest, after checking the signature against the certificate.
func (p *Prepared) Join(w io.Writer, src osmith.Source, signature []byte) error {
	return p.join(w, src, p.template, signature)
}

// JoinAttributes is [Prepared.Join] for signed attributes that another tool prepared for the same image, such as systemd-sbsign with
// --prepare-offline-signing; signature is over these, under p.Hash. They are one DER element of type SET and must be about this image:
// a content type of SpcIndirectData, the message digest of what this package signs, which is what sbsign and systemd-sbsign sign too, and
// anything else, a signing time for one, which counts instead of that of the options.
func (p *Prepared) JoinAttributes(w io.Writer, src osmith.Source, attributes, signature []byte) error {
	t := p.template
	t.RawAttributes = attributes
	return p.join(w, src, t, signature)
}

func (p *Prepared) join(w io.Writer, src osmith.Source, t cms.Template, signature []byte) error {
	if src.Size() != p.body.file.Size {
		return fmt.Errorf("authenticode: the image has %d bytes, %d when it was prepared", src.Size(), p.body.file.Size)
	}
	c, err := p.change(t, signature)
	if err != nil {
		return err
	}
	return c.copy(w, src)
}

// change makes the signature and puts it into the table.
func (p *Prepared) change(t cms.Template, signature []byte) (*change, error) {
	message, err := t.Join(signature)
	if err != nil {
		return nil, inFile(err)
	}
	return p.body.withTable(append(appendEntry(p.before[:len(p.before):len(p.before)], message), p.after...))
}
