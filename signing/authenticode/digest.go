package authenticode

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

// Digest returns the Authenticode digest of an image under h: SHA-1, SHA-256, SHA-384 or SHA-512. It covers everything but the PE
// checksum, the certificate directory entry and the certificate table, so that signing does not change it, with one exception: Sign
// pads a file to a multiple of 8 bytes first, and firmware hashes the padding. The digest of an unsigned image of another size is the
// one that firmware takes of the file as it is.
//
// Firmware measures this value into PCR 4 and compares it with the SHA-256 entries of db and dbx.
func Digest(src osmith.Source, h crypto.Hash) ([]byte, error) {
	m, err := Digests(src, h)
	if err != nil {
		return nil, err
	}
	return m[h], nil
}

// Digests is [Digest] for several hashes in one pass over the file.
func Digests(src osmith.Source, hashes ...crypto.Hash) (map[crypto.Hash][]byte, error) {
	f, err := parse(src)
	if err != nil {
		return nil, err
	}
	return digests(f, src, hashes)
}

func parse(src osmith.Source) (*pe.File, error) {
	f, err := pe.Parse(src, src.Size())
	if err != nil {
		return nil, inFile(err)
	}
	return f, nil
}

func digests(f *pe.File, src osmith.Source, hashes []crypto.Hash) (map[crypto.Hash][]byte, error) {
	w, err := newHasher(hashes)
	if err != nil {
		return nil, err
	}
	regions, err := hashedRegions(f)
	if err != nil {
		return nil, err
	}
	err = scan(src, regions, func(_ int64, b []byte) error {
		w.write(b, nil)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return w.sums(0)
}

// hashedRegions lists what the digest covers, in order (Windows Authenticode Portable Executable Signature Format, version 1.0,
// "Calculating the PE Image Hash"; edk2 SecurityPkg DxeImageVerificationLib, HashPeImage): the headers without checksum and certificate
// directory entry, the sections in the order of their data, and then, counted from the number of bytes hashed so far, whatever is left
// of the file without as many bytes as the certificate table has.
func hashedRegions(f *pe.File) ([]pe.Range, error) {
	headers := int64(f.SizeOfHeaders)
	var regions []pe.Range
	from := int64(0)
	for _, skip := range skipped(f) {
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
			return nil, &FormatError{Offset: r.Offset, Field: "section " + s.Name, Err: fmt.Errorf("overlaps the section before it, which ends at 0x%x", end)}
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

// scan feeds regions of the source to fn piece by piece, with the offset of each piece, until the first error.
func scan(src io.ReaderAt, regions []pe.Range, fn func(off int64, b []byte) error) error {
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
				return fmt.Errorf("authenticode: read %d bytes at 0x%x: %w", len(b), off, err)
			}
			if err := fn(off, b); err != nil {
				return err
			}
			off += int64(n)
		}
	}
	return nil
}
