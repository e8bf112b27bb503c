package strictjson

import (
	"bytes"
	"encoding/json"
	"io"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
)

// TestStrict has what is refused with the whole text of the error, which must not come from
// encoding/json: hack/test runs it with both Go releases that are supported.
func TestStrict(t *testing.T) {
	const half = `in a string: half a surrogate pair`
	tests := []struct {
		text       string
		parse, one string // errors of Parse and Unmarshal
	}{
		{`{"a":1,"b":{"a":[2,{"a":null}]}}`, "", ""},
		{" [\t]\r\n", "", ""},
		{`"é\u00e9\ud83d\ude00` + "\U0001F600\uFFFD" + `"`, "", ""},
		{`[0,-0,10,1.5,1e9,1E+9,2.5e-3,true,false,null]`, "", ""},

		// Duplicate names.
		{`{"a":1,"a":1}`, `JSON at 0x7: key "a" appears twice`, `JSON at 0x7: key "a" appears twice`},
		{`{"a":1,"\u0061":1}`, `JSON at 0x7: key "a" appears twice`, `JSON at 0x7: key "a" appears twice`},
		{`[{"x":{"a":1,"b":2,"a":1}}]`, `[0].x at 0x13: key "a" appears twice`, `[0].x at 0x13: key "a" appears twice`},
		{`{"é":1,"e":2,"\u00e9":1}`, `JSON at 0xe: key "é" appears twice`, `JSON at 0xe: key "é" appears twice`},

		// Letter case.
		{`{"a":1,"A":1}`, "", `JSON at 0x7: keys "a" and "A" differ in letter case only`},
		// the sign of Kelvin
		{`{"k":1,"` + "\u212a" + `":1}`, "", `JSON at 0x7: keys "k" and "` + "\u212a" + `" differ in letter case only`},
		{`{"s":1,"ſ":1}`, "", `JSON at 0x7: keys "s" and "ſ" differ in letter case only`},

		// UTF-8 and Unicode.
		{"[\"caf\xe9\"]", `[0] at 0x5: byte 0xe9 in a string: want UTF-8`, `[0] at 0x5: byte 0xe9 in a string: want UTF-8`},
		{"{\"\xff\":1}", `JSON at 0x2: byte 0xff in a string: want UTF-8`, `JSON at 0x2: byte 0xff in a string: want UTF-8`},
		{"\"\xed\xa0\x80\"", `JSON at 0x1: byte 0xed in a string: want UTF-8`, `JSON at 0x1: byte 0xed in a string: want UTF-8`},
		{`"\ud800"`, `JSON at 0x1: \ud800 ` + half, `JSON at 0x1: \ud800 ` + half},
		{`"\udc00\ud800"`, `JSON at 0x1: \udc00 ` + half, `JSON at 0x1: \udc00 ` + half},
		{`"\ud800\u0041"`, `JSON at 0x1: \ud800 ` + half, `JSON at 0x1: \ud800 ` + half},
		{"\ufeff{}", `JSON at 0x0: '\ufeff', want a JSON value`, `JSON at 0x0: '\ufeff', want a JSON value`},
		{"\"a\nb\"", `JSON at 0x2: byte 0x0a in a string: want it escaped`, `JSON at 0x2: byte 0x0a in a string: want it escaped`},
		{`"\x41"`, `JSON at 0x1: "\\x41\"" in a string: want a known escape`, `JSON at 0x1: "\\x41\"" in a string: want a known escape`},
		{`"\u12g4"`, `JSON at 0x1: "\\u12g4" in a string: want a known escape`, `JSON at 0x1: "\\u12g4" in a string: want a known escape`},

		// Numbers.
		{`[01]`, `JSON at 0x2: '1', want a comma or ]`, `JSON at 0x2: '1', want a comma or ]`},
		{`[+1]`, `[0] at 0x1: '+', want a JSON value`, `[0] at 0x1: '+', want a JSON value`},
		{`[1.]`, `[0] at 0x3: ']', want a digit`, `[0] at 0x3: ']', want a digit`},
		{`[.5]`, `[0] at 0x1: '.', want a JSON value`, `[0] at 0x1: '.', want a JSON value`},
		{`[-]`, `[0] at 0x2: ']', want a digit`, `[0] at 0x2: ']', want a digit`},
		{`[1e]`, `[0] at 0x3: ']', want a digit`, `[0] at 0x3: ']', want a digit`},
		{`[NaN]`, `[0] at 0x1: 'N', want a JSON value`, `[0] at 0x1: 'N', want a JSON value`},
		{`[0x10]`, `JSON at 0x2: 'x', want a comma or ]`, `JSON at 0x2: 'x', want a comma or ]`},

		// Grammar.
		{`{} {}`, "JSON at 0x3: data after the JSON value", "JSON at 0x3: data after the JSON value"},
		{`{}x`, "JSON at 0x2: data after the JSON value", "JSON at 0x2: data after the JSON value"},
		{`{1:2}`, "JSON at 0x1: '1', want a key in quotes", "JSON at 0x1: '1', want a key in quotes"},
		{`{"a":1,}`, "JSON at 0x7: '}', want a key in quotes", "JSON at 0x7: '}', want a key in quotes"},
		{`{"a" 1}`, "JSON at 0x5: '1', want a colon", "JSON at 0x5: '1', want a colon"},
		{`{"a":1 "b":2}`, "JSON at 0x7: '\"', want a comma or }", "JSON at 0x7: '\"', want a comma or }"},
		{`[1,]`, "[1] at 0x3: ']', want a JSON value", "[1] at 0x3: ']', want a JSON value"},
		{`[nul]`, "[0] at 0x1: 'n', want a JSON value", "[0] at 0x1: 'n', want a JSON value"},
		{`[/**/]`, "[0] at 0x1: '/', want a JSON value", "[0] at 0x1: '/', want a JSON value"},
		{strings.Repeat("[", 70), strings.Repeat("[0]", 65) + " at 0x41: nested more than 64 deep", strings.Repeat("[0]", 65) + " at 0x41: nested more than 64 deep"},
	}
	for _, tt := range tests {
		check := func(want string, err error) {
			if want == "" {
				require.NoError(t, err, tt.text)
				return
			}
			require.EqualError(t, err, want, tt.text)
			require.ErrorAs(t, err, new(*osmith.FormatError))
		}
		v, err := Parse([]byte(tt.text))
		check(tt.parse, err)
		require.True(t, err == nil || v == nil)
		check(tt.one, Unmarshal([]byte(tt.text), new(any)))
	}
}

