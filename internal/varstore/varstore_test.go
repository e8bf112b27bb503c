package varstore_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/internal/varstore"
)

var (
	vendor = osmith.MustParseGUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
	other  = osmith.MustParseGUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
)

// volume is a firmware volume with a store of size bytes in front of more of the volume.
func volume(guid string, size int, variables ...[]byte) []byte {
	le := binary.LittleEndian
	b := make([]byte, 16)
	b = efi.AppendGUID(b, osmith.MustParseGUID("fff12b8d-7696-4c8b-a985-2747075b4f50"))
	b = le.AppendUint64(b, uint64(72+size+64))
	b = append(b, "_FVH"...)
	b = le.AppendUint32(b, 0x4feff)
	b = le.AppendUint16(b, 72)
	b = append(b, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 1, 0, 0)
	b = append(b, make([]byte, 8)...)
	var sum uint16
	for i := 0; i < 72; i += 2 {
		sum += le.Uint16(b[i:])
	}
	le.PutUint16(b[50:], -sum)
	b = efi.AppendGUID(b, osmith.MustParseGUID(guid))
	b = le.AppendUint32(b, uint32(size))
	b = append(b, 0x5a, 0xfe, 0, 0, 0, 0, 0, 0)
	for _, v := range variables {
		for len(b)%4 != 0 {
			b = append(b, 0xff)
		}
		b = append(b, v...)
	}
	return append(b, bytes.Repeat([]byte{0xff}, 72+size+64-len(b))...)
}

const (
	authenticated = "aaf32c78-947b-439a-a180-2e144ec37792"
	plain         = "ddcf3616-3275-4164-98b6-fe85707ffe7d"
)

func variable(auth bool, state byte, name string, data []byte) []byte {
	le := binary.LittleEndian
	b := []byte{0xaa, 0x55, state, 0, 0x27, 0, 0, 0}
	if auth {
		b = append(b, make([]byte, 8)...)
		b = append(b, 0xea, 7, 3, 4, 5, 6, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0)
		b = append(b, 1, 0, 0, 0)
	}
	b = le.AppendUint32(b, uint32(2*len(name)+2))
	b = le.AppendUint32(b, uint32(len(data)))
	b = efi.AppendGUID(b, vendor)
	b = append(efi.AppendUTF16(b, name), 0, 0)
	return append(b, data...)
}

func TestWhichCopyCounts(t *testing.T) {
	v := func(state byte, data string) []byte { return variable(true, state, "db", []byte(data)) }
	x := variable(true, 0x3f, "x", []byte("x"))
	cut := []byte{0xaa, 0x55, 0xff}
	cut = append(cut, bytes.Repeat([]byte{0xff}, 57)...)
	for name, c := range map[string]struct {
		variables [][]byte
		want      string
	}{
		"one":                               {[][]byte{v(0x3f, "a")}, "a"},
		"deleted":                           {[][]byte{v(0x3d, "a"), v(0x3c, "b")}, ""},
		"replaced":                          {[][]byte{v(0x3c, "a"), v(0x3f, "b")}, "b"},
		"replacing, new one incomplete":     {[][]byte{v(0x3e, "a"), v(0x7f, "b"), x}, "a"},
		"replacing, both there":             {[][]byte{v(0x3e, "a"), v(0x3f, "b")}, "b"},
		"replacing, both there, other way":  {[][]byte{v(0x3f, "b"), v(0x3e, "a")}, "b"},
		"two in transition":                 {[][]byte{v(0x3e, "a"), v(0x3e, "b")}, "b"},
		"behind a header that was not done": {[][]byte{cut, v(0x3f, "a")}, "a"},
	} {
		t.Run(name, func(t *testing.T) {
			b := volume(authenticated, 1024, c.variables...)
			s, err := varstore.Parse(b)
			require.NoError(t, err)
			got, ok := s.Get("db", vendor)
			require.Equal(t, c.want != "", ok)
			require.Equal(t, c.want, string(got.Data))
			_, ok = s.Get("db", other)
			require.False(t, ok)
			require.LessOrEqual(t, s.Live(), s.Used())
			require.Less(t, s.Used(), s.Size())

			again, err := s.Replace(s.Variables)
			require.NoError(t, err)
			require.Len(t, again, len(b))
			r, err := varstore.Parse(again)
			require.NoError(t, err)
			require.Equal(t, s.Variables, r.Variables)
			require.Equal(t, r.Live(), r.Used())
		})
	}
	s, err := varstore.Parse(volume(plain, 256, variable(false, 0x3f, "db", []byte("a"))))
	require.NoError(t, err)
	require.False(t, s.Authenticated)
	require.Len(t, s.Variables, 1)
	again, err := s.Replace(s.Variables)
	require.NoError(t, err)
	require.Equal(t, volume(plain, 256, variable(false, 0x3f, "db", []byte("a"))), again)
}

func TestReplaceRefuses(t *testing.T) {
	s, err := varstore.Parse(volume(plain, 256))
	require.NoError(t, err)
	for want, v := range map[string]varstore.Variable{
		"no name":    {Data: []byte{1}},
		"are free":   {Name: "x", Data: make([]byte, 200)},
		"time stamp": {Name: "x", Time: [16]byte{1}},
	} {
		b, err := s.Replace([]varstore.Variable{v})
		require.ErrorContains(t, err, want)
		require.Equal(t, want == "are free", errors.Is(err, varstore.ErrNoRoom))
		require.Nil(t, b)
	}
}

