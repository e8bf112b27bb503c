package uki_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/uki"
)

func names(files []uki.CompanionFile) string {
	var out []string
	for _, f := range files {
		out = append(out, f.Name)
	}
	return strings.Join(out, " ")
}

func TestReadCompanions(t *testing.T) {
	tree := fstest.MapFS{}
	for _, path := range []string{
		"EFI/Linux/os_2.efi.extra.d/b.cred", "EFI/Linux/os_2.efi.extra.d/A.CRED", "EFI/Linux/os_2.efi.extra.d/.hidden.cred",
		"EFI/Linux/os_2.efi.extra.d/ü.cred", "EFI/Linux/os_2.efi.extra.d/dir.cred/x", "EFI/Linux/os_2.efi.extra.d/readme.txt",
		"EFI/Linux/os_2.efi.extra.d/" + strings.Repeat("x", 251) + ".cred", "EFI/Linux/os_2.efi.extra.d/x.raw",
		"EFI/Linux/os_2.efi.extra.d/x.sysext.raw", "EFI/Linux/os_2.efi.extra.d/x.Confext.Raw", "EFI/Linux/os_2.efi.extra.d/l.addon.efi",
		"EFI/Linux/os_2.efi.extra.d/l.efi",
		"LOADER/Credentials/g.cred", "LOADER/Credentials/g.raw", "LOADER/extensions/g.raw", "LOADER/extensions/g.confext.raw",
		"LOADER/extensions/g.cred", "LOADER/addons/g.addon.efi", "LOADER/addons/g.raw",
	} {
		tree[path] = &fstest.MapFile{Data: []byte(path)}
	}
	for _, image := range []string{"EFI/Linux/os_2.efi", "efi/LINUX/os_2+3-1.efi", "EFI/Linux/os_2+0.efi"} {
		c, err := uki.ReadCompanions(tree, image)
		require.NoError(t, err)
		require.Equal(t, strings.Contains(image, "+"), c.Counted)
		require.Equal(t, "A.CRED b.cred", names(c.Credentials))
		require.Equal(t, "g.cred", names(c.GlobalCredentials))
		require.Equal(t, "x.raw x.sysext.raw", names(c.Sysexts))
		require.Equal(t, "g.raw", names(c.GlobalSysexts))
		require.Equal(t, "x.Confext.Raw", names(c.Confexts))
		require.Equal(t, "g.confext.raw", names(c.GlobalConfexts))
		require.Equal(t, "l.addon.efi", names(c.Addons))
		require.Equal(t, "g.addon.efi", names(c.GlobalAddons))
		b, err := io.ReadAll(io.NewSectionReader(c.Sysexts[1].Content, 4, 9))
		require.NoError(t, err)
		require.Equal(t, "EFI/Linux/os_2.efi.extra.d/x.sysext.raw"[4:13], string(b))
	}
	for _, image := range []string{"EFI/Linux/os_2+3-.efi", "EFI/Linux/os_2+a.efi", "EFI/Linux/os_2+3x.efi", "other.efi"} {
		c, err := uki.ReadCompanions(tree, image)
		require.NoError(t, err)
		require.Empty(t, c.Credentials, image)
		require.False(t, c.Counted)
		require.NotEmpty(t, c.GlobalCredentials)
	}
	for _, image := range []string{"", ".", "/x.efi", "../x.efi"} {
		_, err := uki.ReadCompanions(tree, image)
		require.ErrorContains(t, err, "not a path within the partition")
	}
	c, err := uki.ReadCompanions(fstest.MapFS{}, "x.efi")
	require.NoError(t, err)
	require.Equal(t, &uki.Companions{}, c)
}

