package ext4_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/diskfs/go-diskfs/backend/file"
	diskfs "github.com/diskfs/go-diskfs/filesystem/ext4"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/partition/ext4"
)

// An access control list as getxattr(2) has it, and as ext4 stores it: rw- for the owner, r-- for
// user 1000, the group, the mask and others.
const (
	acl    = "\x02\x00\x00\x00" + "\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\xe8\x03\x00\x00" + "\x04\x00\x04\x00\xff\xff\xff\xff" + "\x10\x00\x04\x00\xff\xff\xff\xff" + "\x20\x00\x04\x00\xff\xff\xff\xff"
	stored = "\x01\x00\x00\x00" + "\x01\x00\x06\x00" + "\x02\x00\x04\x00\xe8\x03\x00\x00" + "\x04\x00\x04\x00" + "\x10\x00\x04\x00" + "\x20\x00\x04\x00"
)

const label = "system_u:object_r:bin_t:s0\x00"

// attributed has a file of each kind with extended attributes, of sizes up to what an inode has
// room for, and up to a block.
func attributed() (fstest.MapFS, map[string]map[string]string) {
	of := map[string]map[string]string{
		"ping":    {"security.capability": "\x01\x00\x00\x02\x00\x20" + strings.Repeat("\x00", 14), "security.selinux": label},
		"dir":     {"security.selinux": label, "user.a": "", "trusted.overlay.opaque": "y"},
		"link":    {"security.selinux": label},
		"null":    {"security.selinux": label},
		"pipe":    {"security.selinux": label},
		"acl":     {"system.posix_acl_access": acl, "user.b": "x"},
		"dir/sub": {"system.posix_acl_access": acl, "system.posix_acl_default": acl},
		// 92 bytes behind the fields of an inode: 4 at the end, 16 and 4 for the entry.
		"fits":     {"user.name": string(content(68))},
		"apart":    {"user.name": string(content(69))},
		"block":    {"user.name": string(content(4032 - 4 - 20 - 16 - 4 + 32)), "user.x": ""},
		"longname": {"user." + strings.Repeat("n", 250): "long", "user.ab": "1", "user.b": "2", "trusted.a": "3", "security.zzz": "4"},
	}
	tree := fstest.MapFS{}
	for name, attributes := range of {
		node := &osmith.Node{Xattrs: map[string][]byte{}}
		for k, v := range attributes {
			node.Xattrs[k] = []byte(v)
		}
		tree[name] = &fstest.MapFile{Mode: 0o644, Data: content(5000), Sys: node}
	}
	for name, mode := range map[string]fs.FileMode{"dir": fs.ModeDir, "dir/sub": fs.ModeDir, "link": fs.ModeSymlink, "null": fs.ModeDevice | fs.ModeCharDevice, "pipe": fs.ModeNamedPipe} {
		tree[name].Mode, tree[name].Data = mode|0o755, nil
	}
	tree["link"].Data = []byte(strings.Repeat("l", 100))
	return tree, of
}

// go-diskfs reads what was written, an access control list as it is stored.
func TestXattrs(t *testing.T) {
	tree, of := attributed()
	name, size := image(t, tree, ext4.Options{})
	readBack(t, name, size, tree)
	f, err := os.Open(name)
	require.NoError(t, err)
	defer f.Close()
	made, err := diskfs.Read(file.New(f, true), size, 0, 512)
	require.NoError(t, err)
	for path, want := range of {
		got, err := made.GetXattr(path)
		require.NoError(t, err, path)
		for k, v := range want {
			if v == acl {
				v = stored
			}
			require.Equal(t, v, string(got[k]), "%s: %s", path, k) // it leaves empty values out
			delete(got, k)
		}
		require.Empty(t, got, path)
	}
	again, _ := image(t, tree, ext4.Options{})
	one, err := os.ReadFile(name)
	require.NoError(t, err)
	two, err := os.ReadFile(again)
	require.NoError(t, err)
	require.True(t, bytes.Equal(one, two), "the same tree gives the same bytes")
}

// e2fsck checks hashes, checksums and counts of blocks, debugfs reads the values.
func TestXattrsOfDebugfs(t *testing.T) {
	tree, of := attributed()
	tree["."] = &fstest.MapFile{Mode: fs.ModeDir | 0o755, Sys: &osmith.Node{Xattrs: map[string][]byte{"user.validatefs.mount_point": []byte("/srv")}}}
	of["."] = map[string]string{"user.validatefs.mount_point": "/srv"}
	for _, o := range []ext4.Options{{}, {Size: 64 << 20, UUID: id}} {
		name, _ := image(t, tree, o)
		fsck(t, name)
		for path, attributes := range of {
			list := debugfs(t, name, "ea_list /"+path)
			require.Equal(t, len(attributes), strings.Count(list, "\n  "), "%s: %s", path, list)
			for k, v := range attributes {
				out := filepath.Join(t.TempDir(), "value")
				debugfs(t, name, fmt.Sprintf("ea_get -f %s /%s %s", out, path, k))
				got, err := os.ReadFile(out)
				require.NoError(t, err, "%s %s", path, k)
				if v == acl { // e2fsprogs gives unnamed entries the ID 0
					v = strings.ReplaceAll(v, "\xff\xff\xff\xff", "\x00\x00\x00\x00")
				}
				require.Equal(t, v, string(got), "%s %s", path, k)
			}
		}
	}
}

func TestXattrsRefused(t *testing.T) {
	for _, row := range []struct {
		mode             fs.FileMode
		name, value, err string
	}{
		{0, "a", "", `ext4: /f: this extended attribute cannot be stored: "a": want user., trusted. or security. and a name, or an access control list`},
		{0, "user.", "", `"user.": want user., trusted.`},
		{0, "system.data", "", `"system.data": want user., trusted.`},
		{0, "system.posix_acl_access.x", "", "want user., trusted."},
		{0, "user.a\x00", "", "want user., trusted."},
		{fs.ModeSymlink, "user.a", "", `"user.a": Linux has it for regular files and directories only`},
		{0, "user." + strings.Repeat("n", 251), "", "a name of 256 bytes: want at most 255"},
		{0, "user.a", strings.Repeat("v", 65537), "user.a with 65537 bytes: want at most 65536"},
		{0, "user.abcd", strings.Repeat("v", 4041), "all of a file take 4068 bytes: want at most 4064"},
		{0, "system.posix_acl_access", "", "system.posix_acl_access: 0 bytes: want an access control list of version 2"},
		{0, "system.posix_acl_access", stored, "want an access control list of version 2"},
		{0, "system.posix_acl_access", acl[:9], "9 bytes: want an access control list"},
	} {
		tree := fstest.MapFS{"f": {Mode: row.mode | 0o644, Data: []byte("x"), Sys: &osmith.Node{Xattrs: map[string][]byte{row.name: []byte(row.value)}}}}
		_, err := ext4.MinSize(t.Context(), tree, ext4.Options{})
		require.ErrorContains(t, err, row.err)
		require.ErrorIs(t, err, osmith.ErrXattr)
	}
}
