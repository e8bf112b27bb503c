package uki_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/uki"
)

const hwidA = "11111111-2222-3333-4444-555555555555"

func TestReadHWIDs(t *testing.T) {
	tree := fstest.MapFS{
		"b/z.json":   {Data: []byte(`{"type":"devicetree","name":"Zeta","compatible":"v,z","hwids":["ffffffff-0000-0000-0000-000000000001","` + hwidA + `"]}`)},
		"b/y.txt":    {Data: []byte(`no JSON`)},
		"c.json":     {Data: []byte(`{"type":"devicetree","name":"Zeta","compatible":"v,z","hwids":["urn:uuid:{` + hwidA + `}","00000000000000000000000000000001"],"more":1}`)},
		"a/fw.json":  {Data: []byte(`{"type":"uefi-fw","name":"Alpha","fwid":"fw","hwids":["` + hwidA + `"]}`)},
		"a/Fw2.json": {Data: []byte(`{"type":"uefi-fw","name":"","fwid":"","hwids":[]}`)},
	}
	ids, err := uki.ReadHWIDs(tree)
	require.NoError(t, err)
	id := func(s string) osmith.GUID {
		var g osmith.GUID
		require.NoError(t, g.UnmarshalText([]byte(s)))
		return g
	}
	require.Equal(t, []uki.HWID{
		{id(hwidA), uki.HWIDFirmware, "Alpha", "fw"},
		{id("00000000-0000-0000-0000-000000000001"), uki.HWIDDeviceTree, "Zeta", "v,z"},
		{id(hwidA), uki.HWIDDeviceTree, "Zeta", "v,z"},
		{id("ffffffff-0000-0000-0000-000000000001"), uki.HWIDDeviceTree, "Zeta", "v,z"},
	}, ids)
}

func TestReadHWIDsRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`{`: "unexpected end",
		`{"name":"x","compatible":"c","hwids":[]}`:                                                     `field "type": not given`,
		`{"type":"acpi","name":"x","compatible":"c","hwids":[]}`:                                       `"acpi" is neither`,
		`{"type":"devicetree","Name":"x","compatible":"c","hwids":[]}`:                                 `field "name": not given`,
		`{"type":"devicetree","name":null,"compatible":"c","hwids":[]}`:                                `field "name": null is not a string`,
		`{"type":"devicetree","name":"x","fwid":"c","hwids":[]}`:                                       `"fwid" does not go with type "devicetree"`,
		`{"type":"uefi-fw","name":"x","compatible":"c","hwids":[]}`:                                    `"compatible" does not go`,
		`{"type":"devicetree","name":"x","compatible":"c"}`:                                            `field "hwids": not given`,
		`{"type":"devicetree","name":"x","compatible":"c","hwids":["1111"]}`:                           `"1111" is not a GUID: 2 bytes, want 16`,
		`{"type":"devicetree","name":"x","compatible":"c","hwids":["` + hwidA[:35] + `g"]}`:            `is not a GUID`,
		`{"type":"devicetree","name":"x","compatible":"c","hwids":["` + hwidA + `"],"hwids":"x"}`:      `field "hwids"`,
		`{"type":"devicetree","name":"x","compatible":"c","hwids":["` + hwidA + `"]} {"type":"other"}`: `invalid character`,
	} {
		ids, err := uki.ReadHWIDs(fstest.MapFS{"d/x.json": {Data: []byte(text)}})
		require.Nil(t, ids, text)
		require.ErrorContains(t, err, want, text)
		require.ErrorContains(t, err, "uki: HWIDs: d/x.json: ")
	}
	_, err := uki.ReadHWIDs(fstest.MapFS{"x.JSON": {}})
	require.ErrorIs(t, err, uki.ErrMissing)
}

func TestHWIDsRefuse(t *testing.T) {
	for _, bad := range []uki.HWID{{Type: 0}, {Type: 3}, {Type: 1, Name: "a\x00b"}, {Type: 1, Match: "\xff"}} {
		b, err := uki.EncodeHWIDs([]uki.HWID{bad})
		require.Nil(t, b)
		require.ErrorContains(t, err, "uki: HWIDs: record 0")
	}
	good, err := uki.EncodeHWIDs([]uki.HWID{{Type: uki.HWIDDeviceTree, Name: "name", Match: "match"}})
	require.NoError(t, err)
	for name, c := range map[string]struct {
		change func(b []byte) []byte
		offset int64
		text   string
	}{
		"type":     {func(b []byte) []byte { b[3] = 0x30; return b }, 0, "0x3000001c is neither"},
		"size":     {func(b []byte) []byte { b[0] = 0x1d; return b }, 0, "0x1000001d is neither"},
		"name":     {func(b []byte) []byte { b[21] = 1; return b }, 20, "lies behind the section's 67 bytes"},
		"match":    {func(b []byte) []byte { b[24] = 0; return b }, 24, "not given"},
		"unending": {func(b []byte) []byte { return b[:len(b)-1] }, 20, "without a NUL byte"},
	} {
		ids, err := uki.ParseHWIDs(c.change(append([]byte(nil), good...)))
		require.Nil(t, ids, name)
		var f *uki.FormatError
		require.True(t, errors.As(err, &f), name)
		require.Equal(t, c.offset, f.Offset, name)
		require.ErrorContains(t, err, c.text, name)
	}
}

