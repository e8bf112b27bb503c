package cosign

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/osmith-dev/osmith/internal/strictjson"
)

// An object is a JSON object that can be read in one way only.
type object struct {
	document string
	path     string
	members  map[string]any
}

// parseObject decodes a document that consists of one object and no key twice.
func parseObject(document string, b []byte) (object, error) {
	v, err := strictjson.Parse(b)
	if err != nil {
		return object{}, &FormatError{Document: document, Err: err}
	}
	members, ok := v.(map[string]any)
	if !ok {
		return object{}, &FormatError{Document: document, Err: errors.New("not a JSON object")}
	}
	return object{document: document, members: members}, nil
}

func (o object) field(key string) string {
	if o.path == "" {
		return key
	}
	return o.path + "." + key
}

func (o object) errorf(key, format string, args ...any) error {
	return &FormatError{Document: o.document, Field: o.field(key), Err: fmt.Errorf(format, args...)}
}

// lookup returns a member, unless there is another whose key differs in letter case
// only.
func (o object) lookup(key string) (any, error) {
	for k := range o.members {
		if k != key && strings.EqualFold(k, key) {
			return nil, o.errorf(key, "key %q differs in letter case only", k)
		}
	}
	v, ok := o.members[key]
	if !ok {
		return nil, o.errorf(key, "missing")
	}
	return v, nil
}

// has reports whether there is a member of exactly that name.
func (o object) has(key string) bool {
	_, ok := o.members[key]
	return ok
}

func (o object) object(key string) (object, error) {
	v, err := o.lookup(key)
	if err != nil {
		return object{}, err
	}
	members, ok := v.(map[string]any)
	if !ok {
		return object{}, o.errorf(key, "not an object")
	}
	return object{document: o.document, path: o.field(key), members: members}, nil
}

func (o object) objects(key string) ([]object, error) {
	v, err := o.lookup(key)
	if err != nil {
		return nil, err
	}
	list, ok := v.([]any)
	if !ok {
		return nil, o.errorf(key, "not a list")
	}
	all := make([]object, 0, len(list))
	for i, v := range list {
		members, ok := v.(map[string]any)
		if !ok {
			return nil, o.errorf(key, "element %d is not an object", i)
		}
		all = append(all, object{document: o.document, path: fmt.Sprintf("%s[%d]", o.field(key), i), members: members})
	}
	return all, nil
}

func (o object) text(key string) (string, error) {
	v, err := o.lookup(key)
	if err != nil {
		return "", err
	}
	s, ok := v.(string)
	if !ok {
		return "", o.errorf(key, "not a string")
	}
	return s, nil
}

// expect checks that a member is a certain string.
func (o object) expect(key, want string) error {
	got, err := o.text(key)
	if err != nil {
		return err
	}
	if got != want {
		return o.errorf(key, "%q, want %q", got, want)
	}
	return nil
}

// only refuses members of other names.
func (o object) only(keys ...string) error {
	for k := range o.members {
		if !slices.Contains(keys, k) {
			return o.errorf(k, "unknown; known are %s", strings.Join(keys, ", "))
		}
	}
	return nil
}

// texts returns a list of strings, nil without the member.
func (o object) texts(key string) ([]string, error) {
	if !o.has(key) {
		return nil, nil
	}
	list, ok := o.members[key].([]any)
	if !ok {
		return nil, o.errorf(key, "not a list")
	}
	var all []string
	for i, v := range list {
		s, ok := v.(string)
		if !ok {
			return nil, o.errorf(key, "element %d is not a string", i)
		}
		all = append(all, s)
	}
	return all, nil
}

// count returns a number from 1 to 1000, 0 without the member.
func (o object) count(key string) (int, error) {
	if !o.has(key) {
		return 0, nil
	}
	n, ok := o.members[key].(json.Number)
	if !ok {
		return 0, o.errorf(key, "not a number")
	}
	i, err := n.Int64()
	if err != nil || i < 1 || i > 1000 {
		return 0, o.errorf(key, "%s, want 1 to 1000", n)
	}
	return int(i), nil
}

// time returns a time of RFC 3339, zero without the member.
func (o object) time(key string) (time.Time, error) {
	if !o.has(key) {
		return time.Time{}, nil
	}
	s, err := o.text(key)
	if err != nil {
		return time.Time{}, err
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.IsZero() {
		return time.Time{}, o.errorf(key, "%q, want a time such as 2026-01-31T12:00:00Z", s)
	}
	return t, nil
}

// integer returns a whole number as protobuf's JSON mapping writes 64 bits: as a string.
func (o object) integer(key string) (string, error) {
	v, err := o.lookup(key)
	if err != nil {
		return "", err
	}
	n, ok := v.(json.Number)
	if !ok {
		return "", o.errorf(key, "not a number")
	}
	if _, err := strconv.ParseInt(n.String(), 10, 64); err != nil {
		return "", o.errorf(key, "%w", err)
	}
	return n.String(), nil
}
