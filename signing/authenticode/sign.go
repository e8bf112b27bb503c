package authenticode

import (
	"crypto"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
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
	if cert == nil {
		return nil, errors.New("authenticode: no certificate of the signer")
	}
	f, err := pe.Parse(src, src.Size())
	if err != nil {
		return nil, inFile(0, err)
	}
	if f.Fields.CertificateDirectory == 0 {
		return nil, &FormatError{Offset: f.Fields.OptionalHeader, Field: "optional header", Err: errors.New("it has no certificate directory entry")}
	}
	regions, err := hashedRegions(f)
	if err != nil {
		return nil, err
	}
	if err := checkContiguous(f); err != nil {
		return nil, err
	}
	p := &Prepared{Hash: o.Hash, file: f, dataEnd: f.Size}
	if p.Hash == 0 {
		p.Hash = crypto.SHA256
	}
	if cms.HashOID(p.Hash) == nil {
		return nil, fmt.Errorf("authenticode: digest algorithm %v: want SHA-256, SHA-384 or SHA-512", p.Hash)
	}
	if f.Certificates.Size != 0 {
		p.dataEnd = f.Certificates.Offset
		if p.table, _, err = readTable(f, src); err != nil {
			return nil, err
		}
	}
	h := p.Hash.New()
	err = scan(src, regions, func(off int64, b []byte) {
		h.Write(b)
		p.sum.add(off, b)
	})
	if err != nil {
		return nil, err
	}
	h.Write(make([]byte, p.padding()))
	p.ImageDigest = h.Sum(nil)

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
		return &FormatError{Offset: sum, Field: "section data", Err: fmt.Errorf("%d bytes before 0x%x belong to no section; firmware and signing tools disagree about the digest of such an image", end-sum, end)}
	}
	return nil
}

// padding is the number of zeros between image and certificate table.
func (p *Prepared) padding() int64 { return -p.dataEnd & (certAlignment - 1) }

// Join writes the signed image from the image and a signature over p.Digest, after checking the signature against the certificate.
func (p *Prepared) Join(w io.Writer, src Source, signature []byte) error {
	message, err := p.template.Join(signature)
	if err != nil {
		return inFile(0, err)
	}
	table := appendEntry(p.table[:len(p.table):len(p.table)], message)
	start := p.dataEnd + p.padding()
	size := start + int64(len(table))
	if size > math.MaxUint32 || len(table) > maxTableSize {
		return fmt.Errorf("authenticode: the signed image would have %d bytes, %d of them certificates; the header counts to %d, firmware to %d", size, len(table), uint32(math.MaxUint32), maxTableSize)
	}
	if src.Size() != p.file.Size {
		return fmt.Errorf("authenticode: the image has %d bytes, %d when it was prepared", src.Size(), p.file.Size)
	}

	dir := p.file.Fields.CertificateDirectory
	entry := binary.LittleEndian.AppendUint32(nil, uint32(start))
	entry = binary.LittleEndian.AppendUint32(entry, uint32(len(table)))
	sum := p.sum
	sum.add(dir, entry)
	sum.add(start, table)
	field := binary.LittleEndian.AppendUint32(nil, sum.value(size))

	at := p.file.Fields.CheckSum
	out := patcher{w: w, src: src}
	out.copy(0, at)
	out.write(field)
	out.copy(at+4, dir)
	out.write(entry)
	out.copy(dir+8, p.dataEnd)
	out.write(make([]byte, p.padding()))
	out.write(table)
	return out.err
}

// A patcher copies ranges of a source and bytes to a writer until the first error.
type patcher struct {
	w   io.Writer
	src io.ReaderAt
	err error
}

func (p *patcher) copy(from, to int64) {
	if p.err != nil {
		return
	}
	err := scan(p.src, []pe.Range{{Offset: from, Size: to - from}}, func(_ int64, b []byte) { p.write(b) })
	if p.err == nil {
		p.err = err
	}
}

func (p *patcher) write(b []byte) {
	if p.err != nil {
		return
	}
	if _, err := p.w.Write(b); err != nil {
		p.err = fmt.Errorf("authenticode: write: %w", err)
	}
}