// TestCut cuts a document at each byte: its end is missing, and nothing else is said of it.
func TestCut(t *testing.T) {
	const doc = `{"a":["b\n\u00e9\ud83d\ude00",1.5e+9,true,null,{}],"c":-0}`
	for n := range len(doc) {
		_, err := Parse([]byte(doc[:n]))
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, doc[:n])
		require.ErrorContains(t, err, "the document ends here: unexpected EOF", doc[:n])
	}
}

type inner struct {
	ID    osmith.GUID `json:"id"`
	Bytes []byte      `json:"bytes"`
}

type sample struct {
	inner
	Name   string            `json:"name"`
	Small  uint8             `json:"small,omitempty"`
	Signed *int64            `json:"signed"`
	Ratio  float64           `json:"ratio"`
	Flag   bool              `json:"flag"`
	List   []inner           `json:"list"`
	Pair   [2]int            `json:"pair"`
	Map    map[string]string `json:"map"`
	Any    any               `json:"any"`
	Number json.Number       `json:"number"`
	Raw    json.RawMessage   `json:"raw"`
	Hidden string            `json:"-"`
	Plain  string
}

func TestUnmarshal(t *testing.T) {
	for _, tt := range []struct {
		text, err string
		known     string // error with KnownFields, if it differs
	}{
		{`{"name":"a","small":255,"signed":-1,"ratio":0.5,"flag":true,"list":[{"bytes":"AAE="}],"pair":[1,2],"map":{"X":"y","z":""}}`, "", ""},
		{`{"any":{"a":[1,true]},"number":12345678901234567890,"raw":{"x":1},"Plain":"p","id":"c12a7328-f81f-11d2-ba4b-00a0c93ec93b"}`, "", ""},
		{`{"name":null,"small":null,"signed":null,"list":null,"map":null,"any":null}`, "", ""},
		{`{"other":1}`, "", `other at 0x9: unknown key "other"`},
		{`{"Hidden":""}`, "", `Hidden at 0xa: unknown key "Hidden"`},

		{`{"Name":"a"}`, `Name at 0x8: key "Name" differs in letter case, want "name"`, ""},
		{`{"plain":"a"}`, `plain at 0x9: key "plain" differs in letter case, want "Plain"`, ""},
		{`{"list":[{},{"ID":1}]}`, `list[1].ID at 0x12: key "ID" differs in letter case, want "id"`, ""},
		{`{"ſmall":1}`, `ſmall at 0xa: key "ſmall" differs in letter case, want "small"`, ""},

		{`[]`, `JSON at 0x0: an array, want an object`, ""},
		{`{"name":1}`, `name at 0x8: a number, want a string`, ""},
		{`{"small":"1"}`, `small at 0x9: a string, want a number`, ""},
		{`{"flag":1}`, `flag at 0x8: a number, want true or false`, ""},
		{`{"list":{}}`, `list at 0x8: an object, want an array`, ""},
		{`{"list":[[]]}`, `list[0] at 0x9: an array, want an object`, ""},
		{`{"map":[]}`, `map at 0x7: an array, want an object`, ""},
		{`{"map":{"a":1}}`, `map.a at 0xc: a number, want a string`, ""},
		{`{"id":7}`, `id at 0x6: a number, want a string`, ""},
		{`{"bytes":[1]}`, `bytes at 0x9: an array, want a string`, ""},
		{`{"number":"1"}`, `number at 0xa: a string, want a number`, ""},
		{`{"pair":[1]}`, `pair at 0x8: 1 elements, want 2`, ""},
		{`{"pair":[1,2,3]}`, `pair at 0x8: 3 elements, want 2`, ""},

		{`{"small":256}`, `small at 0x9: 256 does not fit into 8 bits as a positive whole number`, ""},
		{`{"small":-1}`, `small at 0x9: -1 does not fit into 8 bits as a positive whole number`, ""},
		{`{"small":1.0}`, `small at 0x9: 1.0 does not fit into 8 bits as a positive whole number`, ""},
		{`{"small":1e2}`, `small at 0x9: 1e2 does not fit into 8 bits as a positive whole number`, ""},
		{`{"signed":9223372036854775808}`, `signed at 0xa: 9223372036854775808 does not fit into 64 bits as a whole number`, ""},
		{`{"ratio":1e999}`, `ratio at 0x9: 1e999 does not fit into 64 bits as a number`, ""},
	} {
		t.Run(tt.text, func(t *testing.T) {
			var v sample
			err := Unmarshal([]byte(tt.text), &v)
			if tt.err == "" {
				require.NoError(t, err)
				if tt.known == "" {
					var plain sample
					require.NoError(t, json.Unmarshal([]byte(tt.text), &plain))
					v.Any, plain.Any = nil, nil // numbers are json.Number here
					require.Equal(t, plain, v)
				}
			} else {
				require.EqualError(t, err, tt.err)
				require.Equal(t, sample{}, v, "nothing is decoded")
			}
			want := tt.err
			if tt.known != "" {
				want = tt.known
			}
			if err = Unmarshal([]byte(tt.text), &v, KnownFields); want == "" {
				require.NoError(t, err)
			} else {
				require.EqualError(t, err, want)
			}
		})
	}
	var v any
	require.NoError(t, Unmarshal([]byte(`[12345678901234567890]`), &v))
	require.Equal(t, []any{json.Number("12345678901234567890")}, v)
	require.ErrorContains(t, Unmarshal([]byte(`{"bytes":"?"}`), new(inner)), "illegal base64")
	require.ErrorContains(t, Unmarshal([]byte(`{"id":"?"}`), new(inner)), "GUID")
	require.ErrorContains(t, Unmarshal([]byte(`{}`), inner{}), "not a pointer")
}

