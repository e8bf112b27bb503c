package strictjson

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStrict(t *testing.T) {
	tests := []struct {
		text       string
		parse, one string // errors of Parse and Unmarshal
	}{
		{`{"a":1,"b":{"a":[2,{"a":null}]}}`, "", ""},
		{` [] `, "", ""},
		{`{"a":1,"a":1}`, `key "a" appears twice`, `key "a" appears twice`},
		{`{"a":1,"\u0061":1}`, `key "a" appears twice`, `key "a" appears twice`},
		{`[{"x":{"a":1,"b":2,"a":1}}]`, "twice", "twice"},
		{`{"a":1,"A":1}`, "", `keys "a" and "A" differ in letter case only`},
		{`{"k":1,"K":1}`, "", "letter case"}, // the sign of Kelvin
		{`{} {}`, "something follows", "something follows"},
		{`{}x`, "something follows", "something follows"},
		{``, "unexpected EOF", "unexpected EOF"},
		{`{"a":`, "unexpected EOF", "unexpected EOF"},
		{`{"a"`, "EOF", "EOF"},
		{`{1:2}`, "invalid character", "invalid character"},
		{strings.Repeat("[", 70), "nested more than 64", "nested more than 64"},
	}
	for _, tt := range tests {
		check := func(want string, err error) {
			if want == "" {
				require.NoError(t, err, tt.text)
			} else {
				require.ErrorContains(t, err, want, tt.text)
			}
		}
		_, err := Parse([]byte(tt.text))
		check(tt.parse, err)
		var v any
		check(tt.one, Unmarshal([]byte(tt.text), &v))
	}
	require.ErrorContains(t, Unmarshal([]byte(`{"a":"b"}`), &struct{ A int }{}), "cannot unmarshal")
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"a":[1,"b",{"c":null}]}`))
	f.Add([]byte(`{"a":1,"A":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := Parse(b)
		if err != nil {
			require.Nil(t, v)
		}
		var u any
		if Unmarshal(b, &u) == nil {
			require.NoError(t, err, "what Unmarshal takes, Parse takes")
			require.Equal(t, u == nil, v == nil)
		}
	})
}
