package authenticode

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/cms"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/signedpe"
)

// SignOptions are the choices of [Sign]. The zero value is what Secure Boot needs.
type SignOptions struct {
	// Hash digests image and signature: SHA-256 when zero, SHA-384 or SHA-512. Only SHA-256 works
	// with all firmware.
	Hash crypto.Hash

	// Time is the signing time that the signature claims, in whole seconds. With the zero time, the
	// signature has no signing time. edk2 ignores the signing time unless a dbx entry revokes
	// certificates from some time on; U-Boot refuses an image whose signing time is before
	// NotBefore or after NotAfter of the signer's certificate, so such a time is a
	// [*SigningTimeError]. A time within three days after NotBefore, or before NotAfter, is a
	// [*SigningTimeError] too if a month ends in between: builds of U-Boot with MbedTLS refuse most
	// of these times.
	Time time.Time

	// AllowTimeOutsideValidityThatUBootRefuses signs with any Time.
	AllowTimeOutsideValidityThatUBootRefuses bool

	// Chain are the certificates between the signer's certificate and the one in db; the signature
	// carries them besides the signer's.
	Chain []*x509.Certificate

	// Replace selects signatures of the image, such as those of [SignedBy] the previous key. The
	// new signature takes the place of the first selected one; the other selected ones are removed.
	// If no signature is selected, the error is [ErrNoMatch] or [ErrUnsigned]. Without Replace, the
	// new signature is added after all others.
	Replace func(i int, s Signature) bool
}

func (o SignOptions) hash() crypto.Hash {
	if o.Hash == 0 {
		return crypto.SHA256
	}
	return o.Hash
}

// Sign writes a signed copy of an image. Existing signatures stay; the new one is added after them.
// A file whose size is not a multiple of 8 is padded with zeros first. The checksum in the header
// is brought up to date.
//
// The key must be that of cert, RSA or ECDSA. The same inputs give the same bytes with an RSA key
// (PKCS #1 v1.5) and with an *ecdsa.PrivateKey (RFC 6979). src is read twice and must not change in
// between; it is never held in memory as a whole. After an error, discard what was written.
func Sign(w io.Writer, src osmith.Source, key crypto.Signer, cert *x509.Certificate, o SignOptions) (err error) {
	defer prefix.Add("authenticode", &err)
	p, err := Prepare(src, cert, o)
	if err != nil {
		return err
	}
	signature, err := cms.SignDigest(key, cert, p.Hash, p.Digest)
	if err != nil {
		return err
	}
	return p.Join(w, src, signature)
}

// Prepared is an image about to be signed elsewhere: an HSM, a KMS, another machine. A signer of
// digests takes Digest; a signer that hashes its input with Hash first takes SignedAttributes. RSA
// signatures are PKCS #1 v1.5, ECDSA signatures ASN.1.
type Prepared struct {
	Hash             crypto.Hash
	SignedAttributes []byte // DER, an element of type SET
	Digest           []byte // of SignedAttributes under Hash
	ImageDigest      []byte // Authenticode digest of the image as signed, padding included

	options       SignOptions
	template      cms.Template
	body          body
	before, after []byte // certificate table around the new entry
}

// Prepare is the first half of [Sign]. It depends on its arguments alone: to join in another
// process, prepare again from the same image, certificate and options.
func Prepare(src osmith.Source, cert *x509.Certificate, o SignOptions) (p *Prepared, err error) {
	defer prefix.Add("authenticode", &err)
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
		return errors.New("no certificate of the signer was given")
	}
	if cms.HashOID(o.hash()) == nil {
		return fmt.Errorf("digest algorithm %v: want SHA-256, SHA-384 or SHA-512", o.hash())
	}
	if o.Time.IsZero() {
		return nil
	}
	return o.checkTime(cert, o.Time)
}

// checkTime refuses a signing time at which the certificate is not valid.
func (o SignOptions) checkTime(cert *x509.Certificate, at time.Time) error {
	at = at.Truncate(time.Second) // as it is encoded
	outside := signedpe.OutsideValidity(at, cert.NotBefore, cert.NotAfter) || signedpe.OutsideValidityToMbedTLS(at, cert.NotBefore, cert.NotAfter)
	if o.AllowTimeOutsideValidityThatUBootRefuses || !outside {
		return nil
	}
	return &SigningTimeError{Time: at, Certificate: cert}
}

// prepare makes what has to be signed of an image that has passed.
func prepare(d *Digester, cert *x509.Certificate, o SignOptions) (*Prepared, error) {
	sums, err := d.SumsAsSigned()
	if err != nil {
		return nil, err
	}
	p := &Prepared{Hash: o.hash(), ImageDigest: sums[o.hash()], options: o, body: d.body()}
	entries, err := signedpe.SplitTable(d.file, d.table)
	if err != nil {
		return nil, err
	}
	if p.before, p.after, err = around(entries, o.Replace); err != nil {
		return nil, err
	}
	content, err := signedpe.EncodeIndirectData(p.Hash, p.ImageDigest)
	if err != nil {
		return nil, err
	}
	p.template = cms.Template{
		Hash:        p.Hash,
		ContentType: signedpe.OIDIndirectData,
		Content:     content,
		Attributes:  true,
		SigningTime: o.Time,
		Certificate: cert,
		Chain:       o.Chain,
	}
	req, err := p.template.Prepare()
	if err != nil {
		return nil, err
	}
	p.SignedAttributes, p.Digest = req.Attributes, req.Digest
	return p, nil
}

