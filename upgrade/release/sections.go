package release

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/strictjson"
)

// sectionsSchema names the format of the index of a UKI's sections.
const sectionsSchema = "osmith.uki-sections/1"

// pieceSize is into what the data of a section is divided, from its first byte on; the last piece
// of a section may be smaller. The index of a UKI of 128 MiB is 36 KB large.
const pieceSize = 256 << 10

// sectionIndex says what each piece of each section of a UKI is. It is a hint about what need not
// be fetched: what is put together by it counts by the digest of the UKI.
type sectionIndex struct {
	Schema   string           `json:"schema"`
	Size     int64            `json:"size"` // of the UKI
	Sections []indexedSection `json:"sections"`
}

// indexedSection is the data of one section, with the padding that the file has.
type indexedSection struct {
	Name   string   `json:"name"` // for people
	Offset int64    `json:"offset"`
	Size   int64    `json:"size"`
	Pieces []string `json:"pieces"` // SHA-256
}

// A piece is up to pieceSize bytes of a section.
type piece struct {
	off, size int64
}

// pieces are those of a section.
func (s *indexedSection) pieces() []piece {
	list := make([]piece, 0, len(s.Pieces))
	for off := int64(0); off < s.Size; off += pieceSize {
		list = append(list, piece{s.Offset + off, min(pieceSize, s.Size-off)})
	}
	return list
}

// sectionsOf lists where the sections of a PE image are, in the order of the file. Sections that
// lie in others are left out.
func sectionsOf(src osmith.Source) ([]indexedSection, error) {
	f, err := pe.Parse(src, src.Size())
	if err != nil {
		return nil, err
	}
	var list []indexedSection
	for _, s := range f.Sections {
		if s.RawSize > 0 {
			list = append(list, indexedSection{Name: strings.ToValidUTF8(s.Name, "?"), Offset: int64(s.Offset), Size: int64(s.RawSize)})
		}
	}
	slices.SortStableFunc(list, func(a, b indexedSection) int { return cmp.Compare(a.Offset, b.Offset) })
	end := int64(0)
	return slices.DeleteFunc(list, func(s indexedSection) bool {
		if s.Offset < end {
			return true
		}
		end = s.Offset + s.Size
		return false
	}), nil
}

// A sectionHasher makes the index of a UKI of which all bytes are written to it in their order.
type sectionHasher struct {
	index sectionIndex
	off   int64 // of the next byte
	n     int   // section that is next, or that it is in
	sum   hash.Hash
}

// newSectionHasher reads the headers of a UKI.
func newSectionHasher(src osmith.Source) (*sectionHasher, error) {
	list, err := sectionsOf(src)
	if err != nil {
		return nil, err
	}
	for i := range list {
		list[i].Pieces = make([]string, 0, (list[i].Size+pieceSize-1)/pieceSize)
	}
	return &sectionHasher{index: sectionIndex{sectionsSchema, src.Size(), list}, sum: sha256.New()}, nil
}

// Write implements [io.Writer]; it has no errors.
func (h *sectionHasher) Write(b []byte) (int, error) {
	for p := b; len(p) > 0 && h.n < len(h.index.Sections); {
		s := &h.index.Sections[h.n]
		if before := s.Offset - h.off; before > 0 {
			n := min(before, int64(len(p)))
			h.off, p = h.off+n, p[n:]
			continue
		}
		end := min(s.Offset+int64(len(s.Pieces)+1)*pieceSize, s.Offset+s.Size) // of the piece
		n := min(end-h.off, int64(len(p)))
		h.sum.Write(p[:n])
		h.off, p = h.off+n, p[n:]
		if h.off < end {
			continue
		}
		s.Pieces = append(s.Pieces, hex.EncodeToString(h.sum.Sum(nil)))
		h.sum.Reset()
		if end == s.Offset+s.Size {
			h.n++
		}
	}
	return len(b), nil
}

// document is the index as it is packed.
func (h *sectionHasher) document() ([]byte, error) {
	b, err := json.Marshal(h.index)
	if err != nil {
		return nil, err
	}
	return b, readable("index of the UKI's sections", b)
}

// parseSections reads an index of a UKI that has size bytes.
func parseSections(b []byte, size int64) (*sectionIndex, error) {
	var x sectionIndex
	if err := strictjson.Unmarshal(b, &x); err != nil {
		return nil, err
	}
	fail := func(field string, err error) (*sectionIndex, error) {
		return nil, &osmith.FormatError{Offset: -1, Field: field, Err: err}
	}
	if x.Schema != sectionsSchema {
		return fail("schema", fmt.Errorf("%q, want %q", x.Schema, sectionsSchema))
	}
	if x.Size != size {
		return fail("size", fmt.Errorf("%d bytes, the UKI has %d", x.Size, size))
	}
	end := int64(0)
	for i, s := range x.Sections {
		field := fmt.Sprintf("sections[%d]", i)
		if s.Offset < end || s.Size <= 0 || s.Size > size-s.Offset {
			return fail(field, fmt.Errorf("%d bytes at %d of %d, and the one before ends at %d", s.Size, s.Offset, size, end))
		}
		end = s.Offset + s.Size
		if want := (s.Size + pieceSize - 1) / pieceSize; int64(len(s.Pieces)) != want {
			return fail(field, fmt.Errorf("%d pieces, want %d for %d bytes", len(s.Pieces), want, s.Size))
		}
		for _, p := range s.Pieces {
			if d, err := hex.DecodeString(p); err != nil || len(d) != sha256.Size {
				return fail(field, errors.New("a piece is not a SHA-256 digest in hexadecimal"))
			}
		}
	}
	return &x, nil
}
