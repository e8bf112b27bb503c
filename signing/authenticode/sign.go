package authenticode

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

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
func Sign(w io.Writer, src Source, key crypto.Signer, cert *x509.Certificate, o SignOptions) error {
	p, err := Prepare(src, cert, o)
	if err != nil {
		return err
	}
	signature, err := cms.SignDigest(key, cert, p.Hash, p.Digest)
	if err != nil {
		return inFile(0, err)
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

	template cms.Template
	file     *pe.File
	table    []byte   // certificate table so far
	dataEnd  int64    // of what is copied from the source
	sum      checksum // of that, without the two header fields
}

// Prepare is the first half of [Sign]. It depends on its arguments alone: to join in another process, prepare again from
// the same image, certificate and options.
func Prepare(src Source, cert *x509.Certificate, o SignOptions) (*Prepared, error) {
	// The size is known: what is wrong with it need not wait for the end of a pass.
	f, err := pe.Parse(src, src.Size())
	if err != nil {
		return nil, inFile(0, err)
	}
	d, err := newSigningDigester(cert, o)
	if err != nil {
		return nil, err
	}
	err = scan(src, []pe.Range{{Size: f.Size}}, func(_ int64, b []byte) error {
		_, err := d.Write(b)
		return err
	})
	if err != nil {
		return nil, err
	}
	return prepare(d, cert, o)
}

// newSigningDigester checks certificate and options and returns a digester for an image to be signed with them.
func newSigningDigester(cert *x509.Certificate, o SignOptions, more ...crypto.Hash) (*Digester, error) {
	if cert == nil {
		return nil, errors.New("authenticode: no certificate of the signer")
	}
	if cms.HashOID(o.hash()) == nil {
		return nil, fmt.Errorf("authenticode: digest algorithm %v: want SHA-256, SHA-384 or SHA-512", o.hash())
	}
	d, err := NewDigester(append([]crypto.Hash{o.hash()}, more...)...)
	if err != nil {
		return nil, err
	}
	d.signing = true
	return d, nil
}

// prepare makes what has to be signed of an image that has passed.
func prepare(d *Digester, cert *x509.Certificate, o SignOptions) (*Prepared, error) {
	sums, err := d.SumsAsSigned()
	if err != nil {
		return nil, err
	}
	if _, err := splitTable(d.file, d.table); err != nil {
		return nil, err
	}
	p := &Prepared{Hash: o.hash(), ImageDigest: sums[o.hash()], file: d.file, table: d.table, dataEnd: d.dataEnd(), sum: d.sum}
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
		return nil, inFile(0, err)
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
func (p *Prepared) Join(w io.Writer, src Source, signature []byte) error {
	if src.Size() != p.file.Size {
		return fmt.Errorf("authenticode: the image has %d bytes, %d when it was prepared", src.Size(), p.file.Size)
	}
	message, err := p.template.Join(signature)
	if err != nil {
		return inFile(0, err)
	}
	c, err := p.change(appendEntry(p.table[:len(p.table):len(p.table)], message))
	if err != nil {
		return err
	}
	return c.copy(w, src)
}
