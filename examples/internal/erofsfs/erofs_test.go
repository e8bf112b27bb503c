package erofsfs

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/examples/acmeos"
)

// What a damaged file system does to its reader is an error, not the end of the program.
func TestOpen(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x")
	require.NoError(t, acmeos.WriteImage(name, map[string][]byte{"/usr/lib/extension-release.d/extension-release.tools": []byte("ID=_any\n")}))
	good, err := os.ReadFile(name)
	require.NoError(t, err)
	text := func(b []byte) (string, error) {
		fsys, err := Open(bytes.NewReader(b))
		if err != nil {
			return "", err
		}
		text, err := fs.ReadFile(fsys, "usr/lib/extension-release.d/extension-release.tools")
		return string(text), err
	}
	got, err := text(good)
	require.NoError(t, err)
	require.Equal(t, "ID=_any\n", got)
	_, err = text(make([]byte, 8192))
	require.Error(t, err)
	for i := 1024; i < len(good); i += 7 {
		b := bytes.Clone(good)
		b[i] ^= 0xff
		_, _ = text(b) // it returns
	}
}