func TestOptions(t *testing.T) {
	for _, tt := range []struct {
		text   string
		option Option
		err    string
	}{
		{`{"a":"","c":{"d":0,"e":null},"f":null}`, Complete, ""},
		{`{"a":"","b":"","c":{"d":0}}`, Complete, ""},
		{`{"b":"","c":{"d":0}}`, Complete, "a at 0x0: missing"},
		{`{"a":"","c":{}}`, Complete, "c.d at 0xc: missing"},
		{`{"a":"","b":null,"c":{"d":0}}`, Complete, "b at 0xc: null, want a value"},
		{`{"a":null}`, Complete, "a at 0x5: null, want a value"},
		{`{"id":null}`, Complete, "id at 0x6: null, want a value"},
		{`{"list":[null]}`, Complete, "list[0] at 0x9: null, want a value"},
		{`{"map":{"a":null}}`, Complete, "map.a at 0xc: null, want a value"},
		{`null`, Complete, "JSON at 0x0: null, want a value"},
		{`{"x":1,"X":1,"raw":{"a":1,"A":1},"any":{"a":1,"A":1}}`, ForeignKeys, ""},
		{`{"x":1,"x":1}`, ForeignKeys, `JSON at 0x7: key "x" appears twice`},
		{`{"raw":{"a":1,"a":1}}`, ForeignKeys, `raw at 0xe: key "a" appears twice`},
		{`{"name":"","Name":""}`, ForeignKeys, `Name at 0x12: key "Name" differs in letter case, want "name"`},
	} {
		var into any = new(sample)
		if tt.option == Complete {
			into = new(struct {
				A string  `json:"a"`
				B *string `json:"b,omitempty"`
				C struct {
					D int `json:"d"`
					E any `json:"e"`
				} `json:"c"`
				F    json.RawMessage   `json:"f"`
				ID   osmith.GUID       `json:"id,omitzero"`
				List []inner           `json:"list,omitempty"`
				Map  map[string]string `json:"map,omitempty"`
			})
		}
		err := Unmarshal([]byte(tt.text), into, tt.option)
		if tt.err == "" {
			require.NoError(t, err, tt.text)
		} else {
			require.EqualError(t, err, tt.err, tt.text)
		}
	}
	// Only one text stands for some bytes.
	require.EqualError(t, Unmarshal([]byte(`{"bytes":"AAF="}`), new(inner)), "bytes at 0x9: not base64: illegal base64 data at input byte 3")
}