func TestParseRefuses(t *testing.T) {
	good := volume(authenticated, 512, variable(true, 0x3f, "db", []byte("abc")))
	patch := func(off int, v ...byte) []byte {
		b := bytes.Clone(good)
		copy(b[off:], v)
		return b
	}
	fixed := func(b []byte) []byte { // with the checksum of the volume's header put right
		var sum uint16
		binary.LittleEndian.PutUint16(b[50:], 0)
		for i := 0; i < 72; i += 2 {
			sum += binary.LittleEndian.Uint16(b[i:])
		}
		binary.LittleEndian.PutUint16(b[50:], -sum)
		return b
	}
	const v = 100 // the variable
	for name, c := range map[string]struct {
		data   []byte
		offset int64
	}{
		"nothing":                  {nil, 0},
		"short":                    {good[:55], 0},
		"another volume":           {patch(16, 1), 16},
		"no volume":                {patch(40, 'x'), 40},
		"revision":                 {patch(55, 1), 55},
		"cut":                      {good[:len(good)-1], 32},
		"length 2^64-1":            {patch(32, 255, 255, 255, 255, 255, 255, 255, 255), 32},
		"header length":            {patch(48, 55), 48},
		"odd header length":        {patch(48, 73), 48},
		"header length too long":   {patch(48, 255, 255), 48},
		"checksum":                 {patch(44, 1), 50},
		"another store":            {patch(72, 1), 72},
		"store size 0":             {patch(88, 0, 0, 0, 0), 88},
		"store size 2^32-1":        {patch(88, 255, 255, 255, 255), 88},
		"unformatted":              {patch(92, 0), 92},
		"name size":                {patch(v+36, 0, 2, 0, 0), v + 36},
		"name size 2^32-2":         {patch(v+36, 254, 255, 255, 255), v + 36},
		"data size 2^32-2":         {patch(v+40, 254, 255, 255, 255), v + 36},
		"odd name size":            {patch(v+36, 5), v + 60},
		"name without NUL":         {patch(v+64, 'x'), v + 60},
		"NUL inside":               {patch(v+60, 0), v + 60},
		"no name":                  {patch(v+36, 0), v + 60},
		"volume of a header alone": {fixed(patch(32, 72, 0, 0)), 48},
		"header cut by the end":    {volume(authenticated, 80, variable(true, 0x3f, "db", nil)), v},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := varstore.Parse(c.data)
			require.Nil(t, s)
			e, ok := errors.AsType[*osmith.FormatError](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, c.offset, e.Offset, "%v", err)
			require.NotNil(t, errors.Unwrap(err))
		})
	}
}

// virt-fw-vars reads the same variables, from Debian's stores and from those that we wrote.
func TestVirtFwVars(t *testing.T) {
	r := testtools.Trixie(t)
	theirs := func(path string) (all []varstore.Variable) {
		out := filepath.Join(t.TempDir(), "vars.json")
		r.Run(t, filepath.Dir(path), "virt-fw-vars", "-i", path, "--output-json", filepath.Join(filepath.Dir(path), "out.json"))
		require.NoError(t, os.Rename(filepath.Join(filepath.Dir(path), "out.json"), out))
		b, err := os.ReadFile(out)
		require.NoError(t, err)
		var o struct {
			Variables []struct {
				Name       string
				GUID       osmith.GUID
				Attr       uint32
				Data, Time string
			}
		}
		require.NoError(t, json.Unmarshal(b, &o))
		for _, x := range o.Variables {
			v := varstore.Variable{Name: x.Name, Vendor: x.GUID, Attributes: x.Attr}
			v.Data, err = hex.DecodeString(x.Data)
			require.NoError(t, err)
			if x.Time != "" {
				stamp, err := hex.DecodeString(x.Time)
				require.NoError(t, err)
				v.Time = [16]byte(stamp)
			}
			all = append(all, v)
		}
		return all
	}
	for _, name := range []string{"OVMF_VARS_4M.fd", "OVMF_VARS_4M.ms.fd", "OVMF_VARS_4M.snakeoil.fd"} {
		t.Run(name, func(t *testing.T) {
			b, err := os.ReadFile(r.Path("usr/share/OVMF", name))
			require.NoError(t, err)
			path := filepath.Join(t.TempDir(), "vars.fd")
			require.NoError(t, os.WriteFile(path, b, 0o600))
			s, err := varstore.Parse(b)
			require.NoError(t, err)
			require.Equal(t, theirs(path), append([]varstore.Variable(nil), s.Variables...))

			mine := append(s.Variables, varstore.Variable{Name: "OsmithTest", Vendor: vendor, Attributes: 7, Data: []byte{1, 2, 3}})
			again, err := s.Replace(mine)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path, again, 0o600))
			require.Equal(t, theirs(path), mine)
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(volume(authenticated, 512, variable(true, 0x3e, "db", []byte("abc")), variable(true, 0x3f, "db", []byte("abcd"))))
	f.Add(volume(plain, 512, variable(false, 0x3f, "x", nil)))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := varstore.Parse(data)
		if (s == nil) != (err != nil) {
			t.Fatalf("%v and error %v", s, err)
		}
		if err != nil {
			return
		}
		b, err := s.Replace(s.Variables)
		require.NoError(t, err)
		again, err := varstore.Parse(b)
		require.NoError(t, err)
		require.Equal(t, s.Variables, again.Variables)
		require.Equal(t, again.Live(), again.Used())
		once, err := again.Replace(again.Variables)
		require.NoError(t, err)
		require.Equal(t, b, once)
	})
}
