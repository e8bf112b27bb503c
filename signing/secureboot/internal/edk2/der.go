package edk2

import (
	"bytes"
	"errors"
	"fmt"
)

// An UnknownError says that the model does not cover something: whether firmware accepts it cannot
// be told.
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

// A strictError is one for what OpenSSL refuses since 1.1.1; what came before was more tolerant.
type strictError struct{ text string }

func (e *strictError) Error() string { return e.text }

func strict(format string, args ...any) error { return &strictError{fmt.Sprintf(format, args...)} }

// IsStrict reports whether something is refused by OpenSSL since 1.1.1, and perhaps not by earlier
// ones.
func IsStrict(err error) bool {
	_, ok := errors.AsType[*strictError](err)
	return ok
}

// Tags of DER elements.
const (
	tagBoolean         = 0x01
	tagInteger         = 0x02
	tagBits            = 0x03
	tagOctets          = 0x04
	tagNull            = 0x05
	tagOID             = 0x06
	tagEnumerated      = 0x0a
	tagUTCTime         = 0x17
	tagGeneralizedTime = 0x18
	tagSequence        = 0x30
	tagSet             = 0x31
	tagContext0        = 0xa0
	tagContext1        = 0xa1
	tagContext2        = 0xa2
	tagContext3        = 0xa3
	tagPrimitive       = 0x80
)

// element is one BER element.
type element struct {
	tag        byte
	full, body []byte
}

// maxNesting bounds elements of indefinite length in each other.
const maxNesting = 16

// next takes the first element of b. Like OpenSSL it does not mind a length that has more bytes
// than it needs, or none.
func next(b []byte) (e element, rest []byte, err error) { return nextNested(b, 0) }

func nextNested(b []byte, nesting int) (e element, rest []byte, err error) {
	if len(b) < 2 {
		return e, nil, errors.New("an element of the message or certificate is cut off: its length reaches beyond the end")
	}
	if b[0]&0x1f == 0x1f {
		return e, nil, unknown("tags of several bytes")
	}
	n, head := int(b[1]), 2
	switch {
	case n == 0x80:
		return indefinite(b, nesting)
	case n > 0x80:
		count := n & 0x7f
		if count > len(b)-2 {
			return e, nil, errors.New("an element of the message or certificate is cut off: its length reaches beyond the end")
		}
		n = 0
		for _, c := range b[2 : 2+count] {
			if n > len(b) {
				return e, nil, errors.New("an element of the message or certificate is cut off: its length reaches beyond the end")
			}
			n = n<<8 | int(c)
		}
		head += count
	}
	if n > len(b)-head {
		return e, nil, errors.New("an element of the message or certificate is cut off: its length reaches beyond the end")
	}
	return element{b[0], b[:head+n], b[head : head+n]}, b[head+n:], nil
}

// indefinite takes an element that ends with two zero bytes.
func indefinite(b []byte, nesting int) (e element, rest []byte, err error) {
	if b[0]&0x20 == 0 {
		return e, nil, errors.New("an element without parts is of indefinite length")
	}
	if nesting == maxNesting {
		return e, nil, unknown("elements of indefinite length, %d in each other", nesting)
	}
	for pos := 2; ; {
		left := b[pos:]
		if len(left) >= 2 && left[0] == 0 && left[1] == 0 {
			return element{b[0], b[:pos+2], b[2:pos]}, left[2:], nil
		}
		in, _, err := nextNested(left, nesting+1)
		if err != nil {
			return e, nil, err
		}
		pos += len(in.full)
	}
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

// integer takes an INTEGER. Content that repeats its sign is refused (OpenSSL, c2i_ibuf).
func (r *reader) integer(what string) []byte {
	v := r.take(tagInteger, what).body
	switch {
	case r.err != nil:
	case len(v) == 0:
		r.err = fmt.Errorf("%s: an INTEGER without content", what)
	case len(minimal(v)) != len(v):
		r.err = strict("%s: an INTEGER with bytes in front that only repeat its sign", what)
	}
	return v
}

// oid takes an OBJECT IDENTIFIER (OpenSSL, ossl_c2i_ASN1_OBJECT).
func (r *reader) oid(what string) element {
	e := r.take(tagOID, what)
	if r.err == nil {
		if err := checkOID(e.body); err != nil {
			r.err = fmt.Errorf("%s: %w", what, err)
		}
	}
	return e
}

func checkOID(b []byte) error {
	if len(b) == 0 || b[len(b)-1] >= 0x80 {
		return strict("an object identifier that is cut off")
	}
	for i, c := range b {
		if c == 0x80 && (i == 0 || b[i-1] < 0x80) {
			return strict("an object identifier with a zero in front of a number")
		}
	}
	return nil
}

// value takes an element of any type, and checks its content as OpenSSL does (asn1_ex_c2i).
func (r *reader) value(what string, o Options) element {
	e := r.any(what)
	if r.err == nil {
		if err := o.checkValue(e); err != nil {
			r.err = fmt.Errorf("%s: %w", what, err)
		}
	}
	return e
}

func (o Options) checkValue(e element) error {
	n := len(e.body)
	switch {
	case e.tag == tagSequence || e.tag == tagSet || e.tag >= 0x40:
		return nil
	case e.tag&0x20 != 0:
		return unknown("a value of the type 0x%02x in parts", e.tag)
	}
	switch e.tag {
	case tagBoolean:
		if n != 1 {
			return strict("a BOOLEAN of %d bytes", n)
		}
	case tagNull:
		if n != 0 {
			return strict("a NULL of %d bytes", n)
		}
	case tagInteger, tagEnumerated:
		if n == 0 || len(minimal(e.body)) != n {
			return strict("an INTEGER that is not the shortest")
		}
	case tagOID:
		return checkOID(e.body)
	case tagBits:
		if n == 0 || e.body[0] > 7 {
			return strict("no bit string")
		}
	case 0x1c:
		if n%4 != 0 {
			return strict("a UniversalString of an odd length")
		}
	case 0x1e:
		if n%2 != 0 {
			return strict("a BMPString of an odd length")
		}
	case tagUTCTime, tagGeneralizedTime:
		return o.timeLength(e)
	case 0:
		return strict("an element of type 0")
	}
	return nil
}

// boolean takes a BOOLEAN.
func (r *reader) boolean(what string) bool {
	v := r.take(tagBoolean, what).body
	if r.err == nil && len(v) != 1 {
		r.err = strict("%s: a BOOLEAN of %d bytes", what, len(v))
	}
	return r.err == nil && v[0] != 0
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
		r.err = fmt.Errorf("%s: %d bytes after it", what, len(r.b))
	}
}

// algorithm takes an AlgorithmIdentifier: its OID's content, and the parameters, nil if there are
// none.
func (r *reader) algorithm(what string, o Options) (id, parameters []byte) {
	e := r.take(tagSequence, what)
	if r.err != nil {
		return nil, nil
	}
	in := &reader{b: e.body}
	id = in.oid(what).body
	if len(in.b) > 0 {
		parameters = in.value(what, o).full
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
