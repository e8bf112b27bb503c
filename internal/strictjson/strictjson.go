// Package strictjson reads JSON documents that can be read in one way only. The decoder of encoding/json takes the last of two
// equal keys and does not mind their letter case, other decoders take the first; what is signed must not depend on that.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
)

// maxDepth bounds the nesting of a document.
const maxDepth = 64

// Parse decodes a document that is one value, with no key twice in an object. Numbers are json.Number.
func Parse(b []byte) (any, error) { return parse(b, func(key string) string { return key }) }

// Unmarshal is json.Unmarshal of a document in which no object has two keys that are the same or differ in letter case only.
func Unmarshal(b []byte, into any) error {
	if _, err := parse(b, fold); err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}

// fold makes equal what encoding/json takes for the same field.
func fold(key string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		return least
	}, key)
}

type parser struct {
	*json.Decoder
	same func(key string) string
}

func parse(b []byte, same func(string) string) (any, error) {
	p := parser{json.NewDecoder(bytes.NewReader(b)), same}
	p.UseNumber()
	v, err := p.value(0)
	if err != nil {
		return nil, err
	}
	if _, err := p.Token(); err != io.EOF {
		return nil, errors.New("something follows the JSON value")
	}
	return v, nil
}

func (p parser) value(depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested more than %d deep", maxDepth)
	}
	t, err := p.Token()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('{'):
		return p.object(depth)
	case json.Delim('['):
		list := []any{}
		for p.More() {
			v, err := p.value(depth + 1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err = p.Token()
		return list, err
	}
	return t, nil
}

func (p parser) object(depth int) (any, error) {
	members, seen := map[string]any{}, map[string]string{}
	for p.More() {
		t, err := p.Token()
		if err != nil {
			return nil, err
		}
		key, ok := t.(string)
		if !ok {
			return nil, fmt.Errorf("key %v is not a string", t)
		}
		other, twice := seen[p.same(key)]
		if twice && other == key {
			return nil, fmt.Errorf("key %q appears twice", key)
		}
		if twice {
			return nil, fmt.Errorf("keys %q and %q differ in letter case only", other, key)
		}
		seen[p.same(key)] = key
		if members[key], err = p.value(depth + 1); err != nil {
			return nil, err
		}
	}
	_, err := p.Token()
	return members, err
}
