package tpm

import (
	"encoding/binary"
	"errors"
	"fmt"
)

var errShort = errors.New("the input ends inside it")

// wireReader reads the big-endian structures of the TPM 2.0 Library, part 2.
type wireReader struct {
	data []byte
	pos  int
	what string // starts every field name
	err  error  // the first; everything after it reads as zero
}

func (r *wireReader) fail(off int, field string, err error) {
	if r.err == nil {
		r.err = &FormatError{Offset: int64(off), Field: r.what + ": " + field, Err: err}
	}
}

// take returns the next n bytes, nil after an error.
func (r *wireReader) take(n int, field string) []byte {
	if r.err != nil {
		return nil
	}
	if n > len(r.data)-r.pos {
		r.fail(r.pos, field, fmt.Errorf("%d bytes, %d left: %w", n, len(r.data)-r.pos, errShort))
		return nil
	}
	b := r.data[r.pos : r.pos+n : r.pos+n]
	r.pos += n
	return b
}

func (r *wireReader) u8(field string) byte {
	if b := r.take(1, field); b != nil {
		return b[0]
	}
	return 0
}

func (r *wireReader) u16(field string) uint16 {
	if b := r.take(2, field); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *wireReader) u32(field string) uint32 {
	if b := r.take(4, field); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *wireReader) u64(field string) uint64 {
	if b := r.take(8, field); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// sized reads a TPM2B: a length of two bytes, then as many bytes.
func (r *wireReader) sized(field string) []byte { return r.take(int(r.u16(field)), field) }

// end is the error of the reader, or that something is left.
func (r *wireReader) end() error {
	if r.err == nil && r.pos != len(r.data) {
		r.fail(r.pos, "end", fmt.Errorf("%d bytes too many", len(r.data)-r.pos))
	}
	return r.err
}

// appendSized appends a TPM2B. The caller has checked that p is short enough.
func appendSized(b, p []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(p))), p...)
}
