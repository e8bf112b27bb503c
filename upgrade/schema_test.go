package upgrade_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/upgrade"
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

// requireSchema asserts that JSON is as docs/schema says.
func requireSchema(t *testing.T, name string, b []byte) {
	t.Helper()
	text, err := os.ReadFile("../docs/schema/" + name + ".json")
	require.NoError(t, err)
	var s schema
	require.NoError(t, json.Unmarshal(text, &s))
	var v any
	require.NoError(t, json.Unmarshal(b, &v))
	require.Empty(t, s.check(name, v), "%s", b)
}

// The JSON forms are as their schemas say, empty or full: no list is null.
func TestSchemas(t *testing.T) {
	s := newSystem(t, "")
	state := func() {
		t.Helper()
		st, err := upgrade.Inspect(s.disk, s.machine)
		require.NoError(t, err)
		b, err := json.Marshal(st)
		require.NoError(t, err)
		requireSchema(t, "state", b)
	}
	plan := func(p *upgrade.Plan) {
		t.Helper()
		b, err := json.Marshal(p)
		require.NoError(t, err)
		requireSchema(t, "plan", b)
	}
	state()
	s.bootAndRun()
	state()
	p := s.plan(s.build("2"), upgrade.PlanOptions{})
	plan(p)
	require.NoError(t, p.Apply(t.Context(), nil))
	state()
	for range 3 {
		_, err := s.machineUnderTest().Boot(t.Context())
		require.NoError(t, err)
	}
	state()
	s.bootAndRun()
	p = s.plan(s.build("3"), upgrade.PlanOptions{})
	plan(p)
	require.NoError(t, p.Apply(t.Context(), nil))
	requireSchema(t, "failed", read(t, s.esp(), "EFI/osmith/failed.json"))
	s.bootAndRun()
	state()
	again := s.plan(s.build("3"), upgrade.PlanOptions{})
	require.True(t, again.Installed)
	plan(again)
}
