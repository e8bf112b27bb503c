package uki

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"sort"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// WriteOptions are the options of [Assembled.WriteStream]. The zero value measures with SHA-256 and
// does not sign.
type WriteOptions struct {
	// Hashes are the hashes of the PCR banks for which to measure. None: SHA-256.
	Hashes []crypto.Hash

	// Sign makes the content of a .pcrsig section. It is called once for each such section that
	// counts in some variant, with all variants in which it counts, after everything that these
	// variants measure has been written. The result goes into the space that PCRSignatureReserve
	// has left, padded with spaces; if it is longer, the error is a [SpaceError]. Nil: the sections
	// are written as they are.
	Sign func(variants []VariantMeasurements) ([]byte, error)

	// Progress is called after each piece with the bytes written so far, and the total.
	Progress func(done, total int64)
}

// WriteStream writes the image and measures it in the same single pass over its parts: each byte is
// read once, for any number of variants, hashes and signatures. An Authenticode digester or signer
// can be the writer. The result is that of MeasureVariants.
//
// A .pcrsig is signed while the image is written, so it must come after all sections that it
// covers, as it does in images that Assemble lays out. An image that cannot be written in a single
// pass is refused before a byte is written. Add-ons and profiles are refused with [ErrNotUKI],
// because they are measured only as parts of a UKI.
func (a *Assembled) WriteStream(w io.Writer, o WriteOptions) (_ []VariantMeasurements, err error) {
	defer prefix.Add("uki", &err)
	f, err := open(&a.data, kindImage)
	if err != nil {
		return nil, err
	}
	f.assume = a.assume
	s, err := f.newStream(w, o)
	if err != nil {
		return nil, err
	}
	return s.run()
}

// A stream is one image on its way.
type stream struct {
	f        *File
	w        io.Writer
	o        WriteOptions
	banks    *banks
	variants []VariantMeasurements // Sections are filled in when they are known
	list     []content
	choices  [][]int       // of each variant: what it measures
	covers   map[int][]int // of each .pcrsig to be signed: the variants in which it counts
	parts    []part
	order    map[int]int // of a measured section: how many were hashed before it
	done     int64
}

// A part of the file is a section that is measured or signed, without padding.
type part struct {
	section  int
	off, end int64
}

func (f *File) newStream(w io.Writer, o WriteOptions) (*stream, error) {
	list, release, err := f.contents()
	if err != nil {
		return nil, err
	}
	variants, err := variantsOf(list, release)
	if err != nil {
		return nil, err
	}
	s := &stream{f: f, w: w, o: o, list: list, covers: make(map[int][]int), order: make(map[int]int)}
	for n, v := range variants {
		chosen, err := selectVariant(list, v, release)
		if err != nil {
			return nil, err
		}
		if len(chosen) == 0 {
			return nil, errors.New("the stub would measure nothing")
		}
		s.variants = append(s.variants, VariantMeasurements{Variant: v})
		s.choices = append(s.choices, chosen)
		if o.Sign == nil {
			continue
		}
		slice, err := scopeOf(list, v.Profile, release)
		if err != nil {
			return nil, err
		}
		if i := slice.effective(".pcrsig"); i >= 0 {
			s.covers[i] = append(s.covers[i], n)
		}
	}
	if o.Sign != nil && len(s.covers) == 0 {
		return nil, fmt.Errorf("section .pcrsig: %w: signing while writing needs room for it, see PCRSignatureReserve", ErrMissing)
	}
	if err := s.plan(); err != nil {
		return nil, err
	}
	return s, nil
}

