// Package schematest checks JSON against the schemas in docs/schema. It is for tests.
package schematest

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// schema is what docs/schema uses of JSON Schema 2020-12.
type schema struct {
	Schema               string `json:"$schema"`
	ID                   string `json:"$id"`
	Title                string
	Description          string
	Type                 string
	Const                any
	Enum                 []any
	Minimum              *float64
	Pattern              string
	Properties           map[string]*schema
	Required             []string
	AdditionalProperties json.RawMessage
	Items                *schema
}

// check says what of a value is not as the schema has it.
func (s *schema) check(at string, v any) (wrong []string) {
	bad := func(format string, args ...any) { wrong = append(wrong, at+": "+fmt.Sprintf(format, args...)) }
	if s.Const != nil && s.Const != v {
		bad("%v, want %v", v, s.Const)
	}
	if s.Enum != nil && !slices.Contains(s.Enum, v) {
		bad("%v is none of %v", v, s.Enum)
	}
	switch s.Type {
	case "":
	case "string":
		text, ok := v.(string)
		if !ok {
			bad("%v is no string", v)
		} else if s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(text) {
			bad("%q does not match %s", text, s.Pattern)
		}
	case "boolean":
		if _, ok := v.(bool); !ok {
			bad("%v is no boolean", v)
		}
	case "integer":
		n, ok := v.(float64)
		if !ok || n != float64(int64(n)) || s.Minimum != nil && n < *s.Minimum {
			bad("%v is no integer from %v on", v, s.Minimum)
		}
	case "array":
		list, ok := v.([]any)
		if !ok {
			bad("%v is no array", v)
		}
		for i, x := range list {
			wrong = append(wrong, s.Items.check(fmt.Sprintf("%s[%d]", at, i), x)...)
		}
	case "object":
		members, ok := v.(map[string]any)
		if !ok {
			bad("%v is no object", v)
		}
		for _, name := range s.Required {
			if _, there := members[name]; !there {
				bad("no member %s", name)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(members)) {
			at := at + "." + name
			if p := s.Properties[name]; p != nil {
				wrong = append(wrong, p.check(at, members[name])...)
				continue
			}
			var other schema
			if json.Unmarshal(s.AdditionalProperties, &other) != nil {
				wrong = append(wrong, at+": not in the schema")
			} else {
				wrong = append(wrong, other.check(at, members[name])...)
			}
		}
	default:
		bad("type %q", s.Type)
	}
	return wrong
}

// Require asserts that JSON is as the schema in the file has it. What is not in the schema is
// wrong.
func Require(t *testing.T, file string, b []byte) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var s schema
	require.NoError(t, json.Unmarshal(text, &s))
	require.NotEmpty(t, s.Title, file)
	var v any
	require.NoError(t, json.Unmarshal(b, &v))
	require.Empty(t, s.check(s.Title, v), "%s", b)
}
