package edk2

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// Name is a distinguished name for people, in hexadecimal if it cannot be read.
func Name(der []byte) string {
	var rdn pkix.RDNSequence
	if rest, err := asn1.Unmarshal(der, &rdn); err != nil || len(rest) > 0 {
		return fmt.Sprintf("%x", der)
	}
	return rdn.String()
}

// Subject is the subject of a certificate for people.
func (c *Certificate) Subject() string { return Name(c.RawSubject) }

// canonicalName is a name in the form in which OpenSSL compares names: texts as UTF-8, ASCII
// letters in lower case, white space at the ends dropped and in between made one space. Values of
// other types stay as they are.
func canonicalName(der []byte) ([]byte, error) {
	r := &reader{b: der}
	outer := r.take(tagSequence, "name")
	if r.err != nil {
		return nil, r.err
	}
	var out []byte
	for sets := (&reader{b: outer.body}); len(sets.b) > 0; {
		set := sets.take(tagSet, "name")
		if sets.err != nil {
			return nil, sets.err
		}
		var parts [][]byte
		for in := (&reader{b: set.body}); len(in.b) > 0; {
			e := in.take(tagSequence, "name")
			if in.err != nil {
				return nil, in.err
			}
			pair := &reader{b: e.body}
			id := pair.oid("name")
			value := pair.value("name", Options{})
			pair.end("name")
			if pair.err != nil {
				return nil, pair.err
			}
			part := append([]byte{}, id.full...)
			text, ok, err := canonicalText(value)
			if err != nil {
				return nil, err
			}
			if ok {
				part = append(append(part, 0x0c), binary.BigEndian.AppendUint32(nil, uint32(len(text)))...)
				part = append(part, text...)
			} else {
				part = append(part, value.full...)
			}
			parts = append(parts, part)
		}
		slices.SortFunc(parts, slices.Compare[[]byte])
		out = append(out, tagSet, byte(len(parts)))
		for _, p := range parts {
			out = append(binary.BigEndian.AppendUint32(out, uint32(len(p))), p...)
		}
	}
	return out, nil
}

// canonicalText converts a character string; ok is false for other types.
func canonicalText(e element) (text []byte, ok bool, err error) {
	var runes []rune
	switch e.tag {
	case 0x0c: // UTF8String
		if !utf8.Valid(e.body) {
			return nil, false, errors.New("a UTF8String whose bytes are not UTF-8")
		}
		runes = []rune(string(e.body))
	case 0x13, 0x14, 0x16, 0x1a: // Printable, T61, IA5 and VisibleString: one byte a character
		for _, b := range e.body {
			runes = append(runes, rune(b))
		}
	case 0x1e: // BMPString
		if len(e.body)%2 != 0 {
			return nil, false, errors.New("a BMPString of an odd length")
		}
		for i := 0; i < len(e.body); i += 2 {
			runes = append(runes, rune(binary.BigEndian.Uint16(e.body[i:])))
		}
	case 0x1c: // UniversalString
		if len(e.body)%4 != 0 {
			return nil, false, errors.New("a UniversalString of an odd length")
		}
		for i := 0; i < len(e.body); i += 4 {
			runes = append(runes, rune(binary.BigEndian.Uint32(e.body[i:])&0x7fffffff))
		}
	case 0x03, 0x12, 0x15, 0x1b, tagSequence:
		return nil, false, nil
	default:
		return nil, false, unknown("a name's value of the type 0x%02x", e.tag)
	}
	space := func(r rune) bool { return r == ' ' || r >= '\t' && r <= '\r' }
	gap := false
	for _, r := range runes {
		if space(r) {
			gap = len(text) > 0
			continue
		}
		if gap {
			text, gap = append(text, ' '), false
		}
		if r >= 'A' && r <= 'Z' {
			r += 'a' - 'A'
		}
		text = utf8.AppendRune(text, r)
	}
	return text, true, nil
}
