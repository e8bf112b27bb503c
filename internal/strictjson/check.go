package strictjson

import (
	"encoding"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith"
)

// checker checks a document against the type that it is decoded into, so that encoding/json has
// nothing left to be lenient about or to find words for.
type checker struct {
	doc      []byte
	known    bool // only keys that there are fields for
	complete bool
}

var (
	jsonUnmarshaler = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
	jsonNumber      = reflect.TypeFor[json.Number]()
	rawMessage      = reflect.TypeFor[json.RawMessage]()
)

func (c checker) value(v value, into any) error {
	t := reflect.TypeOf(into)
	if t == nil || t.Kind() != reflect.Pointer {
		return errors.New("the value to decode into is not a pointer")
	}
	return c.check(v, t.Elem(), "")
}

func (c checker) check(v value, t reflect.Type, path string) error {
	fail := func(format string, args ...any) error {
		field := strings.TrimPrefix(path, ".")
		if field == "" {
			field = "JSON"
		}
		return &osmith.FormatError{Offset: int64(v.start), Field: field, Err: fmt.Errorf(format, args...)}
	}
	want := func(k kind) error {
		if v.kind != k {
			return fail("%s, want %s", v.kind, k)
		}
		return nil
	}
	for t.Kind() == reflect.Pointer && !t.Implements(jsonUnmarshaler) {
		t = t.Elem()
	}
	switch p := reflect.PointerTo(t); {
	case v.kind == null && c.complete && !leftAlone(t):
		return fail("null, want a value")
	case v.kind == null || p.Implements(jsonUnmarshaler) || t.Implements(jsonUnmarshaler):
		return nil
	case t == jsonNumber:
		return want(number)
	case p.Implements(textUnmarshaler):
		return want(text)
	}
	switch t.Kind() {
	case reflect.String:
		return want(text)
	case reflect.Bool:
		return want(boolean)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Float32, reflect.Float64:
		if err := want(number); err != nil {
			return err
		}
		if s := string(c.doc[v.start:v.end]); !fits(s, t) {
			return fail("%.40s does not fit into %d bits as %s", s, t.Bits(), numbers[t.Kind()])
		}
	case reflect.Slice, reflect.Array:
		if t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 {
			if err := want(text); err != nil {
				return err
			}
			var s string
			if err := json.Unmarshal(c.doc[v.start:v.end], &s); err != nil {
				return fail("%w", err)
			}
			if _, err := base64.StdEncoding.Strict().DecodeString(s); err != nil {
				return fail("not base64: %w", err)
			}
			return nil
		}
		if err := want(array); err != nil {
			return err
		}
		if t.Kind() == reflect.Array && len(v.parts) != t.Len() {
			return fail("%d elements, want %d", len(v.parts), t.Len())
		}
		for i, e := range v.parts {
			if err := c.check(e, t.Elem(), fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
	case reflect.Map:
		if err := want(object); err != nil {
			return err
		}
		for _, m := range v.parts {
			if err := c.check(m, t.Elem(), path+"."+m.key); err != nil {
				return err
			}
		}
	case reflect.Struct:
		if err := want(object); err != nil {
			return err
		}
		return c.members(v, t, path)
	}
	return nil
}

// members checks the members of an object against the fields of a struct.
func (c checker) members(v value, t reflect.Type, path string) error {
	fields := map[string]reflect.Type{}
	folded := map[string]string{}
	var missing []string
	for _, f := range reflect.VisibleFields(t) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Tag.Get("json") == "-" || !f.IsExported() || f.Anonymous && name == "" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		if _, outer := fields[name]; !outer {
			fields[name] = f.Type
			folded[fold(name)] = name
			if c.complete && !strings.Contains(options, "omit") && !leftAlone(f.Type) {
				missing = append(missing, name)
			}
		}
	}
	for _, m := range v.parts {
		missing = slices.DeleteFunc(missing, func(name string) bool { return name == m.key })
		ft, exact := fields[m.key]
		name, alike := folded[fold(m.key)]
		var err error
		switch {
		case exact:
			err = c.check(m, ft, path+"."+m.key)
		case alike:
			err = fmt.Errorf("key %q differs in letter case, want %q", m.key, name)
		case c.known:
			err = fmt.Errorf("unknown key %q", m.key)
		}
		if _, done := errors.AsType[*osmith.FormatError](err); err != nil && !done {
			err = &osmith.FormatError{Offset: int64(m.start), Field: strings.TrimPrefix(path+"."+m.key, "."), Err: err}
		}
		if err != nil {
			return err
		}
	}
	if len(missing) > 0 {
		return &osmith.FormatError{Offset: int64(v.start), Field: strings.TrimPrefix(path+"."+missing[0], "."), Err: errors.New("missing")}
	}
	return nil
}

// leftAlone reports whether [Complete] does not ask for a value of a field.
func leftAlone(t reflect.Type) bool { return t == rawMessage || t.Kind() == reflect.Interface }

// numbers says what a number must be, by the kind of its field.
var numbers = map[reflect.Kind]string{
	reflect.Int: "a whole number", reflect.Int8: "a whole number", reflect.Int16: "a whole number",
	reflect.Int32: "a whole number", reflect.Int64: "a whole number",
	reflect.Uint: "a positive whole number", reflect.Uint8: "a positive whole number", reflect.Uint16: "a positive whole number",
	reflect.Uint32: "a positive whole number", reflect.Uint64: "a positive whole number",
	reflect.Float32: "a number", reflect.Float64: "a number",
}

// fits reports whether encoding/json can store a number, as it is written, in a field.
func fits(s string, t reflect.Type) bool {
	var err error
	switch {
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Int64:
		_, err = strconv.ParseInt(s, 10, t.Bits())
	case t.Kind() >= reflect.Uint && t.Kind() <= reflect.Uint64:
		_, err = strconv.ParseUint(s, 10, t.Bits())
	default:
		_, err = strconv.ParseFloat(s, t.Bits())
	}
	return err == nil
}
