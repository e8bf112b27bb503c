package build_test

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/erofs/go-erofs"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/build"
)

// capability is that to open raw sockets, as setcap(8) writes it.
const capability = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

func attributed(name, value string) *fstest.MapFile {
	return &fstest.MapFile{Mode: 0o755, Data: []byte("program"), Sys: &osmith.Node{Xattrs: map[string][]byte{name: []byte(value)}}}
}

// erofsXattrs are the extended attributes of a file as go-erofs reads them.
func erofsXattrs(t *testing.T, image io.ReaderAt, name string) map[string]string {
	t.Helper()
	fsys, err := erofs.Open(image)
	require.NoError(t, err)
	info, err := fs.Stat(fsys, name)
	require.NoError(t, err)
	return info.(interface{ GetAllXattr() map[string]string }).GetAllXattr()
}

func TestEROFSXattrs(t *testing.T) {
	tree := fstest.MapFS{
		".":        {Mode: fs.ModeDir | 0o755, Sys: &osmith.Node{Xattrs: map[string][]byte{"trusted.root": []byte("r")}}},
		"bin/ping": attributed("security.capability", capability),
		"bin/many": attributed("user.large", strings.Repeat("v", 5000)),
		"plain":    {Mode: 0o644, Data: []byte("plain")},
	}
	tree["bin/many"].Sys.(*osmith.Node).Xattrs["security.selinux"] = []byte("label\x00")
	name := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(name)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, build.WriteEROFS(t.Context(), f, tree, build.EROFSOptions{TempDir: t.TempDir()}))
	for path, want := range map[string]map[string]string{
		".": {"trusted.root": "r"}, "bin/ping": {"security.capability": capability}, "plain": nil,
		"bin/many": {"user.large": strings.Repeat("v", 5000), "security.selinux": "label\x00"},
	} {
		require.Equal(t, want, erofsXattrs(t, f, path), path)
	}
	for want, one := range map[string]*fstest.MapFile{
		"build: EROFS: /f: this extended attribute cannot be stored: system.posix_acl_access: this package writes no access control lists into EROFS: remove it from the tree": attributed("system.posix_acl_access", "x"),
		"build: EROFS: /f: this extended attribute cannot be stored: user.a with 65536 bytes: want at most 65535":                                                              attributed("user.a", strings.Repeat("v", 65536)),
	} {
		err := build.WriteEROFS(t.Context(), io.NewOffsetWriter(&file{}, 0), fstest.MapFS{"f": one}, build.EROFSOptions{TempDir: t.TempDir()})
		require.EqualError(t, err, want)
		require.ErrorIs(t, err, osmith.ErrXattr)
	}
}

// An initrd has no place for extended attributes.
func TestInitrdXattrs(t *testing.T) {
	err := build.WriteInitrd(context.Background(), &bytes.Buffer{}, fstest.MapFS{"bin/ping": attributed("security.capability", capability)}, osmith.TreeOptions{})
	require.EqualError(t, err, "build: initrd: bin/ping: this extended attribute cannot be stored: security.capability: the format has no extended attributes: remove it from the tree")
	require.ErrorIs(t, err, osmith.ErrXattr)
}

// AddValidateFS=yes gives what systemd-repart 262 gave for these definitions with Format=ext4, read
// with debugfs.
func TestDiskValidateFS(t *testing.T) {
	o := fillOptions(t)
	o.Layout = repart(t, map[string]string{
		"10-srv":  "Type=srv\nFormat=erofs\nAddValidateFS=yes\n",
		"11-home": "Type=home\nLabel=a \"b\" ü\nFormat=erofs\nMountPoint=/foo/bar\nMountPoint=/x:noatime\nAddValidateFS=yes\n",
		"12-any":  "Type=linux-generic\nFormat=erofs\nAddValidateFS=yes\n",
		"13-no":   "Type=home\nFormat=erofs\nAddValidateFS=no\n",
		"14-none": "Type=home\nFormat=erofs\n",
		"15-arm":  "Type=root-arm64\nFormat=erofs\nAddValidateFS=yes\n",
		"16-tmp":  "Type=tmp\nFormat=erofs\nAddValidateFS=yes\n",
		"18-boot": "Type=xbootldr\nFormat=erofs\nAddValidateFS=yes\n",
		"19-var":  "Type=var\nFormat=erofs\nAddValidateFS=yes\nCopyFiles=/etc:/\n",
		"60-root": "Type=root\nFormat=erofs\nVerity=data\nVerityMatchKey=x\nMinimize=best\nMountPoint=/m\nAddValidateFS=yes\n",
		"61-hash": "Type=root-verity\nVerity=hash\nVerityMatchKey=x\nMinimize=best\nLabel=hashes\n",
		"62-sig":  "Type=root-verity-sig\nVerity=signature\nVerityMatchKey=x\n",
	})
	o.Volumes = nil
	d, err := build.Disk(t.Context(), nil, o)
	require.NoError(t, err)
	attributes := func(label, kind, place string) map[string]string {
		m := map[string]string{"user.validatefs.gpt_label": label + "\x00", "user.validatefs.gpt_type_uuid": kind + "\x00"}
		if place != "" {
			m["user.validatefs.mount_point"] = place + "\x00"
		}
		return m
	}
	for i, want := range []map[string]string{
		attributes("srv", "3b8f8425-20e0-4f3b-907f-1a25a76f98e8", "/srv"),
		attributes("a \"b\" ü", "933ac7e1-2eb4-4f13-b844-0e14e2aef915", "/foo/bar\x00/x"),
		attributes("linux-generic", "0fc63daf-8483-4772-8e79-3d69d8477de4", ""),
		nil,
		nil,
		attributes("root-arm64", "b921b045-1df0-41c3-af44-4c6f280d3fae", "/"),
		attributes("tmp", "7ec6f557-3bc5-4aca-b293-16ef5df639d1", "/var/tmp"),
		attributes("xbootldr", "bc13c2ff-59e6-4262-a352-b275fd6f7172", "/boot"),
		attributes("var", "4d21b016-b534-45c2-a9fb-5c16e091fd2d", "/var"),
		attributes("hashes\x00root-x86-64\x00root-x86-64-verity-sig",
			"2c7357ed-ebd2-46d9-aec1-23d437ec2bf5\x0041092b05-9fc8-4523-994f-2def0408b176\x004f68bce3-e8cd-4db1-96e7-fbcaf984b709", "/m"),
	} {
		require.Equal(t, want, erofsXattrs(t, d.Content(i), "."), "partition %d", i)
	}
}

// A tree of the host keeps its extended attributes in each file system, if asked to.
func TestDiskXattrs(t *testing.T) {
	for _, keep := range []bool{false, true} {
		o := fillOptions(t)
		o.Host = fstest.MapFS{"usr/bin/ping": attributed("security.capability", capability)}
		o.Tree.KeepXattrs = keep
		o.Layout = repart(t, map[string]string{"20-usr": "Type=usr\nFormat=erofs\nCopyFiles=/usr:/\n"})
		o.Volumes = nil
		d, err := build.Disk(t.Context(), nil, o)
		require.NoError(t, err)
		require.Equal(t, map[string]string{"security.capability": capability}, erofsXattrs(t, d.Content(0), "bin/ping"), "it is that of a Node")
	}
}
