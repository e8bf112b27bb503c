package squashfs

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/testtools"
)

var long = os.Getenv("OSMITH_LONG") != ""

// extracted is how a directory that a tool has filled is described: with the times and owners that
// it has.
var extracted = osmith.TreeOptions{Time: latest.AddDate(100, 0, 0), KeepOwners: true}

// everything is a tree of all contents and kinds. Only root can extract it: it has devices, and
// files of several owners.
func everything(t *testing.T, block int) fstest.MapFS {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the files of a tree have owners, and some are devices: run the test as root")
	}
	tree := contentsTree(block)
	maps.Copy(tree, kindsTree())
	return tree
}

// unsquashfs extracts what was written: every byte, mode, owner, time and device.
func TestUnsquashfs(t *testing.T) {
	testtools.Require(t, "unsquashfs")
	for _, o := range every {
		t.Run(o.name(), func(t *testing.T) {
			tree := everything(t, o.block())
			image, dir := save(t, write(t, tree, o)), filepath.Join(t.TempDir(), "x")
			testtools.Run(t, "unsquashfs", "-no-progress", "-quiet", "-strict-errors", "-dest", dir, image)
			requireSame(t, describe(t, tree, o.TreeOptions), describe(t, os.DirFS(dir), extracted))
			about := testtools.Run(t, "unsquashfs", "-stat", image)
			name := o.Compression.String()
			if o.Compression == None {
				name = "gzip" // with everything stored
				require.Contains(t, about, "Data is uncompressed")
			}
			require.Contains(t, about, "Compression "+name+"\n")
			require.Contains(t, about, fmt.Sprintf("Block size %d\n", o.block()))
			require.Contains(t, about, "Xattrs are not stored")
			require.Contains(t, about, "Duplicates are removed")
			require.Contains(t, about, "Filesystem is exportable via NFS")
			if o.Level != 0 {
				require.Contains(t, about, fmt.Sprintf("compression-level %d", o.Level))
			}
		})
	}
}

// unsquashfs lists all files of a listing that has an index.
func TestUnsquashfsLists(t *testing.T) {
	tree := kindsTree()
	image := save(t, write(t, tree, Options{TreeOptions: osmith.TreeOptions{Time: latest}}))
	list := testtools.Output(t, "unsquashfs", "-lln", "-dest", "", image)
	for _, want := range []string{
		"crw-rw-rw- 1000/70000            1,  3 2023-11-14 22:13 /null",
		"srwxr-xr-x 1000/70000                0 2023-11-14 22:13 /socket",
		"prw------- 1000/70000                0 2023-11-14 22:13 /fifo",
		"-rwsr-sr-x 0/0                       7 2023-11-14 22:13 /setuid",
		"drwxrwxrwt 0/0                       3 2023-11-14 22:13 /tmp",
		"-r-------- 4294967294/1              1 2023-11-14 23:13 /dir/a",
		"lrwxrwxrwx 0/0                       5 2023-11-14 22:13 /link -> dir/a",
	} {
		require.True(t, strings.Contains(list, want+"\n"), want)
	}
	require.Equal(t, 3000, strings.Count(list, " /many/"))
}

// Linux mounts what was written and finds each file by its name.
func TestKernelReads(t *testing.T) {
	testtools.Require(t, "unshare")
	if known, err := os.ReadFile("/proc/filesystems"); err != nil || !strings.Contains(string(known), "squashfs") || os.Geteuid() != 0 {
		t.Skip("needs root, and a kernel that has squashfs")
	}
	for i, o := range every {
		if i%3 != 0 && !long {
			continue // a test in e2e has a kernel mount all three compressions
		}
		t.Run(o.name(), func(t *testing.T) {
			tree := everything(t, o.block())
			image, work := save(t, write(t, tree, o)), t.TempDir()
			// The loop device goes with the mount, and the mount with its namespace.
			out, err := testtools.Try(t, "unshare", "--mount", "sh", "-ec",
				`cd "$1"; mkdir m x; mount -t squashfs -o ro,loop "$2" m; cp -a m/. x; stat -c %h m m/subdirectories; ls -ia m | grep -c '^ *0 ' || :`, "sh", work, image)
			if err != nil && strings.Contains(out, "loop") {
				t.Skip("this machine has no loop devices: ", out)
			}
			require.NoError(t, err)
			requireSame(t, describe(t, tree, o.TreeOptions), describe(t, os.DirFS(filepath.Join(work, "x")), extracted))
			directories := 2
			entries, err := fs.ReadDir(tree, ".")
			require.NoError(t, err)
			for _, e := range entries {
				if e.IsDir() {
					directories++
				}
			}
			require.Equal(t, fmt.Sprintf("%d\n402\n0\n", directories), out, "links of directories, and files without a number")
		})
	}
}

// mksquashfs makes no image of a real tree that is much smaller.
func TestSizeOfMksquashfs(t *testing.T) {
	tree := filepath.Join(strings.TrimSpace(testtools.Output(t, "go", "env", "GOROOT")), "src", "net")
	testtools.Require(t, "mksquashfs")
	for _, c := range []Compression{Zstd, Gzip} {
		theirs := filepath.Join(t.TempDir(), "theirs")
		testtools.Run(t, "mksquashfs", tree, theirs, "-noappend", "-no-progress", "-quiet", "-all-root", "-comp", c.String())
		info, err := os.Stat(theirs)
		require.NoError(t, err)
		ours := write(t, os.DirFS(tree), Options{Compression: c, TreeOptions: osmith.TreeOptions{Time: latest}})
		ratio := float64(len(ours)) / float64(info.Size())
		t.Logf("%s: %d bytes, mksquashfs %d: ratio %.3f", c, len(ours), info.Size(), ratio)
		require.Less(t, ratio, 1.10)
	}
}

// A file larger than 4 GiB has a size of 64 bits in its inode, and one that is all holes no data.
func TestLargeFile(t *testing.T) {
	if !long {
		t.Skip("reads 4 GiB of zeros: OSMITH_LONG=1 runs it")
	}
	const size = 4<<30 + 5
	f, err := os.Create(filepath.Join(t.TempDir(), "large"))
	require.NoError(t, err)
	require.NoError(t, f.Truncate(size))
	_, err = f.WriteAt([]byte("end"), size-3)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	var m memory
	n, err := Write(context.Background(), &m, os.DirFS(filepath.Dir(f.Name())), Options{BlockSize: 1 << 20})
	require.NoError(t, err)
	require.EqualValues(t, 4096, n)
	list := testtools.Output(t, "unsquashfs", "-lln", "-dest", "", save(t, m.b))
	require.Contains(t, list, " 4294967301 1970-01-01 00:00 /large\n")
}
