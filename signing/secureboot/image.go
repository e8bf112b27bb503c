package secureboot

import (
	"crypto"
	"crypto/x509"
	"io"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sbat"
	"github.com/osmith-dev/osmith/internal/signedpe"
	"github.com/osmith-dev/osmith/signing/secureboot/internal/edk2"
)

// An Image is a PE image as far as firmware and shim judge it. [ReadImage] reads it from a file.
type Image struct {
	Name string // for reports and errors; [ReadImage] leaves it empty

	// Digests are its Authenticode digests under SHA-1, SHA-256, SHA-384 and SHA-512, all of which
	// firmware may compare.
	Digests map[crypto.Hash][]byte

	// Certificates are all entries of its certificate table, in the order of the file, including
	// those that firmware skips. A table that cannot be split is one entry.
	Certificates []CertificateEntry

	// Layout says whether all firmware hashes the same bytes of the image. The zero value is a
	// layout that was not examined: the answer of U-Boot's rows is then unknown.
	Layout Layout

	// SBAT is the content of its section .sbat as shim reads it, padding included; nil if it has
	// none.
	SBAT []byte

	// SBATRepeated says that there are several sections of that name, which shim refuses. SBAT is
	// then the first.
	SBATRepeated bool

	// NXCompatible says that the image claims to need no memory that is both writable and
	// executable: the flag of that name in its header.
	NXCompatible bool
}

// A Layout is how the data of a PE image lies in its file.
type Layout int

const (
	// LayoutUnknown says that the layout was not examined.
	LayoutUnknown Layout = iota
	// LayoutContiguous is headers, the data of the sections in the order of their table, whatever
	// else there is, and the certificate table, with nothing between headers and sections, and
	// every size of these a multiple of FileAlignment: any firmware hashes all of it.
	LayoutContiguous
	// LayoutUnaligned has a section whose SizeOfRawData is not a multiple of FileAlignment: edk2
	// hashes SizeOfRawData bytes, U-Boot rounds the number up to the multiple.
	LayoutUnaligned
	// LayoutOther is any other layout, such as one with gaps between sections.
	LayoutOther
)

// layout looks at headers and section table.
func layout(f *pe.File) Layout {
	if f.FileAlignment == 0 {
		return LayoutOther
	}
	l := LayoutContiguous
	end := int64(f.SizeOfHeaders)
	if f.SizeOfHeaders%f.FileAlignment != 0 {
		l = LayoutOther
	}
	for _, s := range f.Sections {
		if s.RawSize%f.FileAlignment != 0 {
			return LayoutUnaligned
		}
		if s.RawSize > 0 && int64(s.Offset) != end {
			l = LayoutOther
		}
		end += int64(s.RawSize)
	}
	return l
}

// A CertificateEntry is one WIN_CERTIFICATE (UEFI Specification 2.10, section 32.2.4) as it is in
// the file.
type CertificateEntry struct {
	Offset int64 // in the file, in bytes
	// header, certificate and padding: Raw of all entries, one after the other, is the certificate
	// table
	Raw []byte
}

// table is the certificate table.
func (im *Image) table() (table []byte) {
	for _, e := range im.Certificates {
		table = append(table, e.Raw...)
	}
	return table
}

// signers are the signers' certificates, as far as crypto/x509 parses them.
func (im *Image) signers() (list []*x509.Certificate) {
	walkTable(im.table(), func(message []byte) bool {
		m, err := edk2.Parse(message)
		if err != nil {
			return true
		}
		signers, err := m.SignerCertificates()
		if err != nil {
			return true
		}
		for _, s := range signers {
			if c, err := x509.ParseCertificate(s.Raw); err == nil {
				list = append(list, c)
			}
		}
		return true
	})
	return list
}

// ReadImage reads the parts of a PE image that firmware and shim look at. It computes digests under
// SHA-1, SHA-256, SHA-384 and SHA-512, and under the hashes given, such as the banks of a TPM. It
// does not judge signatures: [Evaluate] does, also for one that cannot be parsed. An image that
// firmware could not load, or whose certificate table is not the end of the file, is a
// [*osmith.FormatError].
func ReadImage(src osmith.Source, hashes ...crypto.Hash) (im Image, err error) {
	defer prefix.Add("secureboot", &err)
	return readImage(src, hashes...)
}

func readImage(src osmith.Source, hashes ...crypto.Hash) (im Image, err error) {
	f, im, err := readAround(src)
	if err != nil {
		return im, err
	}
	im.Digests, err = signedpe.Digests(f, src, imageHashes(hashes)...)
	if err != nil {
		return Image{}, err
	}
	return im, nil
}

// imageHashes are those that firmware compares, and others.
func imageHashes(others []crypto.Hash) []crypto.Hash {
	return append(slices.Clone(others), crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512)
}

// readAround reads all but the digests.
func readAround(src osmith.Source) (f *pe.File, im Image, err error) {
	f, err = pe.Parse(src, src.Size())
	if err != nil {
		return nil, im, err
	}
	im.Layout = layout(f)
	table, err := signedpe.RawTable(f, src)
	if err != nil {
		return nil, im, err
	}
	if entries, err := signedpe.SplitTable(f, table); err == nil {
		for _, e := range entries {
			im.Certificates = append(im.Certificates, CertificateEntry{Offset: e.Offset, Raw: e.Raw})
		}
	} else if len(table) > 0 {
		im.Certificates = []CertificateEntry{{Offset: f.Certificates.Offset, Raw: table}}
	}
	im.NXCompatible = f.DllCharacteristics&pe.DllNXCompat != 0
	if err := im.readSBAT(f, src); err != nil {
		return nil, Image{}, err
	}
	return f, im, nil
}

// readSBAT follows verify_buffer_sbat of shim: it reads all of the section that is in the file, and
// passes over one that is larger in memory. One byte more than [sbat.MaxSize] is enough to tell
// that it is not judged.
func (im *Image) readSBAT(f *pe.File, src osmith.Source) (err error) {
	for _, s := range f.Sections {
		switch {
		case s.Name != ".sbat":
		case im.SBAT != nil:
			im.SBATRepeated = true
		case s.RawSize > 0 && s.RawSize >= s.VirtualSize:
			if im.SBAT, err = io.ReadAll(io.NewSectionReader(src, int64(s.Offset), min(int64(s.RawSize), sbat.MaxSize+1))); err != nil {
				return err
			}
		}
	}
	return nil
}
