package edk2

import (
	"bytes"
	"errors"
	"fmt"
)

// An UnknownError says that the model does not cover something: whether firmware accepts it cannot be told.
type UnknownError struct{ What string }

func (e *UnknownError) Error() string { return "not modelled here: " + e.What }

func unknown(format string, args ...any) error { return &UnknownError{fmt.Sprintf(format, args...)} }

// Unknown is an [UnknownError].
func Unknown(format string, args ...any) error { return unknown(format, args...) }

// IsUnknown reports whether an error is an [UnknownError].
func IsUnknown(err error) bool {
	_, ok := errors.AsType[*UnknownError](err)
	return ok
}

// Tags of DER elements.
const (
	tagBoolean   = 0x01
	tagInteger   = 0x02
	tagBits      = 0x03
	tagOctets    = 0x04
	tagNull      = 0x05
	tagOID       = 0x06
	tagSequence  = 0x30
	tagSet       = 0x31
	tagContext0  = 0xa0
	tagContext1  = 0xa1
	tagContext2  = 0xa2
	tagContext3  = 0xa3
	tagPrimitive = 0x80
)

// element is one BER element with a definite length.
type element struct {
	tag        byte
	full, body []byte
}

// next takes the first element of b. Like OpenSSL it does not mind a length that has more bytes than it needs.
func next(b []byte) (e element, rest []byte, err error) {
	if len(b) < 2 {
		return e, nil, errors.New("an element of the message or certificate is cut off: its length reaches behind the end")
	}
	if b[0]&0x1f == 0x1f {
		return e, nil, unknown("tags of several bytes")
	}
	n, head := int(b[1]), 2
	switch {
	case n == 0x80:
		return e, nil, unknown("elements of indefinite length")
	case n > 0x80:
		count := n & 0x7f
		if count > len(b)-2 {
			return e, nil, errors.New("an element of the message or certificate is cut off: its length reaches behind the end")
		}
		n = 0
		for _, c := range b[2 : 2+count] {
			if n > len(b) {
				return e, nil, errors.New("an element of the message or certificate is cut off: its length reaches behind the end")
			}
			n = n<<8 | int(c)
		}
		head += count
	}
	if n > len(b)-head {
		return e, nil, errors.New("an element of the message or certificate is cut off: its length reaches behind the end")
	}
	return element{b[0], b[:head+n], b[head : head+n]}, b[head+n:], nil
}

// reader takes elements one after the other and remembers the first error.
type reader struct {
	b   []byte
	err error
}

func (r *reader) is(tag byte) bool { return r.err == nil && len(r.b) > 0 && r.b[0] == tag }

// take takes an element with a tag. what names it in the error.
func (r *reader) take(tag byte, what string) element {
	e := r.any(what)
	if r.err == nil && e.tag != tag {
		r.err = fmt.Errorf("%s: tag 0x%02x, want 0x%02x", what, e.tag, tag)
	}
	return e
}

func (r *reader) any(what string) (e element) {
	if r.err != nil {
		return e
	}
	var err error
	if e, r.b, err = next(r.b); err != nil {
		r.err = fmt.Errorf("%s: %w", what, err)
	}
	return e
}

// end makes bytes that are left an error.
func (r *reader) end(what string) {
	if r.err == nil && len(r.b) > 0 {
		r.err = fmt.Errorf("%s: %d bytes behind it", what, len(r.b))
	}
}

// algorithm takes an AlgorithmIdentifier: its OID's content, and the parameters, nil if there are none.
func (r *reader) algorithm(what string) (id, parameters []byte) {
	e := r.take(tagSequence, what)
	if r.err != nil {
		return nil, nil
	}
	in := &reader{b: e.body}
	id = in.take(tagOID, what).body
	if len(in.b) > 0 {
		parameters = in.any(what).full
	}
	in.end(what)
	r.err = in.err
	return id, parameters
}

// sameInteger compares the contents of two INTEGERs by their values.
func sameInteger(a, b []byte) bool { return bytes.Equal(minimal(a), minimal(b)) }

// minimal drops leading bytes that only repeat the sign.
func minimal(b []byte) []byte {
	for len(b) > 1 && (b[0] == 0 && b[1] < 0x80 || b[0] == 0xff && b[1] >= 0x80) {
		b = b[1:]
	}
	return b
}