func FuzzHWIDs(f *testing.F) {
	seed, err := uki.EncodeHWIDs([]uki.HWID{{Type: 1, Name: "n", Match: "m"}, {CHID: osmith.GUID{1, 2, 3}, Type: 2, Match: "n"}})
	require.NoError(f, err)
	f.Add(seed)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		ids, err := uki.ParseHWIDs(b)
		require.Equal(t, err != nil, ids == nil)
		if err != nil {
			return
		}
		again, err := uki.EncodeHWIDs(ids)
		require.NoError(t, err)
		back, err := uki.ParseHWIDs(again)
		require.NoError(t, err)
		require.Equal(t, ids, back)
		canonical, err := uki.EncodeHWIDs(back)
		require.NoError(t, err)
		require.Equal(t, again, canonical)
	})
}

// writeHWIDs fills a directory with random descriptions: devices in several files, ids in several devices.
func writeHWIDs(t *testing.T, r *rand.Rand, dir string) {
	names := []string{"Alpha", "Beta", "", "Ünïcode", "联想", "zeta", "Z"}
	var pool [6]osmith.GUID
	for i := range pool {
		for j := range pool[i] {
			pool[i][j] = byte(r.Uint32())
		}
	}
	for i := range 1 + r.IntN(8) {
		d := map[string]any{"name": names[r.IntN(len(names))]}
		if r.IntN(2) == 0 {
			d["type"], d["compatible"] = "devicetree", fmt.Sprint("v,", r.IntN(3))
		} else {
			d["type"], d["fwid"] = "uefi-fw", names[r.IntN(len(names))]
		}
		ids := make([]osmith.GUID, 1+r.IntN(5))
		for j := range ids {
			ids[j] = pool[r.IntN(len(pool))]
		}
		d["hwids"] = ids
		b, err := json.Marshal(d)
		require.NoError(t, err)
		sub := filepath.Join(dir, []string{"", "a", "a-b", "a.json.d", "B/c"}[r.IntN(5)])
		require.NoError(t, os.MkdirAll(sub, 0o755))
		name := []string{"a", "B", ".hidden", "a-b", "ü"}[r.IntN(5)]
		require.NoError(t, os.WriteFile(filepath.Join(sub, fmt.Sprint(name, i, ".json")), b, 0o644))
	}
}

// ukify writes the same .hwids for the descriptions that systemd ships, and for random ones.
func TestHWIDsAgainstUkify(t *testing.T) {
	root := testtools.Forky(t)
	n, seed := gridSize(t)
	r := rand.New(rand.NewPCG(seed, 262))
	const shipped = "usr/lib/systemd/boot/hwids/aa64"
	work := t.TempDir()
	compare := func(dir, inTree string) {
		ids, err := uki.ReadHWIDs(os.DirFS(dir))
		require.NoError(t, err)
		ours, err := uki.EncodeHWIDs(ids)
		require.NoError(t, err)
		require.Equal(t, ukifySection(t, root, work, ".hwids", "--hwids="+inTree), ours, dir)
		back, err := uki.ParseHWIDs(ours)
		require.NoError(t, err)
		require.Equal(t, ids, back)
	}
	compare(root.Path(shipped), "/"+shipped)
	for i := range n / 2 {
		dir := filepath.Join(work, fmt.Sprint(i))
		writeHWIDs(t, r, dir)
		compare(dir, dir)
	}
}

// ukifySection is a section of the add-on that ukify builds with those options.
// dir is the one that ukify sees.
func ukifySection(t *testing.T, root testtools.Root, dir, name string, options ...string) []byte {
	out := filepath.Join(dir, "out.efi")
	root.Run(t, dir, "ukify", append([]string{"build", "--stub=/usr/lib/systemd/boot/efi/addonx64.efi.stub", "--cmdline=x", "--output=" + out}, options...)...)
	b, err := os.ReadFile(out)
	require.NoError(t, err)
	f, err := pe.Parse(bytes.NewReader(b), int64(len(b)))
	require.NoError(t, err)
	s, ok := f.Section(name)
	require.True(t, ok, name)
	return b[s.Offset:][:s.VirtualSize]
}

func FuzzHWIDFile(f *testing.F) {
	f.Add(`{"type":"devicetree","name":"Zeta","compatible":"v,z","hwids":["` + hwidA + `"]}`)
	f.Add(`{"type":"uefi-fw","name":"","fwid":"x","hwids":["urn:uuid:{` + hwidA + `}"]}`)
	f.Fuzz(func(t *testing.T, text string) {
		ids, err := uki.ReadHWIDs(fstest.MapFS{"x.json": {Data: []byte(text)}})
		require.Equal(t, err != nil, ids == nil)
		for i, id := range ids {
			require.True(t, i == 0 || bytes.Compare(ids[i-1].CHID[:], id.CHID[:]) < 0)
		}
	})
}
