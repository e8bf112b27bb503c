package hwid_test

import (
	"bytes"
	"errors"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/uki/hwid"
)

const hwidA = "11111111-2222-3333-4444-555555555555"

func TestRead(t *testing.T) {
	tree := fstest.MapFS{
		"b/z.json":   {Data: []byte(`{"type":"devicetree","name":"Zeta","compatible":"v,z","hwids":["ffffffff-0000-0000-0000-000000000001","` + hwidA + `"]}`)},
		"b/y.txt":    {Data: []byte(`no JSON`)},
		"c.json":     {Data: []byte(`{"type":"devicetree","name":"Zeta","compatible":"v,z","hwids":["urn:uuid:{` + hwidA + `}","00000000000000000000000000000001"],"more":1}`)},
		"a/fw.json":  {Data: []byte(`{"type":"uefi-fw","name":"Alpha","fwid":"fw","hwids":["` + hwidA + `"]}`)},
		"a/Fw2.json": {Data: []byte(`{"type":"uefi-fw","name":"","fwid":"","hwids":[]}`)},
	}
	ids, err := hwid.Read(tree)
	require.NoError(t, err)
	id := func(s string) osmith.GUID {
		var g osmith.GUID
		require.NoError(t, g.UnmarshalText([]byte(s)))
		return g
	}
	require.Equal(t, []hwid.Record{
		{CHID: id(hwidA), Type: hwid.TypeFirmware, Name: "Alpha", Match: "fw"},
		{CHID: id("00000000-0000-0000-0000-000000000001"), Type: hwid.TypeDeviceTree, Name: "Zeta", Match: "v,z"},
		{CHID: id(hwidA), Type: hwid.TypeDeviceTree, Name: "Zeta", Match: "v,z"},
		{CHID: id("ffffffff-0000-0000-0000-000000000001"), Type: hwid.TypeDeviceTree, Name: "Zeta", Match: "v,z"},
	}, ids)
}

func TestReadRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`{`: "unexpected end",
		`{"name":"x","compatible":"c","hwids":[]}`:                                                     `field "type": not given`,
		`{"type":"acpi","name":"x","compatible":"c","hwids":[]}`:                                       `"acpi" is neither`,
		`{"type":"devicetree","Name":"x","compatible":"c","hwids":[]}`:                                 `field "name": not given`,
		`{"type":"devicetree","name":null,"compatible":"c","hwids":[]}`:                                `field "name": null is not a string`,
		`{"type":"devicetree","name":"x","fwid":"c","hwids":[]}`:                                       `"fwid" is not allowed with type "devicetree"`,
		`{"type":"uefi-fw","name":"x","compatible":"c","hwids":[]}`:                                    `"compatible" is not allowed with type `,
		`{"type":"devicetree","name":"x","compatible":"c"}`:                                            `field "hwids": not given`,
		`{"type":"devicetree","name":"x","compatible":"c","hwids":["1111"]}`:                           `"1111" is not a GUID: 2 bytes, want 16`,
		`{"type":"devicetree","name":"x","compatible":"c","hwids":["` + hwidA[:35] + `g"]}`:            `is not a GUID`,
		`{"type":"devicetree","name":"x","compatible":"c","hwids":["` + hwidA + `"],"hwids":"x"}`:      `field "hwids"`,
		`{"type":"devicetree","name":"x","compatible":"c","hwids":["` + hwidA + `"]} {"type":"other"}`: `invalid character`,
	} {
		ids, err := hwid.Read(fstest.MapFS{"d/x.json": {Data: []byte(text)}})
		require.Nil(t, ids, text)
		require.ErrorContains(t, err, want, text)
		require.ErrorContains(t, err, "hwid: d/x.json: ")
	}
	_, err := hwid.Read(fstest.MapFS{"x.JSON": {}})
	require.ErrorIs(t, err, hwid.ErrMissing)
}

func TestTableRefuses(t *testing.T) {
	for _, bad := range []hwid.Record{{Type: 0}, {Type: 3}, {Type: 1, Name: "a\x00b"}, {Type: 1, Match: "\xff"}} {
		b, err := hwid.Encode([]hwid.Record{bad})
		require.Nil(t, b)
		require.ErrorContains(t, err, "hwid: record 0")
	}
	good, err := hwid.Encode([]hwid.Record{{Type: hwid.TypeDeviceTree, Name: "name", Match: "match"}})
	require.NoError(t, err)
	for name, c := range map[string]struct {
		change func(b []byte) []byte
		offset int64
		text   string
	}{
		"type":     {func(b []byte) []byte { b[3] = 0x30; return b }, 0, "0x3000001c is neither"},
		"size":     {func(b []byte) []byte { b[0] = 0x1d; return b }, 0, "0x1000001d is neither"},
		"name":     {func(b []byte) []byte { b[21] = 1; return b }, 20, "lies beyond the section's 67 bytes"},
		"match":    {func(b []byte) []byte { b[24] = 0; return b }, 24, "not given"},
		"unending": {func(b []byte) []byte { return b[:len(b)-1] }, 20, "without a NUL byte"},
	} {
		ids, err := hwid.Parse(c.change(append([]byte(nil), good...)))
		require.Nil(t, ids, name)
		var f *osmith.FormatError
		require.True(t, errors.As(err, &f), name)
		require.Equal(t, c.offset, f.Offset, name)
		require.ErrorContains(t, err, c.text, name)
	}
}

func FuzzTable(f *testing.F) {
	seed, err := hwid.Encode([]hwid.Record{{Type: 1, Name: "n", Match: "m"}, {CHID: osmith.GUID{1, 2, 3}, Type: 2, Match: "n"}})
	require.NoError(f, err)
	f.Add(seed)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		ids, err := hwid.Parse(b)
		require.Equal(t, err != nil, ids == nil)
		if err != nil {
			return
		}
		again, err := hwid.Encode(ids)
		require.NoError(t, err)
		back, err := hwid.Parse(again)
		require.NoError(t, err)
		require.Equal(t, ids, back)
		canonical, err := hwid.Encode(back)
		require.NoError(t, err)
		require.Equal(t, again, canonical)
	})
}

func FuzzRead(f *testing.F) {
	f.Add(`{"type":"devicetree","name":"Zeta","compatible":"v,z","hwids":["` + hwidA + `"]}`)
	f.Add(`{"type":"uefi-fw","name":"","fwid":"x","hwids":["urn:uuid:{` + hwidA + `}"]}`)
	f.Fuzz(func(t *testing.T, text string) {
		ids, err := hwid.Read(fstest.MapFS{"x.json": {Data: []byte(text)}})
		require.Equal(t, err != nil, ids == nil)
		for i, id := range ids {
			require.True(t, i == 0 || bytes.Compare(ids[i-1].CHID[:], id.CHID[:]) < 0)
		}
	})
}
