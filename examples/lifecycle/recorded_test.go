package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRecordedFiles: the recorded boot is the one in the test data of package tpm, byte for byte.
func TestRecordedFiles(t *testing.T) {
	files := 0
	require.NoError(t, fs.WalkDir(recordedFiles, "testdata/recorded", func(name string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		if d.IsDir() {
			return nil
		}
		files++
		have, err := recordedFiles.ReadFile(name)
		require.NoError(t, err)
		inside, err := filepath.Rel("testdata/recorded", filepath.FromSlash(name))
		require.NoError(t, err)
		want, err := os.ReadFile(filepath.Join("..", "..", "tpm", "testdata", "boot", "a-sb-sdboot-262", inside))
		require.NoError(t, err)
		require.Equal(t, want, have, name)
		return nil
	}))
	require.Equal(t, 11, files)
}
