package luks

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"math"
	"regexp"
	"strconv"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/strictjson"
)

// A node is a value of the metadata as it is on the disk, with the place that errors name.
type node struct {
	key  string
	path string // "keyslots.0.area"
	off  int64  // on the disk
	raw  []byte
}

func (n node) fail(format string, args ...any) error {
	return badFormat(n.off, n.path, format, args...)
}

// inside is an error about a part of the value, with its place on the disk.
func (n node) inside(err error) error {
	format, ok := errors.AsType[*osmith.FormatError](err)
	if !ok {
		return n.fail("%w", err)
	}
	off := n.off
	if off >= 0 && format.Offset > 0 {
		off += format.Offset
	}
	field := cmp.Or(n.path, "JSON")
	if format.Field != "JSON" {
		field = n.child(format.Field)
	}
	return &osmith.FormatError{Offset: off, Field: field, Err: format.Err}
}

// object is the members of an object in their order. Those that a change does not touch stay as
// they are, byte for byte.
type object []node

func (n node) object() (object, error) {
	members, err := strictjson.Object(n.raw)
	if err != nil {
		return nil, n.inside(err)
	}
	all := make(object, len(members))
	for i, m := range members {
		all[i] = node{m.Key, n.child(m.Key), n.off + m.Offset, m.Value}
	}
	return all, nil
}

func (n node) child(name string) string {
	if n.path == "" {
		return name
	}
	return n.path + "." + name
}

func (o object) get(key string) (node, bool) {
	for _, n := range o {
		if n.key == key {
			return n, true
		}
	}
	return node{}, false
}

// need is a member that must be there; of is the object, for the error.
func (o object) need(of node, key string) (node, error) {
	n, ok := o.get(key)
	if !ok {
		return n, of.fail("member %q is missing", key)
	}
	return n, nil
}

// fields are members that must be there. err is about the first that is not.
type fields struct {
	of  node
	all object
	err error
}

func (n node) fields() (*fields, error) {
	all, err := n.object()
	return &fields{of: n, all: all}, err
}

func (f *fields) need(key string) (n node) {
	if f.err == nil {
		n, f.err = f.all.need(f.of, key)
	}
	return n
}

func (o *object) set(key string, raw []byte) {
	for i := range *o {
		if (*o)[i].key == key {
			(*o)[i].raw = raw
			return
		}
	}
	*o = append(*o, node{key: key, raw: raw})
}

func (o *object) remove(key string) {
	for i := range *o {
		if (*o)[i].key == key {
			*o = append((*o)[:i:i], (*o)[i+1:]...)
			return
		}
	}
}

// marshal writes an object without white space of its own.
func (o object) marshal() []byte {
	b := []byte{'{'}
	for i, n := range o {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, compact(n.key)...), ':'), n.raw...)
	}
	return append(b, '}')
}

// compact is a value without white space, and with none of the escapes that are for HTML: json-c
// writes none.
func compact(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // only values of this package, which can be written
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'})
}

func (n node) text() (string, error) {
	var s string
	if len(n.raw) == 0 || n.raw[0] != '"' {
		return "", n.fail("want a string")
	}
	if err := json.Unmarshal(n.raw, &s); err != nil {
		return "", n.fail("%w", err)
	}
	return s, nil
}

// texts reads an array of strings, none of which is there twice.
func (n node) texts() ([]string, error) {
	elements, err := strictjson.Array(n.raw)
	if err != nil {
		return nil, n.inside(err)
	}
	all := make([]string, 0, len(elements))
	seen := map[string]bool{}
	for _, e := range elements {
		s, err := node{"", n.path, n.off + e.Offset, e.Value}.text()
		if err != nil {
			return nil, err
		}
		if seen[s] {
			return nil, n.fail("key %q appears twice", s)
		}
		seen[s] = true
		all = append(all, s)
	}
	return all, nil
}

var plainNumber = regexp.MustCompile(`^(0|[1-9][0-9]*)$`)

// integer reads a whole number from least to most.
func (n node) integer(least, most int64) (int64, error) {
	if !plainNumber.Match(n.raw) {
		return 0, n.fail("%.40s, want a whole number", n.raw)
	}
	v, err := strconv.ParseInt(string(n.raw), 10, 64)
	if err != nil || v < least || v > most {
		return 0, n.fail("%.40s, want %d to %d", n.raw, least, most)
	}
	return v, nil
}

// bytes reads a number of bytes, which the format has as a string of decimal digits since JSON's
// numbers are not exact.
func (n node) bytes() (int64, error) {
	s, err := n.text()
	if err != nil {
		return 0, err
	}
	return parseBytes(n, s)
}

func parseBytes(n node, s string) (int64, error) {
	if !plainNumber.MatchString(s) {
		return 0, n.fail("%.40q, want a decimal number in a string", s)
	}
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil || v > math.MaxInt64/2 { // so that a sum of two does not overflow
		return 0, n.fail("%.40q is too large", s)
	}
	return int64(v), nil
}

// base64 reads bytes.
func (n node) base64() ([]byte, error) {
	var b []byte
	if len(n.raw) == 0 || n.raw[0] != '"' {
		return nil, n.fail("want base64 in a string")
	}
	if err := strictjson.Unmarshal(n.raw, &b); err != nil {
		return nil, n.inside(err)
	}
	return b, nil
}

// number reads the name of an object, which is a number below limit.
func (n node) number(limit int) (int, error) {
	if !plainNumber.MatchString(n.key) {
		return 0, n.fail("name %.40q, want a decimal number", n.key)
	}
	id, err := strconv.Atoi(n.key)
	if err != nil || id >= limit {
		return 0, n.fail("number %.40s, want at most %d", n.key, limit-1)
	}
	return id, nil
}

// ids reads an array of names of objects that exist.
func (n node) ids(exists func(id int) bool) ([]int, error) {
	names, err := n.texts()
	if err != nil {
		return nil, err
	}
	ids := make([]int, len(names))
	for i, name := range names {
		id, err := node{key: name, path: n.path, off: n.off}.number(maxSlots)
		if err != nil {
			return nil, err
		}
		if !exists(id) {
			return nil, n.fail("%d does not exist", id)
		}
		ids[i] = id
	}
	return ids, nil
}

// idTexts is the reverse of ids.
func idTexts(ids []int) []byte {
	all := make([]string, len(ids))
	for i, id := range ids {
		all[i] = strconv.Itoa(id)
	}
	return compact(all)
}
