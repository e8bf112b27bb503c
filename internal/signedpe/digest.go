package signedpe

import (
	"cmp"
	"crypto"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
)

// bufferSize bounds what is in memory of an image at any time.
const bufferSize = 256 << 10

// Digests returns the Authenticode digests of an image under several hashes, in one pass over the
// file: see [Regions].
func Digests(f *pe.File, src io.ReaderAt, hashes ...crypto.Hash) (map[crypto.Hash][]byte, error) {
	s, err := NewScanner(f, src, hashes...)
	if err != nil {
		return nil, err
	}
	return s.read()
}

// Regions lists what the digest covers, in order (Windows Authenticode Portable Executable
// Signature Format, version 1.0, "Calculating the PE Image Hash"; edk2 SecurityPkg
// DxeImageVerificationLib, HashPeImage): the headers without checksum and certificate directory
// entry, the sections in the order of their data, and then, counted from the number of bytes hashed
// so far, whatever is left of the file without as many bytes as the certificate table has.
func Regions(f *pe.File) ([]pe.Range, error) {
	headers := int64(f.SizeOfHeaders)
	var regions []pe.Range
	from := int64(0)
	for _, skip := range Skipped(f) {
		regions = append(regions, pe.Range{Offset: from, Size: skip.Offset - from})
		from = skip.End()
	}
	regions = append(regions, pe.Range{Offset: from, Size: headers - from})

	sections := make([]pe.Section, 0, len(f.Sections))
	for _, s := range f.Sections {
		if s.RawSize > 0 {
			sections = append(sections, s)
		}
	}
	slices.SortStableFunc(sections, func(a, b pe.Section) int { return cmp.Compare(a.Offset, b.Offset) })
	hashed, end := headers, headers
	for _, s := range sections {
		r := s.Raw()
		if r.Offset < end {
			return nil, &osmith.FormatError{Offset: r.Offset, Field: "section " + s.Name, Err: fmt.Errorf("overlaps the section before it, which ends at 0x%x", end)}
		}
		regions = append(regions, r)
		end = r.End()
		hashed += r.Size
	}
	if rest := f.Size - f.Certificates.Size - hashed; rest > 0 {
		regions = append(regions, pe.Range{Offset: hashed, Size: rest})
	}
	return regions, nil
}

// Scan feeds regions of the source to fn piece by piece, with the offset of each piece, until the
// first error.
func Scan(src io.ReaderAt, regions []pe.Range, fn func(off int64, b []byte) error) error {
	var largest int64
	for _, r := range regions {
		largest = max(largest, r.Size)
	}
	buf := make([]byte, min(largest, bufferSize))
	for _, r := range regions {
		for off, end := r.Offset, r.End(); off < end; {
			b := buf[:min(int64(len(buf)), end-off)]
			n, err := src.ReadAt(b, off)
			if n < len(b) {
				if err == nil || errors.Is(err, io.EOF) {
					err = io.ErrUnexpectedEOF
				}
				return fmt.Errorf("read %d bytes at 0x%x: %w", len(b), off, err)
			}
			if err := fn(off, b); err != nil {
				return err
			}
			off += int64(n)
		}
	}
	return nil
}

// Skipped lists the header fields that no digest covers: checksum and, if there is one, certificate
// directory entry.
func Skipped(f *pe.File) []pe.Range {
	r := []pe.Range{{Offset: f.Fields.CheckSum, Size: 4}}
	if dir := f.Fields.CertificateDirectory; dir != 0 {
		r = append(r, pe.Range{Offset: dir, Size: 8})
	}
	return r
}
