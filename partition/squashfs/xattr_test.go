package squashfs

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/diskfs/go-diskfs/backend/file"
	diskfs "github.com/diskfs/go-diskfs/filesystem/squashfs"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
)

// withXattrs has a file of each kind with extended attributes, so many different sets that their
// table and its index have several blocks, and a value that is longer than a block.
func withXattrs() fstest.MapFS {
	tree := fstest.MapFS{
		".":      special(fs.ModeDir|0o755, 0, 0),
		"ping":   regular(text(1, 5000)),
		"same":   regular(text(2, 5000)),
		"small":  regular([]byte("small")),
		"plain":  regular([]byte("none")),
		"dir":    special(fs.ModeDir|0o755, 0, 0),
		"link":   {Data: []byte("ping"), Mode: fs.ModeSymlink | 0o777, ModTime: modified},
		"null":   special(fs.ModeDevice|fs.ModeCharDevice|0o666, 1, 3),
		"disk":   special(fs.ModeDevice|0o660, 259, 300_000),
		"fifo":   special(fs.ModeNamedPipe|0o600, 0, 0),
		"socket": special(fs.ModeSocket|0o755, 0, 0),
	}
	for name, f := range tree {
		if name != "plain" {
			f.Sys = &osmith.Node{Xattrs: map[string][]byte{"security.selinux": []byte("system_u:object_r:bin_t:s0\x00")}}
		}
	}
	for _, name := range []string{"ping", "same"} {
		tree[name].Sys.(*osmith.Node).Xattrs["security.capability"] = capability
	}
	tree["small"].Sys = &osmith.Node{Xattrs: map[string][]byte{"user.large": noise(2, 20_000)}}
	for i := range 1200 {
		f := regular(nil)
		f.Sys = &osmith.Node{Xattrs: map[string][]byte{"user.number": fmt.Append(nil, i)}}
		tree[fmt.Sprintf("many/%d", i)] = f
	}
	return tree
}

// capability is that to open raw sockets, as setcap(8) writes it.
var capability = []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")

// go-diskfs reads what was written; it leaves the name spaces out, and loses its way in sets of
// more than two.
func TestXattrs(t *testing.T) {
	tree := withXattrs()
	for _, o := range []Options{{}, {Compression: Gzip}, {Compression: None}} {
		image := write(t, tree, o)
		require.Equal(t, image, write(t, tree, o), "the same tree gives the same bytes")
		disk, err := file.OpenFromPath(save(t, image), true)
		require.NoError(t, err)
		fsys, err := diskfs.Read(disk, int64(len(image)), 0, 0)
		require.NoError(t, err)
		for _, dir := range []string{".", "many"} {
			entries, err := fsys.ReadDir(dir)
			require.NoError(t, err)
			for _, e := range entries {
				if e.Name() == "many" {
					continue
				}
				info, err := e.Info()
				require.NoError(t, err)
				want := map[string]string{}
				if node, ok := tree[strings.TrimPrefix(dir+"/"+e.Name(), "./")].Sys.(*osmith.Node); ok {
					for k, v := range node.Xattrs {
						_, short, _ := strings.Cut(k, ".")
						want[short] = string(v)
					}
				}
				got := maps.Clone(info.Sys().(*diskfs.StatT).Xattrs)
				if got == nil {
					got = map[string]string{}
				}
				require.Equal(t, want, got, e.Name())
			}
		}
		require.NoError(t, disk.Close())
	}
	// Sets that are equal are stored once: one more file of a set costs an inode.
	table := func(image []byte) int { return bytes.Count(image, []byte("object_r")) }
	require.Equal(t, 2, table(write(t, tree, Options{Compression: None})))
}

func TestXattrsRefused(t *testing.T) {
	for name, want := range map[string]string{
		"system.posix_acl_access": "squashfs: /f: this extended attribute cannot be stored: system.posix_acl_access: squashfs has no access control lists: remove it from the tree",
		"nospace":                 `squashfs: /f: this extended attribute cannot be stored: "nospace": want user., trusted. or security. and a name, or an access control list`,
	} {
		f := regular(nil)
		f.Sys = &osmith.Node{Xattrs: map[string][]byte{name: nil}}
		var m memory
		_, err := Write(t.Context(), &m, fstest.MapFS{"contents": regular(noise(1, 3<<20)), "f": f}, Options{})
		require.EqualError(t, err, want)
		require.Empty(t, m.b, "nothing is written")
		require.ErrorIs(t, err, osmith.ErrXattr)
	}
}
