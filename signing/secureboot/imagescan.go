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

// An ImageScan reads a PE image as [ReadImage] does while all its bytes are written to the scan in
// the order of the file, so that a program which also copies or examines the image reads it only
// once.
type ImageScan struct {
	image   Image
	hashes  []crypto.Hash
	scanner *signedpe.Scanner
}

// ScanOptions say which digests an [ImageScan] takes. The zero value is those of [ReadImage].
type ScanOptions struct {
	// Hashes are hashes that are always computed, such as those of a TPM's banks.
	Hashes []crypto.Hash

	// Machine, if not nil, is the machine for which [Evaluate] will judge the image, without a
	// shim; with a shim, a missing digest makes the verdict [RuleDigestNotGiven]. A digest that the
	// machine cannot compare is then left out: its hash occurs in no list of db and dbx and in no
	// signature of the image. SHA-256 is never left out. Hashing a kernel under all four takes
	// twice as long.
	Machine *osmith.FirmwareVariables
}

// NewImageScan reads the headers, the certificate table and the SBAT section of an image whose
// bytes are written next; the caller must make sure that these are the same bytes. The errors are
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
// before, so that the image need not be written; the caller must make sure that they belong to the
// image. It returns false if a digest that the options require is missing.
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

// Write takes the next bytes of the image, any number. Bytes after the end of the image are an
// error.
func (s *ImageScan) Write(b []byte) (int, error) {
	n, err := s.scanner.Write(b)
	return n, prefix.Error("secureboot", err)
}

// Image returns what was read once all of the image was written; it is an error before. If the
// image has gaps between sections, bytes that are hashed out of the order of the file are read from
// the source again.
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
