package uki_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/uki"
)

// A treeWriter puts a device tree together, token by token.
type treeWriter struct{ structure, strings []byte }

func (w *treeWriter) words(list ...uint32) {
	for _, n := range list {
		w.structure = binary.BigEndian.AppendUint32(w.structure, n)
	}
}

func (w *treeWriter) node(name string) {
	w.words(1)
	w.structure = append(append(w.structure, name...), 0)
	w.pad()
}

func (w *treeWriter) property(name, value string) {
	w.words(3, uint32(len(value)), uint32(len(w.strings)))
	w.strings = append(append(w.strings, name...), 0)
	w.structure = append(w.structure, value...)
	w.pad()
}

func (w *treeWriter) pad() {
	for len(w.structure)%4 != 0 {
		w.structure = append(w.structure, 0)
	}
}

func (w *treeWriter) bytes() []byte {
	const header, reserved = 40, 16
	structure := uint32(header + reserved)
	texts := structure + uint32(len(w.structure))
	total := texts + uint32(len(w.strings))
	var b []byte
	for _, n := range []uint32{0xd00dfeed, total, structure, texts, header, 17, 16, 0, uint32(len(w.strings)), uint32(len(w.structure))} {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	b = append(b, make([]byte, reserved)...)
	return append(append(b, w.structure...), w.strings...)
}

// treeFor is a device tree of a machine.
func treeFor(compatible ...string) []byte {
	w := new(treeWriter)
	w.node("")
	w.property("model", "Model")
	w.words(4) // nothing
	w.property("empty", "")
	w.property("compatible", strings.Join(compatible, "\x00")+"\x00")
	w.node("chosen")
	w.words(2, 2, 9)
	return w.bytes()
}

func TestDeviceTreeCompatible(t *testing.T) {
	for _, list := range [][]string{{"acer,aspire1"}, {"a,b", "c,d"}, {""}} {
		text, err := uki.DeviceTreeCompatible(bytes.NewReader(treeFor(list...)))
		require.NoError(t, err)
		require.Equal(t, list[0], text)
	}
	text, err := uki.DeviceTreeCompatible(bytes.NewReader(append(treeFor("a,b"), "what follows the tree"...)))
	require.NoError(t, err)
	require.Equal(t, "a,b", text)
}

func TestDeviceTreeCompatibleRefuses(t *testing.T) {
	good := treeFor("a,b")
	put := func(at int, n uint32) []byte {
		b := append([]byte(nil), good...)
		binary.BigEndian.PutUint32(b[at:], n)
		return b
	}
	child := new(treeWriter)
	child.node("")
	child.node("soc")
	child.property("compatible", "of,child\x00")
	open := new(treeWriter)
	open.node("")
	open.property("compatible", "abcd")
	empty := new(treeWriter)
	empty.node("")
	empty.property("compatible", "")
	empty.words(2, 9)
	long := new(treeWriter)
	long.node("")
	long.property("compatible", strings.Repeat("x", 5000)+"\x00")
	for name, c := range map[string]struct {
		tree []byte
		text string
	}{
		"short":           {good[:39], "39 bytes, want 40"},
		"magic":           {put(0, 0xd00dfeee), "0xd00dfeee, want 0xd00dfeed"},
		"cut off":         {good[:len(good)-1], "device tree size at 0x4"},
		"strings":         {put(32, 1<<31), "strings block at 0xc"},
		"structure":       {put(36, 1<<30), "structure block at 0x8"},
		"not aligned":     {put(8, 57), "want multiples of 4"},
		"huge property":   {put(56+12, 1<<31), "no compatible string"},
		"only in a child": {child.bytes(), "no compatible string in the root node"},
		"not terminated":  {open.bytes(), "does not end with a NUL byte"},
		"no value":        {empty.bytes(), "0 bytes from here"},
		"too long":        {long.bytes(), "more than 4096 bytes"},
		"no root":         {(&treeWriter{structure: []byte{0, 0, 0, 9}}).bytes(), "token 9: no compatible string"},
		"nothing":         {new(treeWriter).bytes(), "no compatible string"},
	} {
		text, err := uki.DeviceTreeCompatible(bytes.NewReader(c.tree))
		require.Empty(t, text, name)
		var f *osmith.FormatError
		require.True(t, errors.As(err, &f), "%s: %v", name, err)
		require.ErrorContains(t, err, c.text, name)
	}
	_, err := uki.DeviceTreeCompatible(bytes.NewReader(child.bytes()))
	require.ErrorIs(t, err, uki.ErrNoCompatible)
}

// The trees of a Linux kernel all have a compatible string that stands in them.
func TestDeviceTreesOfKernel(t *testing.T) {
	root := testtools.Trixie(t)
	trees := 0
	err := filepath.WalkDir(root.Path("opt/arm64/usr/lib"), func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".dtb" {
			return err
		}
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		text, err := uki.DeviceTreeCompatible(bytes.NewReader(b))
		require.NoError(t, err, path)
		require.Regexp(t, `^[a-zA-Z0-9]+(-[a-z]+)?,[-+._,a-zA-Z0-9]+$`, text, path)
		require.Contains(t, string(b), text+"\x00")
		trees++
		return nil
	})
	require.NoError(t, err)
	require.Positive(t, trees)
	t.Logf("%d trees", trees)
}

func FuzzDeviceTree(f *testing.F) {
	f.Add(treeFor("a,b", "c,d"))
	f.Fuzz(func(t *testing.T, b []byte) {
		text, err := uki.DeviceTreeCompatible(bytes.NewReader(b))
		if err != nil {
			require.Empty(t, text)
		} else {
			require.Contains(t, string(b), text+"\x00")
		}
	})
}
