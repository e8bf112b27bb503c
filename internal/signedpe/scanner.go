package signedpe

import (
	"crypto"
	"fmt"
	"io"

	"github.com/osmith-dev/osmith/internal/pe"
)

// A Scanner takes the Authenticode digests of an image that is written to it from its first byte to
// its last, once. What the digest covers out of the order of the file, behind gaps between
// sections, is read again at the end.
type Scanner struct {
	src     io.ReaderAt
	regions []pe.Range // that are left
	hasher  *Hasher
	at      int64 // bytes written
	size    int64
}

// NewScanner returns a Scanner of an image whose headers were read.
func NewScanner(f *pe.File, src io.ReaderAt, hashes ...crypto.Hash) (*Scanner, error) {
	w, err := NewHasher(hashes)
	if err != nil {
		return nil, err
	}
	regions, err := Regions(f)
	if err != nil {
		return nil, err
	}
	return &Scanner{src: src, regions: regions, hasher: w, size: f.Size}, nil
}

// Write implements [io.Writer].
func (s *Scanner) Write(b []byte) (int, error) {
	end := s.at + int64(len(b))
	if end > s.size {
		return 0, fmt.Errorf("%d bytes are written of an image of %d", end, s.size)
	}
	for len(s.regions) > 0 {
		r := &s.regions[0]
		if r.Size == 0 {
			s.regions = s.regions[1:]
			continue
		}
		if r.Offset < s.at || r.Offset >= end {
			break
		}
		n := min(r.End(), end) - r.Offset
		s.hasher.Write(b[r.Offset-s.at:][:n], nil)
		r.Offset += n
		r.Size -= n
	}
	s.at = end
	return len(b), nil
}

// Sums returns the digests once all of the image was written.
func (s *Scanner) Sums() (map[crypto.Hash][]byte, error) {
	if s.at != s.size {
		return nil, fmt.Errorf("%d bytes were written of an image of %d", s.at, s.size)
	}
	return s.read()
}

// read reads what is left.
func (s *Scanner) read() (map[crypto.Hash][]byte, error) {
	err := Scan(s.src, s.regions, func(_ int64, b []byte) error {
		s.hasher.Write(b, nil)
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.regions = nil
	return s.hasher.Sums(0)
}
