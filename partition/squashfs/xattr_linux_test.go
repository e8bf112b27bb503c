package squashfs

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/filetree"
	"github.com/osmith-dev/osmith/internal/testtools"
)

// describeXattrs has a line for each extended attribute of a tree.
func describeXattrs(t *testing.T, tree fs.FS) (lines []string) {
	t.Helper()
	require.NoError(t, filetree.Walk(tree, osmith.TreeOptions{KeepXattrs: true}, func(f *filetree.File) error {
		for _, name := range f.XattrNames() {
			lines = append(lines, fmt.Sprintf("%s %s %x", f.Absolute(), name, f.Xattrs[name]))
		}
		return nil
	}))
	return lines
}

// unsquashfs extracts all attributes of all kinds of files, and what is packed anew from there has
// the same ones.
func TestUnsquashfsXattrs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("attributes of some name spaces are for root: run the test as root")
	}
	testtools.Require(t, "unsquashfs")
	for _, o := range []Options{{}, {Compression: Gzip}, {Compression: None}} {
		tree := withXattrs()
		more := tree["same"].Sys.(*osmith.Node).Xattrs
		// The directory of the test may be on ext4, which has no room for more.
		tree["small"].Sys.(*osmith.Node).Xattrs["user.large"] = noise(2, 3000)
		more["user.empty"], more["trusted.x"], more["user.x"] = nil, []byte("y"), []byte("z")
		image, dir := save(t, write(t, tree, o)), filepath.Join(t.TempDir(), "x")
		testtools.Run(t, "unsquashfs", "-no-progress", "-quiet", "-strict-errors", "-dest", dir, image)
		require.Equal(t, describeXattrs(t, tree), describeXattrs(t, os.DirFS(dir)))
		about := testtools.Run(t, "unsquashfs", "-stat", image)
		want := "Xattrs are compressed"
		if o.Compression == None {
			want = "Xattrs are uncompressed"
		}
		require.Contains(t, about, want)
		o.KeepXattrs = true
		again := filepath.Join(t.TempDir(), "y")
		testtools.Run(t, "unsquashfs", "-no-progress", "-quiet", "-strict-errors", "-dest", again, save(t, write(t, os.DirFS(dir), o)))
		require.Equal(t, describeXattrs(t, tree), describeXattrs(t, os.DirFS(again)))
	}
}