func TestReadCompanionsOfDirectory(t *testing.T) {
	dir := t.TempDir()
	extra := filepath.Join(dir, "x.efi.extra.d")
	require.NoError(t, os.MkdirAll(extra, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(extra, "a.cred"), []byte("secret"), 0o600))
	c, err := uki.ReadCompanions(os.DirFS(dir), "x.efi")
	require.NoError(t, err)
	require.Equal(t, "a.cred", names(c.Credentials))
	content := c.Credentials[0].Content
	require.EqualValues(t, 6, content.Size())
	var b [4]byte
	n, err := content.ReadAt(b[:], 3)
	require.Equal(t, "ret", string(b[:n]))
	require.Equal(t, io.EOF, err)
	require.NoError(t, os.Remove(filepath.Join(extra, "a.cred")))
	_, err = content.ReadAt(b[:], 0)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// sequential has files that offer nothing but Read.
type sequential struct{ fs.FS }

type plainFile struct{ fs.File }

func (s sequential) Open(name string) (fs.File, error) {
	f, err := s.FS.Open(name)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return f, nil
	}
	return plainFile{f}, nil
}

func TestReadCompanionsSequentially(t *testing.T) {
	tree := sequential{fstest.MapFS{"loader/credentials/a.cred": {Data: []byte("0123456789")}}}
	c, err := uki.ReadCompanions(tree, "x.efi")
	require.NoError(t, err)
	b := make([]byte, 4)
	n, err := c.GlobalCredentials[0].Content.ReadAt(b, 2)
	require.NoError(t, err)
	require.Equal(t, "2345", string(b[:n]))
	n, err = c.GlobalCredentials[0].Content.ReadAt(b, 8)
	require.True(t, errors.Is(err, io.EOF))
	require.Equal(t, "89", string(b[:n]))
}

func TestEntryExtras(t *testing.T) {
	h, err := uki.EntryExtras([]uki.CompanionFile{
		companion("b.sysext.raw", "image"), companion("z.cred", "1"), companion("A.CRED", "22"), companion("empty.cred", ""),
		companion("plain.raw", "x"), companion("ü.cred", "x"), companion(".cred", "3"), companion("c.confext.raw", "x"),
	}, strings.NewReader("12345"))
	require.NoError(t, err)
	require.Equal(t, "12 Entry credentials initrd; 13 Entry system extension initrd; 12 Entry configuration extension initrd", eventText(h))
	require.Equal(t, "previous initrd; Entry credentials initrd; Entry system extension initrd; Entry configuration extension initrd", initrdText(h))
	// Inodes count through all archives, in the order of the lines; directories are repeated.
	for i, want := range []string{
		"00000004 .extra; 00000005 .extra/credentials; 00000006 .extra/credentials/z.cred; 00000007 .extra; 00000008 .extra/credentials; 00000009 .extra/credentials/A.CRED; 0000000a .extra; 0000000b .extra/credentials; 0000000c .extra/credentials/.cred; 00000000 TRAILER!!!",
		"00000001 .extra; 00000002 .extra/sysext; 00000003 .extra/sysext/b.sysext.raw; 00000000 TRAILER!!!",
		"0000000d .extra; 0000000e .extra/confext; 0000000f .extra/confext/c.confext.raw; 00000000 TRAILER!!!",
	} {
		data, err := io.ReadAll(io.NewSectionReader(h.Events[i].Data, 0, h.Events[i].Data.Size()))
		require.NoError(t, err)
		var have []string
		for _, m := range regexp.MustCompile(`070701(\w{8})\w{96}([^\x00]*)`).FindAllStringSubmatch(string(data), -1) {
			have = append(have, m[1]+" "+m[2])
		}
		require.Equal(t, want, strings.Join(have, "; "))
	}

	f := stubImage(t, 262, ".initrd", "initrd")
	handover, err := f.Handover(uki.Boot{Previous: h.Initrd()})
	require.NoError(t, err)
	require.Equal(t, "previous initrd; .initrd", initrdText(handover))

	h, err = uki.EntryExtras([]uki.CompanionFile{companion("plain.raw", "x")}, strings.NewReader("12345"))
	require.NoError(t, err)
	require.Equal(t, new(uki.Handover), h)
	_, err = uki.EntryExtras([]uki.CompanionFile{{Name: "x.cred"}}, nil)
	require.ErrorIs(t, err, uki.ErrMissing)
}
