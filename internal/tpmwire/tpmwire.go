// Package tpmwire reads and writes the big-endian structures of the TPM 2.0 Library, part 2.
package tpmwire

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/osmith-dev/osmith"
)

// ErrShort says that the input ends inside what was being read.
var ErrShort = errors.New("the input ends inside it")

// Reader reads a structure from the start. After its first error everything reads as zero.
type Reader struct {
	data []byte
	pos  int
	what string
	err  error
}

// NewReader reads data; what starts the name of every field in errors.
func NewReader(what string, data []byte) *Reader { return &Reader{data: data, what: what} }

// Pos is the offset of the next byte.
func (r *Reader) Pos() int { return r.pos }

// OK reports whether there was no error so far.
func (r *Reader) OK() bool { return r.err == nil }

// Fail notes what is wrong with the field at an offset, unless something was wrong before.
func (r *Reader) Fail(off int, field string, err error) {
	if r.err == nil {
		r.err = &osmith.FormatError{Offset: int64(off), Field: r.what + ": " + field, Err: err}
	}
}

// Take returns the next n bytes, nil after an error.
func (r *Reader) Take(n int, field string) []byte {
	if r.err != nil {
		return nil
	}
	if n > len(r.data)-r.pos {
		r.Fail(r.pos, field, fmt.Errorf("%d bytes, %d left: %w", n, len(r.data)-r.pos, ErrShort))
		return nil
	}
	b := r.data[r.pos : r.pos+n : r.pos+n]
	r.pos += n
	return b
}

// U8, U16, U32 and U64 read an integer of as many bits.
func (r *Reader) U8(field string) byte {
	if b := r.Take(1, field); b != nil {
		return b[0]
	}
	return 0
}

func (r *Reader) U16(field string) uint16 {
	if b := r.Take(2, field); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *Reader) U32(field string) uint32 {
	if b := r.Take(4, field); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *Reader) U64(field string) uint64 {
	if b := r.Take(8, field); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// Sized reads a TPM2B (part 2, section 10.4): a length of two bytes, then as many bytes.
func (r *Reader) Sized(field string) []byte { return r.Take(int(r.U16(field)), field) }

// More reports whether something is left and there was no error so far.
func (r *Reader) More() bool { return r.err == nil && r.pos < len(r.data) }

// End is the first error, or that something is left.
func (r *Reader) End() error {
	if r.More() {
		r.Fail(r.pos, "end", fmt.Errorf("%d bytes too many", len(r.data)-r.pos))
	}
	return r.err
}

// AppendSized appends a TPM2B. The caller has checked that p is short enough.
func AppendSized(b, p []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(p))), p...)
}
