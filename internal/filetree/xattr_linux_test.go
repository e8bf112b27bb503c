package filetree_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/filetree"
)

// Extended attributes are those of the file itself, also where its name leads elsewhere, and only
// if they are asked for.
func TestKeepXattrs(t *testing.T) {
	dir := t.TempDir()
	file, long := filepath.Join(dir, "sub", "file"), strings.Repeat("v", 2000)
	require.NoError(t, os.Mkdir(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	require.NoError(t, os.Symlink("file", filepath.Join(dir, "sub", "link")))
	// Opening a pipe would wait for ever.
	require.NoError(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	want := map[string]map[string]string{
		".": {"user.root": "r"}, "sub": {"user.a": "", "user.b": "b"}, "sub/file": {"user.long": long}, "sub/link": {}, "pipe": {},
	}
	for name, attributes := range want {
		for k, v := range attributes {
			err := unix.Lsetxattr(filepath.Join(dir, name), k, []byte(v), 0)
			if errors.Is(err, unix.ENOTSUP) {
				t.Skip("the file system of the test's directory has no extended attributes")
			}
			require.NoError(t, err)
		}
	}
	for _, keep := range []bool{true, false} {
		got := map[string]map[string]string{}
		require.NoError(t, filetree.Walk(os.DirFS(dir), osmith.TreeOptions{KeepXattrs: keep}, func(f *filetree.File) error {
			got[f.Name] = map[string]string{}
			for _, name := range f.XattrNames() {
				if strings.HasPrefix(name, "user.") { // the machine may label files
					got[f.Name][name] = string(f.Xattrs[name])
				}
			}
			return nil
		}))
		if !keep {
			for name := range want {
				want[name] = map[string]string{}
			}
		}
		require.Equal(t, want, got)
	}
}
