package secureboot

import (
	"bytes"
	"crypto"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/signedpe"
	"github.com/osmith-dev/osmith/signing/secureboot/internal/edk2"
)

// An ImageScan reads a PE image, as [ReadImage] does, of which all bytes are written to it in the
// order of the file: a program that copies the image, or examines it otherwise at the same time,
// reads it once.
type ImageScan struct {
	image   Image
	hashes  []crypto.Hash
	scanner *signedpe.Scanner
}

// ScanOptions say which digests an [ImageScan] takes. The zero value is those of [ReadImage].
type ScanOptions struct {
	// Hashes are those that are wanted in any case, such as the banks of a TPM.
	Hashes []crypto.Hash

	// Machine, if not nil, is what [Evaluate] will be asked about, without a shim: with one, what
	// it may miss makes the verdict [RuleDigestNotGiven]. A digest that it cannot come to compare
	// is left out then: one of a hash that no list in db and dbx is of, and that no signature of
	// the image names. SHA-256 never is. Hashing a kernel under all four takes twice as long.
	Machine *osmith.FirmwareVariables
}

// NewImageScan reads the headers, the certificate table and the SBAT section of an image whose
// bytes are written next; that these are the same bytes is for the caller to see to. The errors are
// those of [ReadImage].
func NewImageScan(src osmith.Source, o ScanOptions) (s *ImageScan, err error) {
	defer prefix.Add("secureboot", &err)
	f, im, err := readAround(src)
	if err != nil {
		return nil, err
	}
	hashes := imageHashes(o.Hashes)
	if o.Machine != nil {
		hashes = slices.DeleteFunc(hashes, func(h crypto.Hash) bool { return !slices.Contains(o.Hashes, h) && !im.mayCompare(h, o.Machine) })
	}
	scanner, err := signedpe.NewScanner(f, src, hashes...)
	if err != nil {
		return nil, err
	}
	return &ImageScan{im, hashes, scanner}, nil
}

// WithDigests returns what was read with Authenticode digests that were taken of the same bytes
// before, so that the image need not be written; that they are those of the image is for the caller
// to see to. It is false if one that the options ask for is not among them.
func (s *ImageScan) WithDigests(digests map[crypto.Hash][]byte) (Image, bool) {
	im := s.image
	im.Digests = map[crypto.Hash][]byte{}
	for _, h := range s.hashes {
		sum := digests[h]
		if len(sum) == 0 {
			return Image{}, false
		}
		im.Digests[h] = slices.Clone(sum)
	}
	return im, true
}

// Write takes the next bytes of the image, any number. More than the image has are an error.
func (s *ImageScan) Write(b []byte) (int, error) {
	n, err := s.scanner.Write(b)
	return n, prefix.Error("secureboot", err)
}

// Image returns what was read once all of the image was written; it is an error before. What is
// hashed out of the order of the file, behind gaps between sections, is read from the source again.
func (s *ImageScan) Image() (im Image, err error) {
	defer prefix.Add("secureboot", &err)
	im = s.image
	if im.Digests, err = s.scanner.Sums(); err != nil {
		return Image{}, err
	}
	return im, nil
}

// mayCompare reports whether firmware may look for the digest of an image under a hash. It does not
// read what it looks at, so that no reading of it can be wrong: a list of digests has the type of
// the hash in it, and a signature its object identifier.
func (im *Image) mayCompare(h crypto.Hash, v *osmith.FirmwareVariables) bool {
	if h == crypto.SHA256 {
		return true
	}
	typ := efi.AppendGUID(nil, imageHashTypes[h])
	return bytes.Contains(v.DB, typ) || bytes.Contains(v.DBX, typ) || edk2.Names(im.table(), h)
}