// plan lines up the parts in the order of the file and checks that one pass will do.
func (s *stream) plan() error {
	add := func(i int) {
		x := s.f.sections[i]
		s.parts = append(s.parts, part{i, x.Offset, x.Offset + min(x.Size, x.RawSize)})
	}
	known := make(map[int]bool)
	for _, chosen := range s.choices {
		for _, i := range chosen {
			if !known[i] {
				known[i] = true
				add(i)
			}
		}
	}
	for i := range s.covers {
		add(i)
	}
	sort.Slice(s.parts, func(a, b int) bool {
		p, q := s.parts[a], s.parts[b]
		if p.off != q.off {
			return p.off < q.off
		}
		return p.section < q.section // of these all but the last are empty, or else they overlap
	})
	place := make(map[int]int)
	for n, p := range s.parts {
		if n > 0 && p.off < s.parts[n-1].end {
			return &osmith.FormatError{Offset: p.off, Field: "section " + s.list[p.section].name, Err: errors.New("overlaps another section in the file: cannot be read in one pass")}
		}
		place[p.section] = n
	}
	for i, variants := range s.covers {
		for _, v := range variants {
			for _, j := range s.choices[v] {
				if place[j] > place[i] {
					return &osmith.FormatError{Offset: s.f.sections[i].Offset, Field: "section .pcrsig", Err: fmt.Errorf("comes before section %s, which it covers: cannot be signed in one pass", s.list[j].name)}
				}
			}
		}
	}
	return nil
}

func (s *stream) run() ([]VariantMeasurements, error) {
	var err error
	if s.banks, err = newBanks(s.o.Hashes); err != nil {
		return nil, err
	}
	defer s.banks.close()
	for _, p := range s.parts {
		if err := s.copy(p.off, false); err != nil {
			return nil, err
		}
		if _, ok := s.covers[p.section]; ok {
			if err := s.sign(p); err != nil {
				return nil, err
			}
			continue
		}
		if err := s.copy(p.end, true); err != nil {
			return nil, err
		}
		s.order[p.section] = len(s.order)
		s.banks.end(s.list[p.section].size - (p.end - p.off))
	}
	if err := s.copy(s.f.src.Size(), false); err != nil {
		return nil, err
	}
	s.measured(nil)
	return s.variants, nil
}

// copy writes the file up to an offset.
func (s *stream) copy(end int64, measured bool) error {
	for s.done < end {
		b := s.banks.take(min(bankBuffer, end-s.done))
		err := s.piece(b, measured)
		b.release()
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *stream) piece(b *buffer, measured bool) error {
	if n, err := s.f.src.ReadAt(b.b, s.done); n < len(b.b) {
		return noEOF(err)
	}
	if measured {
		s.banks.write(b, b.b)
	}
	return s.write(b.b)
}

func (s *stream) write(b []byte) error {
	n, err := s.w.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("writing at %d of %d bytes: %w", s.done+int64(max(n, 0)), s.f.src.Size(), err)
	}
	s.done += int64(n)
	if s.o.Progress != nil {
		s.o.Progress(s.done, s.f.src.Size())
	}
	return nil
}

// sign writes a .pcrsig.
func (s *stream) sign(p part) error {
	covered := s.measured(s.covers[p.section])
	signature, err := s.o.Sign(covered)
	profile := covered[0].Profile
	if err != nil {
		return fmt.Errorf("section .pcrsig of profile %d: %w", profile, err)
	}
	room := p.end - p.off
	if int64(len(signature)) > room {
		return &SpaceError{fmt.Sprintf("section .pcrsig of profile %d", profile), int64(len(signature)), room}
	}
	if err := s.write(signature); err != nil {
		return err
	}
	blank := bytes.Repeat([]byte{' '}, int(min(room, 4096)))
	for s.done < p.end {
		if err := s.write(blank[:min(int64(len(blank)), p.end-s.done)]); err != nil {
			return err
		}
	}
	return nil
}

// measured waits for the hashes and returns the measurements of the variants; of all for nil. What
// these measure has to be written.
func (s *stream) measured(variants []int) []VariantMeasurements {
	s.banks.wait()
	if variants == nil {
		for n := range s.variants {
			variants = append(variants, n)
		}
	}
	choices := make([][]int, 0, len(variants))
	for _, n := range variants {
		choices = append(choices, s.choices[n])
	}
	out := make([]VariantMeasurements, 0, len(variants))
	for k, sections := range collect(s.list, choices, func(i int) map[crypto.Hash][]byte { return s.banks.sums(s.order[i]) }) {
		s.variants[variants[k]].Sections = sections
		out = append(out, s.variants[variants[k]])
	}
	return out
}
