// Package strictjson reads JSON documents that can be read in one way only, and is the one place
// where documents are read so. The decoder of encoding/json takes the last of two equal keys, takes
// "Name" for "name", and replaces text that is not UTF-8; other decoders do otherwise, and the
// decoder of the next Go release may, too. What is signed or trusted must not depend on that.
//
// Refused are: a key twice in an object, keys that differ in letter case only from each other or
// from the field that is read, text that is not UTF-8 or not Unicode, more than 64 levels, anything
// behind the value. Errors are [*osmith.FormatError] with the offset in the document; their texts
// are of this package and the same with every Go release.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"

	"github.com/osmith-dev/osmith"
)

// An Option changes what [Unmarshal] takes.
type Option int

const (
	// KnownFields refuses keys that the Go value has no field for.
	KnownFields Option = iota + 1

	// Complete refuses null, and a document without a member for each field, but for fields with
	// omitempty or omitzero. A field of an interface type or [json.RawMessage] takes null, and need
	// not be there.
	Complete

	// ForeignKeys takes keys that no field is for and that differ from each other in letter case
	// only: a document of which only a part is read may have them.
	ForeignKeys
)

// Unmarshal decodes a document into a Go value, by the rules of encoding/json besides those of this
// package. Numbers in an interface are json.Number. Of values that decode themselves
// (UnmarshalJSON) only the text is checked here, and in documents for an interface or a map keys
// that differ in letter case only are refused as well. Bytes are base64 whose unused bits are zero.
func Unmarshal(b []byte, into any, options ...Option) error {
	same := fold
	if slices.Contains(options, ForeignKeys) {
		same = exact
	}
	doc, err := scan(b, same)
	if err != nil {
		return err
	}
	c := checker{doc: b, known: slices.Contains(options, KnownFields), complete: slices.Contains(options, Complete)}
	if err := c.value(doc, into); err != nil {
		return err
	}
	if hasInterface(reflect.TypeOf(into), map[reflect.Type]bool{}) {
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		err = d.Decode(into)
	} else {
		err = json.Unmarshal(b, into) // which makes no copy of the document
	}
	if _, ours := errors.AsType[*osmith.FormatError](err); err == nil || ours {
		return err
	}
	return &osmith.FormatError{Field: "JSON", Err: err}
}

// hasInterface reports whether a type may take a number as a value of an interface; seen are the
// types that are looked at already.
func hasInterface(t reflect.Type, seen map[reflect.Type]bool) bool {
	if seen[t] {
		return false
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Interface:
		return true
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return hasInterface(t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			if hasInterface(t.Field(i).Type, seen) {
				return true
			}
		}
	}
	return false
}

// Parse decodes a document that may have any keys, but none twice in an object. Numbers are
// json.Number.
func Parse(b []byte) (any, error) {
	if _, err := scan(b, exact); err != nil {
		return nil, err
	}
	var v any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, &osmith.FormatError{Field: "JSON", Err: err}
	}
	return v, nil
}

// A Member is a key of an object and its value, as they stand in the document.
type Member struct {
	Key    string
	Offset int64 // of the value
	Value  json.RawMessage
}

// Object splits a document that is an object into its members, in the order of the document. No key
// is there twice; what the values are is for the caller to find out with [Unmarshal].
func Object(b []byte) ([]Member, error) {
	doc, err := scanLevels(b, exact, 1)
	if err != nil {
		return nil, err
	}
	if doc.kind != object {
		return nil, &osmith.FormatError{Offset: int64(doc.start), Field: "JSON", Err: fmt.Errorf("%v, want an object", doc.kind)}
	}
	members := make([]Member, len(doc.parts))
	for i, p := range doc.parts {
		members[i] = Member{Key: p.key, Offset: int64(p.start), Value: b[p.start:p.end]}
	}
	return members, nil
}

// Array splits a document that is an array into its elements, in the order of the document. Their
// keys are empty.
func Array(b []byte) ([]Member, error) {
	doc, err := scanLevels(b, exact, 1)
	if err != nil {
		return nil, err
	}
	if doc.kind != array {
		return nil, &osmith.FormatError{Offset: int64(doc.start), Field: "JSON", Err: fmt.Errorf("%v, want an array", doc.kind)}
	}
	elements := make([]Member, len(doc.parts))
	for i, p := range doc.parts {
		elements[i] = Member{Offset: int64(p.start), Value: b[p.start:p.end]}
	}
	return elements, nil
}

var errEnd = fmt.Errorf("the document ends here: %w", io.ErrUnexpectedEOF)
