//go:build linux

package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/e2e/report"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/partition/ext4"
	"github.com/osmith-dev/osmith/partition/squashfs"
)

var modifiedAt = time.Unix(1_700_000_000, 0)

// mountedTree has files of all kinds, and a directory so large that it has an index.
func mountedTree() fstest.MapFS {
	m := fstest.MapFS{
		"bin/su":       {Mode: fs.ModeSetuid | 0o755, Data: bytes.Repeat([]byte("osmith"), 50_000)},
		"dev/console":  {Mode: fs.ModeDevice | fs.ModeCharDevice | 0o600, Sys: &osmith.Node{Major: 5, Minor: 1}},
		"dev/vdb":      {Mode: fs.ModeDevice | 0o660, Sys: &osmith.Node{GID: 6, Major: 254, Minor: 70000}},
		"dev/pipe":     {Mode: fs.ModeNamedPipe | 0o622},
		"dev/socket":   {Mode: fs.ModeSocket | 0o666},
		"empty":        {Mode: 0o644, Sys: &osmith.Node{UID: 70000, GID: 5}},
		"one":          {Mode: 0o640, Data: []byte("1")},
		"zeros":        {Mode: 0o600, Data: make([]byte, 1<<20)},
		"link":         {Mode: fs.ModeSymlink | 0o777, Data: []byte("bin/su")},
		"long":         {Mode: fs.ModeSymlink | 0o777, Data: []byte(strings.Repeat("far/", 200))},
		"tmp":          {Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		"many/spaces ": {Mode: 0o644},
	}
	for i := range 1500 {
		m[fmt.Sprintf("many/%d-ÿ", i*i)] = &fstest.MapFile{Mode: 0o644, Data: []byte(strconv.Itoa(i))}
	}
	// That to open raw sockets, as setcap(8) writes it.
	capability := []byte("\x01\x00\x00\x02\x00\x20" + strings.Repeat("\x00", 14))
	m["bin/su"].Sys = &osmith.Node{Xattrs: map[string][]byte{"security.capability": capability, "user.a": []byte("b")}}
	m["one"].Sys = &osmith.Node{Xattrs: map[string][]byte{"user.large": bytes.Repeat([]byte("v"), 3000), "trusted.empty": nil}}
	m["link"].Sys = &osmith.Node{Xattrs: map[string][]byte{"trusted.link": []byte("l")}}
	m["tmp"].Sys = &osmith.Node{Xattrs: map[string][]byte{"user.a": []byte("b")}}
	for _, f := range m {
		f.ModTime = modifiedAt
	}
	return m
}

// listing is what the guest's mounter lists of mountedTree, and its digest.
func listing(t *testing.T) (text, digest string) {
	t.Helper()
	var lines strings.Builder
	tree := mountedTree()
	require.NoError(t, fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		f, node := tree[name], osmith.Node{}
		if f == nil { // a directory that is only in the names of others
			f = &fstest.MapFile{Mode: fs.ModeDir | 0o555}
		}
		if n, ok := f.Sys.(*osmith.Node); ok {
			node = *n
		}
		size, what, at := len(f.Data), fmt.Sprintf("%d:%d", node.Major, node.Minor), modifiedAt.Unix()
		switch f.Mode.Type() {
		case 0:
			what = fmt.Sprintf("%x", sha256.Sum256(f.Data))
		case fs.ModeSymlink:
			what = string(f.Data)
		case fs.ModeDir:
			at = max(0, f.ModTime.Unix())
		}
		fmt.Fprintf(&lines, "%q %v %d:%d %d %d %s\n", name, f.Mode, node.UID, node.GID, size, at, what)
		for _, x := range slices.Sorted(maps.Keys(node.Xattrs)) {
			fmt.Fprintf(&lines, "  %s %x\n", x, node.Xattrs[x])
		}
		return nil
	}))
	return lines.String(), fmt.Sprintf("%x", sha256.Sum256([]byte(lines.String())))
}

// fileSystems are images of mountedTree, our program that mounts them, the kernel modules, and the
// steps.
func fileSystems(t *testing.T, root testtools.Root) (files []osmith.ESPFile, steps []guestStep) {
	t.Helper()
	o := osmith.TreeOptions{Time: modifiedAt}
	_, digest := listing(t)
	image := func(name string, write func(f *os.File) error) {
		f, err := os.Create(filepath.Join(t.TempDir(), name))
		require.NoError(t, err)
		t.Cleanup(func() { f.Close() })
		require.NoError(t, write(f))
		d, err := osmith.NewDevice(f)
		require.NoError(t, err)
		files = append(files, osmith.ESPFile{Path: name, Content: d})
	}
	image("ext4.img", func(f *os.File) error {
		_, err := ext4.Write(t.Context(), f, mountedTree(), ext4.Options{TreeOptions: o, Size: 20 << 20, UUID: osmith.MustParseGUID("00112233-4455-6677-8899-aabbccddeeff")})
		return err
	})
	steps = append(steps, guestStep{Name: "mount ext4", Args: []string{"mounter", "ext4", "/run/programs/ext4.img", digest, strconv.Itoa(300 << 20)}, Static: true})

	image("erofs.img", func(f *os.File) error {
		return build.WriteEROFS(t.Context(), f, mountedTree(), build.EROFSOptions{TreeOptions: o, TempDir: t.TempDir()})
	})
	steps = append(steps, guestStep{Name: "mount erofs", Args: []string{"mounter", "erofs", "/run/programs/erofs.img", digest}, Static: true})

	for _, c := range []squashfs.Compression{squashfs.Zstd, squashfs.Gzip, squashfs.None} {
		name := fmt.Sprintf("squashfs-%v.img", c)
		image(name, func(f *os.File) error {
			_, err := squashfs.Write(t.Context(), f, mountedTree(), squashfs.Options{TreeOptions: o, Compression: c})
			return err
		})
		steps = append(steps, guestStep{Name: fmt.Sprintf("mount squashfs, %v", c), Args: []string{"mounter", "squashfs", "/run/programs/" + name, digest}, Static: true})
	}
	file := filepath.Join(t.TempDir(), "mounter")
	require.NoError(t, buildProgram(t.Context(), file, "amd64", guestPackage+"/mounter"))
	program, err := os.ReadFile(file)
	require.NoError(t, err)
	files = append(files, osmith.ESPFile{Path: "mounter", Content: bytes.NewReader(program)})
	tree, err := readModuleTree(root.Part(t, "modules"))
	require.NoError(t, err)
	modules, err := tree.closure([]string{"loop", "ext4", "squashfs", "erofs"})
	require.NoError(t, err)
	for i, m := range modules {
		b, err := tree.load(m)
		require.NoError(t, err)
		files = append(files, osmith.ESPFile{Path: fmt.Sprintf("%02d-%s.ko", i, moduleName(m)), Content: bytes.NewReader(b)})
	}
	return files, steps
}

// requireMounts compares what the kernel found in the images with the tree.
func requireMounts(t *testing.T, r *report.Report, steps []guestStep) {
	t.Helper()
	text, digest := listing(t)
	for _, s := range steps {
		run, ok := r.Run(s.Name)
		require.True(t, ok, s.Name)
		require.Empty(t, run.Error, "%s: %s", s.Name, run.Output)
		want := digest
		if s.Args[1] == "ext4" {
			want += "\ngrown true"
		}
		if run.Output != want {
			require.Equal(t, text+want, run.Output, s.Name)
		}
	}
}