func TestObject(t *testing.T) {
	members, err := Object([]byte(` {"b": [1, 2],"a":"x" } `))
	require.NoError(t, err)
	require.Equal(t, []Member{{"b", 7, json.RawMessage("[1, 2]")}, {"a", 18, json.RawMessage(`"x"`)}}, members)
	_, err = Object([]byte(` []`))
	require.EqualError(t, err, "JSON at 0x1: an array, want an object")
	_, err = Object([]byte(`{"a":1,"a":2}`))
	require.ErrorContains(t, err, "twice")

	elements, err := Array([]byte(`[1, {"a":2}]`))
	require.NoError(t, err)
	require.Equal(t, []Member{{"", 1, json.RawMessage("1")}, {"", 4, json.RawMessage(`{"a":2}`)}}, elements)
	_, err = Array([]byte(`{}`))
	require.EqualError(t, err, "JSON at 0x0: an object, want an array")
}

// FuzzParse checks the scanner against encoding/json: it takes what that takes, less what can be
// read in two ways.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"a":[1,"b",{"c":null}]}`))
	f.Add([]byte(`{"a":1,"A":1}`))
	f.Add([]byte(`[-0.5e+7,true,false,"\ud83d\ude00\n"]`))
	f.Add([]byte(`"\ud800"`))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := Parse(b)
		if err != nil {
			require.Nil(t, v)
			reasons := []string{"twice", "nested more than", "surrogate", "UTF-8"}
			for _, reason := range reasons {
				if strings.Contains(err.Error(), reason) {
					return
				}
			}
			require.False(t, json.Valid(b), err)
			return
		}
		require.True(t, json.Valid(b))
		require.True(t, utf8.Valid(bytes.TrimSpace(b)))
		var plain any
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		require.NoError(t, d.Decode(&plain))
		require.Equal(t, plain, v)
		var u any
		if Unmarshal(b, &u) == nil {
			require.True(t, reflect.DeepEqual(u, v))
		}
	})
}

// A long document costs memory, and so time, in proportion to its length, whatever it is made of: a
// signature that an attacker made is read before it is believed.
func TestCostIsLinear(t *testing.T) {
	const size = 1 << 16
	for _, c := range []struct{ begin, part, end string }{
		{"[", "null,", "null]"},
		{"[", "false,", "false]"},
		{"[", "1,", "1]"},
		{"[", `"\u00e9",`, `""]`},
		{`"`, `\u00e9`, `"`},
		{"[", "{},", "{}]"},
		{"[", " ", "]"},
	} {
		doc := []byte(c.begin + strings.Repeat(c.part, size/len(c.part)) + c.end)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Parse(doc)
		runtime.ReadMemStats(&after)
		require.NoError(t, err)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(512*len(doc)), "%.20s", doc)
	}
}

// A key is kept while its object is read, so it is no way to fill memory.
func TestLongKey(t *testing.T) {
	var v map[string]int
	require.NoError(t, Unmarshal([]byte(`{"`+strings.Repeat("a", 60<<10)+`":1}`), &v))
	require.ErrorContains(t, Unmarshal([]byte(`{"`+strings.Repeat("a", 64<<10)+`":1}`), &v), "a key of 65538 bytes")
}