// checkContiguous refuses images for which tools and firmware take different digests: the
// specification skips bytes between sections and makes up for their number at the end of the file;
// osslsigncode hashes the file as it stands.
func checkContiguous(f *pe.File) error {
	sum := int64(f.SizeOfHeaders)
	for _, s := range f.Sections {
		sum += int64(s.RawSize)
	}
	if end := f.DataEnd(); sum != end {
		return &osmith.FormatError{Offset: sum, Field: "section data", Err: fmt.Errorf("%d bytes before 0x%x belong to no section; %w", end-sum, end, ErrGaps)}
	}
	return nil
}

// Join writes the signed image from the image and a signature over p.Digest, after checking the
// signature against the certificate.
func (p *Prepared) Join(w io.Writer, src osmith.Source, signature []byte) error {
	return prefix.Error("authenticode", p.join(w, src, p.template, signature))
}

// JoinAttributes is [Prepared.Join] for signed attributes that another tool prepared for the same
// image, such as systemd-sbsign with --prepare-offline-signing; signature is over these attributes,
// under p.Hash. The attributes are one DER element of type SET. They must have the content type
// SpcIndirectData and the message digest of what this package, sbsign and systemd-sbsign sign for
// this image. Other attributes are allowed; a signing time replaces that of the options and is
// checked against the certificate in the same way.
func (p *Prepared) JoinAttributes(w io.Writer, src osmith.Source, attributes, signature []byte) error {
	t := p.template
	t.RawAttributes = attributes
	return prefix.Error("authenticode", p.join(w, src, t, signature))
}

func (p *Prepared) join(w io.Writer, src osmith.Source, t cms.Template, signature []byte) error {
	if src.Size() != p.body.file.Size {
		return fmt.Errorf("the image changed: %d bytes, want the %d when it was prepared", src.Size(), p.body.file.Size)
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
		return nil, err
	}
	if t.RawAttributes != nil {
		if err := p.checkAttributes(message); err != nil {
			return nil, err
		}
	}
	return p.body.withTable(append(signedpe.AppendEntry(p.before[:len(p.before):len(p.before)], message), p.after...))
}

// checkAttributes checks the signing time among attributes from elsewhere.
func (p *Prepared) checkAttributes(message []byte) error {
	s, err := signedpe.ReadSignature(message, 0)
	if err != nil {
		return err
	}
	timed := slices.ContainsFunc(s.Message.Signers[0].Attributes, func(a cms.Attribute) bool { return a.Type.Equal(cms.OIDSigningTime) })
	switch {
	case !timed:
		return nil
	case s.SigningTime.IsZero():
		return errors.New("signed attributes to join: want one readable signing time")
	}
	return p.options.checkTime(p.template.Certificate, s.SigningTime)
}

// A StreamSigner signs an image while it is written: [Sign] needs two passes over a file, a
// StreamSigner one pass while the image is produced. It copies the image to a file and hashes it on
// the way; Close adds padding, certificate table and the two header fields. The file is byte for
// byte the one that Sign writes.
//
//	s, err := authenticode.NewStreamSigner(file, key, cert, authenticode.SignOptions{})
//	_, err = io.Copy(s, unsigned)
//	err = s.Close()
//
// The image may carry signatures; the new one is added after them. A StreamSigner refuses the
// images that a [Digester] refuses.
type StreamSigner struct {
	digester *Digester
	w        io.WriterAt
	key      crypto.Signer
	cert     *x509.Certificate
	options  SignOptions
	prepared *Prepared
	closed   bool
}

// NewStreamSigner returns a signer that writes to w from offset 0 on; io.NewOffsetWriter puts the
// image elsewhere. For additional hashes, such as those of a TPM's banks, it computes the digests
// in the same pass: see [StreamSigner.Sums].
func NewStreamSigner(w io.WriterAt, key crypto.Signer, cert *x509.Certificate, o SignOptions, more ...crypto.Hash) (s *StreamSigner, err error) {
	defer prefix.Add("authenticode", &err)
	if err := o.check(cert); err != nil {
		return nil, err
	}
	if err := cms.CheckKey(key, cert); err != nil {
		return nil, err
	}
	d, err := NewDigester(append([]crypto.Hash{o.hash()}, more...)...)
	if err != nil {
		return nil, err
	}
	d.signing = true
	d.sink = func(off int64, b []byte) error {
		if n, err := w.WriteAt(b, off); err != nil {
			return writing(off+int64(n), err)
		}
		return nil
	}
	return &StreamSigner{digester: d, w: w, key: key, cert: cert, options: o}, nil
}

// Write takes the next bytes of the image. After an error, discard the file.
func (s *StreamSigner) Write(b []byte) (int, error) {
	if s.closed {
		return 0, prefix.Error("authenticode", errors.New("a write after Close: make a new writer for another image"))
	}
	return s.digester.Write(b)
}

// Close signs and completes the file; only then is the file an image. Close does not close the
// file. To give up, do not call Close. A second call is an error.
func (s *StreamSigner) Close() (err error) {
	defer prefix.Add("authenticode", &err)
	if s.closed {
		return errors.New("Close was called before: the image is finished")
	}
	s.closed = true
	p, err := prepare(s.digester, s.cert, s.options)
	if err != nil {
		return err
	}
	signature, err := cms.SignDigest(s.key, s.cert, p.Hash, p.Digest)
	if err != nil {
		return err
	}
	c, err := p.change(p.template, signature)
	if err != nil {
		return err
	}
	if err := c.patch(s.w); err != nil {
		return err
	}
	s.prepared = p
	return nil
}

// Sums returns the Authenticode digests of the signed image under the hash of the signature and all
// others asked for, once Close has succeeded.
func (s *StreamSigner) Sums() (map[crypto.Hash][]byte, error) {
	if s.prepared == nil {
		return nil, prefix.Error("authenticode", errors.New("the image is not signed yet: call Close first"))
	}
	return s.digester.SumsAsSigned()
}
