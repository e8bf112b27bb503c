package cms

import (
	"bytes"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"github.com/osmith-dev/osmith"
)

// Identifier octets of the elements used here (ITU-T X.690, section 8.1.2).
const (
	tagInteger   = 0x02
	tagOctets    = 0x04
	tagNull      = 0x05
	tagOID       = 0x06
	tagUTCTime   = 0x17
	tagTime      = 0x18
	tagSequence  = 0x30
	tagSet       = 0x31
	tagContext0  = 0xa0 // constructed
	tagContext1  = 0xa1 // constructed
	tagPrimitive = 0x80 // context 0, primitive
)

// within names the part of a message, with offsets of its own, that an error is about.
func within(part string, err error) error {
	if e, ok := errors.AsType[*osmith.FormatError](err); ok {
		return fmt.Errorf("%s: %s at 0x%x of it: %w", part, e.Field, e.Offset, e.Err)
	}
	return fmt.Errorf("%s: %w", part, err)
}

// A cursor walks over the elements of one constructed value.
type cursor struct {
	b   []byte
	off int64 // of b[0] in the input
}

// An element is one tag-length-value; full includes the header.
type element struct {
	tag  byte
	body []byte
	full []byte
	off  int64 // of full[0] in the input
}

func (e element) cursor() *cursor {
	return &cursor{b: e.body, off: e.off + int64(len(e.full)-len(e.body))}
}

func (c *cursor) empty() bool { return len(c.b) == 0 }

// is reports whether an element with this tag comes next.
func (c *cursor) is(tag byte) bool { return len(c.b) > 0 && c.b[0] == tag }

func (c *cursor) fail(field string, err error) error {
	return &osmith.FormatError{Offset: c.off, Field: field, Err: err}
}

var (
	errTruncated = errors.New("ends in the middle of an element")
	errTrailing  = errors.New("unexpected bytes follow")
)

// next reads one element of definite, minimally encoded length (X.690, section 10.1).
func (c *cursor) next(field string) (element, error) {
	b := c.b
	if len(b) < 2 {
		return element{}, c.fail(field, errTruncated)
	}
	if b[0]&0x1f == 0x1f {
		return element{}, c.fail(field, fmt.Errorf("tag 0x%02x: multi-byte tags are not used here", b[0]))
	}
	head, n := 2, int64(b[1])
	if b[1] >= 0x80 {
		k := int(b[1] & 0x7f)
		if k == 0 || k > 4 {
			return element{}, c.fail(field, fmt.Errorf("length byte 0x%02x: not a DER length of at most 4 bytes", b[1]))
		}
		if len(b) < 2+k {
			return element{}, c.fail(field, errTruncated)
		}
		n = 0
		for _, x := range b[2 : 2+k] {
			n = n<<8 | int64(x)
		}
		if n < 0x80 || n>>(8*(k-1)) == 0 {
			return element{}, c.fail(field, fmt.Errorf("length %d is not encoded in the fewest bytes", n))
		}
		head += k
	}
	if n > int64(len(b)-head) {
		return element{}, c.fail(field, fmt.Errorf("length %d, but only %d bytes are left", n, len(b)-head))
	}
	end := head + int(n)
	e := element{tag: b[0], body: b[head:end:end], full: b[:end:end], off: c.off}
	c.b, c.off = b[end:], c.off+int64(end)
	return e, nil
}

// expect reads one element and requires its tag.
func (c *cursor) expect(tag byte, field string) (element, error) {
	if len(c.b) > 0 && c.b[0] != tag {
		return element{}, c.fail(field, fmt.Errorf("tag 0x%02x, want 0x%02x", c.b[0], tag))
	}
	return c.next(field)
}

// end requires that nothing is left.
func (c *cursor) end(field string) error {
	if !c.empty() {
		return c.fail(field, errTrailing)
	}
	return nil
}

// oid reads an OBJECT IDENTIFIER.
func (c *cursor) oid(field string) (asn1.ObjectIdentifier, error) {
	e, err := c.expect(tagOID, field)
	if err != nil {
		return nil, err
	}
	var id asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(e.full, &id); err != nil {
		return nil, &osmith.FormatError{Offset: e.off, Field: field, Err: err}
	}
	return id, nil
}

// algorithm reads an AlgorithmIdentifier. Parameters of the algorithms of this package are absent
// or NULL; of others, which no signature is accepted with, they are any one element.
func (c *cursor) algorithm(field string) (asn1.ObjectIdentifier, error) {
	e, err := c.expect(tagSequence, field)
	if err != nil {
		return nil, err
	}
	in := e.cursor()
	id, err := in.oid(field)
	if err != nil || in.empty() {
		return id, err
	}
	e, err = in.next(field + " parameters")
	if err != nil {
		return nil, err
	}
	if known(id) && (e.tag != tagNull || len(e.body) != 0) {
		return nil, &osmith.FormatError{Offset: e.off, Field: field + " parameters", Err: errors.New("want NULL or none")}
	}
	return id, in.end(field)
}

// tlv appends one element whose value is the concatenation of parts.
func tlv(tag byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	b := append(make([]byte, 0, n+6), tag)
	switch {
	case n < 0x80:
		b = append(b, byte(n))
	case n < 0x100:
		b = append(b, 0x81, byte(n))
	case n < 0x10000:
		b = append(b, 0x82, byte(n>>8), byte(n))
	case n < 0x1000000:
		b = append(b, 0x83, byte(n>>16), byte(n>>8), byte(n))
	default:
		b = append(b, 0x84, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// setOf is tlv with the parts in the order of their encodings (X.690, section 11.6).
func setOf(tag byte, parts ...[]byte) []byte {
	sorted := slices.Clone(parts)
	slices.SortFunc(sorted, bytes.Compare)
	return tlv(tag, sorted...)
}

// oidDER encodes an identifier that is a constant of the program or came from a parsed message.
func oidDER(id asn1.ObjectIdentifier) ([]byte, error) {
	b, err := asn1.Marshal(id)
	if err != nil {
		return nil, fmt.Errorf("object identifier %v: %w", id, err)
	}
	return b, nil
}
