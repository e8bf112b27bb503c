package luks

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/osmith-dev/osmith"
)

// copyState is one copy of the header as it was found.
type copyState struct {
	off    int64
	raw    *rawHeader // nil: the binary header is not usable, or its checksum is wrong
	m      *metadata
	h      *Header
	err    error
	failed bool // it could not be read, which says nothing about what is there
}

func (c *copyState) good() bool { return c.h != nil }

// readCopy reads and checks the copy at off.
func readCopy(src osmith.Source, off int64) *copyState {
	c := &copyState{off: off}
	b := make([]byte, binarySize)
	if c.read(src, b, off, "binary header"); c.err != nil {
		return c
	}
	raw, err := parseBinary(b, off)
	if err != nil {
		c.err = err
		return c
	}
	whole := make([]byte, raw.Size)
	copy(whole, b)
	if c.read(src, whole[binarySize:], off+binarySize, "JSON area"); c.err != nil {
		return c
	}
	if c.err = raw.checkSum(whole, off); c.err != nil {
		return c
	}
	c.raw = raw
	doc, err := cutJSON(whole[binarySize:], off+binarySize)
	if err == nil {
		c.m, c.h, err = parseMetadata(doc, off+binarySize, int64(raw.Size))
	}
	if err == nil {
		if need := 2*c.h.Size + c.h.KeyslotsSize; src.Size() < need {
			err = badFormat(src.Size(), "key slots area", "ends at %d, beyond the end of the device", need)
		}
	}
	if err != nil {
		c.m, c.h, c.err = nil, nil, err
	}
	return c
}

func (c *copyState) read(src osmith.Source, b []byte, off int64, what string) {
	if n, err := src.ReadAt(b, off); n < len(b) {
		if err == nil || err == io.EOF {
			c.err = badFormat(off+int64(n), copyName(c.off)+": "+what, "%w", io.ErrUnexpectedEOF)
			return
		}
		c.err, c.failed = fmt.Errorf("%s: %s: %w", copyName(c.off), what, err), true
	}
}

// readCopies finds both copies in the order in which cryptsetup does: the second one is where the
// first one says, if that can be believed, else at the first of the nine places where one is whole.
// used is the index of the one that counts: the newer one, and the primary one of two that are as
// new.
func readCopies(src osmith.Source) (all [2]*copyState, used int, err error) {
	first := readCopy(src, 0)
	if errors.Is(first.err, errVersion1) {
		return all, 0, ErrLUKS1
	}
	var second *copyState
	if first.raw != nil {
		second = readCopy(src, int64(first.raw.Size))
	} else {
		for _, off := range headerSizes {
			c := readCopy(src, off)
			if c.good() {
				second = c
				break
			}
			// Of the copies that are none, one that has at least the magic says most.
			if second == nil || !isMagic(c.err) && isMagic(second.err) || c.failed {
				second = c
			}
		}
	}
	all = [2]*copyState{first, second}
	switch {
	case first.good() && second.good():
		if second.raw.SeqID > first.raw.SeqID {
			used = 1
		}
	case second.good():
		used = 1
	case !first.good():
		return all, 0, fmt.Errorf("%w: %w; %w", ErrNotLUKS, first.err, second.err)
	}
	return all, used, nil
}

// isMagic reports whether nothing was wrong with a copy but that there is none.
func isMagic(err error) bool {
	format, ok := errors.AsType[*osmith.FormatError](err)
	return ok && format.Field == copyName(1)+": magic" || errors.Is(err, io.ErrUnexpectedEOF)
}

// header puts together what was found.
func header(all [2]*copyState, used int) (*Header, *metadata, *rawHeader) {
	c := all[used]
	h, raw := c.h, c.raw
	h.SequenceID = raw.SeqID
	h.Label, _ = text(raw.Label[:]) // parseBinary has looked at them
	h.UUID, _ = text(raw.UUID[:])
	h.Subsystem, _ = text(raw.Subsystem[:])
	for i, c := range all {
		h.Copies[i] = Copy{Offset: c.off, Err: c.err}
		if i == 1 && c.err != nil {
			h.Copies[i].Offset = h.Size // where it is to be
		}
		if c.good() {
			h.Copies[i].SequenceID = c.raw.SeqID
			h.Copies[i].Differs = i != used && (c.raw.SeqID != raw.SeqID || !bytes.Equal(c.h.JSON, h.JSON) || c.raw.Label != raw.Label ||
				c.raw.UUID != raw.UUID || c.raw.Subsystem != raw.Subsystem || c.h.Size != h.Size)
		}
	}
	return h, c.m, raw
}

// Read reads the header of a volume and writes nothing. One of its two copies is enough;
// [Header.Copies] has the state of both. For a volume that this package cannot use,
// [Header.Unsupported] is set.
func Read(src osmith.Source) (*Header, error) {
	v, err := OpenReader(src)
	if err != nil {
		return nil, err
	}
	return v.h, nil
}
