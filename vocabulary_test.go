package osmith_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
)

var (
	_ osmith.Source = (*osmith.Device)(nil)
	_ osmith.Source = (*bytes.Reader)(nil)
	_ osmith.Source = (*strings.Reader)(nil)
	_ osmith.Source = (*io.SectionReader)(nil)
)

func TestGUID(t *testing.T) {
	const text = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
	g, err := osmith.ParseGUID("C12A7328-F81F-11D2-BA4B-00A0C93EC93B")
	require.NoError(t, err)
	require.Equal(t, text, g.String())
	require.Equal(t, byte(0xc1), g[0])
	require.False(t, g.IsZero())
	require.True(t, osmith.GUID{}.IsZero())
	b, err := json.Marshal(map[string]osmith.GUID{"id": g})
	require.NoError(t, err)
	require.JSONEq(t, `{"id":"`+text+`"}`, string(b))
	var back map[string]osmith.GUID
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, g, back["id"])
	for _, s := range []string{"", text[1:], "{" + text[1:], "c12a7328+f81f-11d2-ba4b-00a0c93ec93b", "x12a7328-f81f-11d2-ba4b-00a0c93ec93b"} {
		_, err := osmith.ParseGUID(s)
		require.ErrorContains(t, err, "GUID", s)
		require.Error(t, new(osmith.GUID).UnmarshalText([]byte(s)))
	}
	require.Panics(t, func() { osmith.MustParseGUID("none") })
}

func TestDevice(t *testing.T) {
	name := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(name)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(8<<20))
	d, err := osmith.NewDevice(f)
	require.NoError(t, err)
	require.Equal(t, int64(8<<20), d.Size())
	require.Zero(t, d.SectorSize(), "a file has none")
	_, err = d.WriteAt([]byte("data"), 4<<20)
	require.NoError(t, err)
	require.NoError(t, d.Sync())
	require.Same(t, f, d.File())
	require.NoError(t, d.Close())

	d, err = osmith.OpenFile(name)
	require.NoError(t, err)
	defer d.Close()
	require.Equal(t, int64(8<<20), d.Size())
	b := make([]byte, 4)
	_, err = d.ReadAt(b, 4<<20)
	require.NoError(t, err)
	require.Equal(t, "data", string(b))
	_, err = d.WriteAt(b, 0)
	require.Error(t, err, "it is open for reading")
	// Every byte that is not zero is in a range, whatever the file system says about the others.
	var ranges [][2]int64
	for off := int64(0); off < d.Size(); {
		start, end, err := d.NextData(off)
		require.NoError(t, err)
		require.LessOrEqual(t, off, start)
		require.LessOrEqual(t, end, d.Size())
		if start == d.Size() {
			break
		}
		require.Less(t, start, end)
		ranges = append(ranges, [2]int64{start, end})
		off = end
	}
	covered := false
	for _, r := range ranges {
		covered = covered || r[0] <= 4<<20 && r[1] >= 4<<20+4
	}
	require.True(t, covered, ranges)
	start, end, err := d.NextData(9 << 20)
	require.NoError(t, err)
	require.Equal(t, [2]int64{8 << 20, 8 << 20}, [2]int64{start, end})

	_, err = osmith.OpenFile(filepath.Dir(name))
	require.ErrorContains(t, err, "neither a file nor a block device")
	_, err = osmith.OpenFile(name + ".missing")
	require.ErrorIs(t, err, fs.ErrNotExist)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	_, err = osmith.NewDevice(r)
	require.Error(t, err)
}

func TestFormatError(t *testing.T) {
	err := fmt.Errorf("partition: %w", &osmith.FormatError{Offset: 512, Field: "primary header: signature", Err: io.ErrUnexpectedEOF})
	require.EqualError(t, err, "partition: primary header: signature at 0x200: unexpected EOF")
	format, ok := errors.AsType[*osmith.FormatError](err)
	require.True(t, ok)
	require.Equal(t, int64(512), format.Offset)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.EqualError(t, &osmith.FormatError{Offset: -1, Field: "payload: critical.type", Err: errors.New("missing")}, "payload: critical.type: missing")
}

func TestDigestError(t *testing.T) {
	for text, err := range map[string]*osmith.DigestError{
		"blob sha256:aa: 3 bytes, want 4":                  {Want: "sha256:aa", WantSize: 4, GotSize: 3},
		"blob sha256:aa: 5 bytes or more, want 4":          {Want: "sha256:aa", WantSize: 4, GotSize: 5},
		"blob sha256:aa: the content has digest sha256:bb": {Want: "sha256:aa", Got: "sha256:bb", WantSize: 4, GotSize: 4},
	} {
		require.EqualError(t, err, text)
	}
}

func TestVersion(t *testing.T) {
	for v, want := range map[osmith.Version]int{"262": 262, "262-1": 262, "257.13-1~deb13u1": 257, "254~rc1": 254} {
		n, err := v.Release()
		require.NoError(t, err, v)
		require.Equal(t, want, n, v)
	}
	for _, v := range []osmith.Version{"", "v262", "-1", "99999999999999999999"} {
		_, err := v.Release()
		require.ErrorContains(t, err, "want a version that begins with a release number", v)
	}
}

func ExampleParseGUID() {
	g, err := osmith.ParseGUID("C12A7328-F81F-11D2-BA4B-00A0C93EC93B")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(g)
	// Output: c12a7328-f81f-11d2-ba4b-00a0c93ec93b
}

func ExampleOpenFile() {
	dir, err := os.MkdirTemp("", "osmith")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "root.img")
	if err := os.WriteFile(name, make([]byte, 4096), 0o600); err != nil {
		fmt.Println(err)
		return
	}
	d, err := osmith.OpenFile(name)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer d.Close()
	fmt.Println(d.Size(), "bytes")
	// Output: 4096 bytes
}

func ExampleFormatError() {
	// What a parser of any package returns.
	err := fmt.Errorf("uki: %w", &osmith.FormatError{Offset: 0x3c, Field: "PE header", Err: errors.New("not a PE image")})
	if format, ok := errors.AsType[*osmith.FormatError](err); ok {
		fmt.Printf("%s, byte %d: %v\n", format.Field, format.Offset, format.Err)
	}
	// Output: PE header, byte 60: not a PE image
}

func ExampleVersion() {
	release, err := osmith.Version("257.13-1~deb13u1").Release()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(release)
	// Output: 257
}

func TestVersionPoint(t *testing.T) {
	for v, want := range map[osmith.Version]int{"257.13-1~deb13u1": 13, "257.9": 9, "257": 0, "258~rc1.5": 0, "257-1.2": 0, ".5": 0, "": 0, "257.": 0, "257.x": 0, "main.3": 0, "257.1.2": 1,
		"257.99999999999999999999": 1<<31 - 1} {
		require.Equal(t, want, v.Point(), string(v))
	}
}
