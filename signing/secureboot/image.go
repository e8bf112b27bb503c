package secureboot

import (
	"crypto"
	"crypto/x509"
	"io"
	"slices"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/signedpe"
)

// An Image is a PE image as far as firmware and shim judge it. [ReadImage] reads it from a file.
type Image struct {
	Name string // for reports and errors; [ReadImage] leaves it empty

	// Digests are its Authenticode digests. [Evaluate] needs the one of each signature's Hash, and SHA-256 at least of an unsigned image.
	Digests map[crypto.Hash][]byte

	// Certificates are all entries of its certificate table, in the order of the file, those that firmware skips too.
	Certificates []CertificateEntry

	// Signatures are the signatures in Certificates.
	Signatures []Candidate

	// SBAT is the content of its section .sbat, nil if it has none.
	SBAT []byte
}

// A CertificateEntry is one WIN_CERTIFICATE (UEFI Specification 2.10, section 32.2.4) as it is in the file.
type CertificateEntry struct {
	Offset int64  // in the file, in bytes
	Raw    []byte // header, certificate and padding: Raw of all entries, one after the other, is the certificate table
}

// A Candidate is one signature of an image.
type Candidate struct {
	Signer       *x509.Certificate   // nil if Certificates does not have it
	Certificates []*x509.Certificate // all that the signature carries
	Hash         crypto.Hash         // with which the image was digested; 0 if that is not SHA-256, SHA-384 or SHA-512
	Digest       []byte              // of the image when it was signed, as the signature says
	SigningTime  time.Time           // as the signer claims, zero if it does not
	Err          error               // why the signature is not one by Signer over Digest; nil if it is
}

// maxSBAT bounds the section .sbat, in bytes.
const maxSBAT = 1 << 20

// ReadImage reads what firmware and shim look at in a PE image. Digests are those under SHA-256 and under the algorithm of each signature; of an
// image without signature, whose digest must be in db itself, SHA-384 and SHA-512 too; and under the hashes given, such as the banks of a TPM.
// An image, certificate table or signature that cannot be parsed is a [*osmith.FormatError].
func ReadImage(src osmith.Source, hashes ...crypto.Hash) (im Image, err error) {
	defer prefix.Add("secureboot", &err)
	f, err := pe.Parse(src, src.Size())
	if err != nil {
		return im, err
	}
	entries, err := signedpe.ReadTable(f, src)
	if err != nil {
		return im, err
	}
	signatures, err := signedpe.Signatures(entries)
	if err != nil {
		return im, err
	}
	for _, e := range entries {
		im.Certificates = append(im.Certificates, CertificateEntry{Offset: e.Offset, Raw: e.Raw})
	}
	hashes = append(slices.Clone(hashes), crypto.SHA256)
	if len(signatures) == 0 {
		hashes = append(hashes, crypto.SHA384, crypto.SHA512)
	}
	for _, s := range signatures {
		im.Signatures = append(im.Signatures, Candidate{s.Signer, s.Message.Certificates, s.Hash, s.Digest, s.SigningTime, s.Err})
		if s.Hash != 0 {
			hashes = append(hashes, s.Hash)
		}
	}
	if im.Digests, err = signedpe.Digests(f, src, hashes...); err != nil {
		return Image{}, err
	}
	if s, ok := f.Section(".sbat"); ok {
		if im.SBAT, err = io.ReadAll(io.LimitReader(io.NewSectionReader(src, int64(s.Offset), int64(s.RawSize)), maxSBAT)); err != nil {
			return Image{}, err
		}
	}
	return im, nil
}
