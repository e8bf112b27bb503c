package build_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	backend "github.com/diskfs/go-diskfs/backend/file"
	diskfs "github.com/diskfs/go-diskfs/filesystem/ext4"
	diskfssquash "github.com/diskfs/go-diskfs/filesystem/squashfs"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/luks"
	"github.com/osmith-dev/osmith/verity"
)

// ext4Disk has ext4 in each of the places that a layout may ask for: as the data of a dm-verity
// volume, filling a partition of a size, as small as it gets, and in an encrypted volume.
func ext4Disk(t *testing.T) *build.DiskImage {
	t.Helper()
	o := fillOptions(t)
	o.Layout = repart(t, map[string]string{
		"20-root":   "Type=root\nFormat=ext4\nCopyFiles=/usr:/usr\nCopyFiles=/etc:/etc\nExcludeFiles=/usr/share/doc/\nMakeSymlinks=/bin:usr/bin\nVerity=data\nVerityMatchKey=root\nMinimize=guess\n",
		"21-verity": "Type=root-verity\nVerity=hash\nVerityMatchKey=root\nMinimize=best\n",
		"30-var":    "Type=var\nLabel=a-label-that-is-too-long\nFormat=ext4\nCopyFiles=/etc:/lib\nMakeDirectories=/log\nSizeMinBytes=3G\nSizeMaxBytes=3G\n",
		"40-srv":    "Type=srv\nFormat=ext4\nCopyFiles=/usr:/\nMinimize=guess\n",
		"50-home":   "Type=home\nFormat=ext4\nEncrypt=key-file\nKeyFile=/keys/home\nSizeMinBytes=48M\nSizeMaxBytes=48M\n",
	})
	o.Volumes = map[string]build.Volume{"50-home": {Format: luks.FormatOptions{Rand: rand.NewChaCha8([32]byte{}), Key: luks.KeyOptions{KDF: luks.KDF{Type: luks.PBKDF2, Iterations: 1000}}}}}
	d, err := build.Disk(t.Context(), nil, o)
	require.NoError(t, err)
	return d
}

// saved is a source as a file.
func saved(t *testing.T, name string, src osmith.Source) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	f, err := os.Create(name)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, f.Truncate(src.Size()))
	b := make([]byte, 1<<20)
	for off := int64(0); off < src.Size(); off += int64(len(b)) {
		n, err := src.ReadAt(b[:min(int64(len(b)), src.Size()-off)], off)
		require.NoError(t, err)
		if !bytes.Equal(b[:n], make([]byte, n)) {
			_, err = f.WriteAt(b[:n], off)
			require.NoError(t, err)
		}
	}
	return name
}

// ext4Parts are the file systems of ext4Disk as files, the encrypted one decrypted.
func ext4Parts(t *testing.T, d *build.DiskImage) map[string]string {
	t.Helper()
	disk := written(t, d)
	table, err := partition.Read(disk, partition.ReadOptions{})
	require.NoError(t, err)
	volume, err := luks.OpenReader(table.Section(disk, 4))
	require.NoError(t, err)
	key, err := volume.Unlock([]byte("secret"), luks.UnlockOptions{})
	require.NoError(t, err)
	inside, err := volume.NewReader(key)
	require.NoError(t, err)
	return map[string]string{
		"root": saved(t, "root", table.Section(disk, 0)), "var": saved(t, "var", table.Section(disk, 2)),
		"srv": saved(t, "srv", table.Section(disk, 3)), "home": saved(t, "home", inside),
	}
}

func TestDiskExt4(t *testing.T) {
	d := ext4Disk(t)
	require.NoError(t, verity.Verify(t.Context(), d.Content(0), d.Content(1), d.RootHashes["root"]))
	parts := ext4Parts(t, d)
	for part, paths := range map[string][]string{
		"root": {"usr/bin/tool", "etc/os-release"}, "var": {"lib/os-release"}, "srv": {"bin/tool"}, "home": {},
	} {
		f, err := os.Open(parts[part])
		require.NoError(t, err)
		defer f.Close()
		info, err := f.Stat()
		require.NoError(t, err)
		made, err := diskfs.Read(backend.New(f, true), info.Size(), 0, 512)
		require.NoError(t, err, part)
		for _, path := range paths {
			got, err := made.ReadFile(path)
			require.NoError(t, err, "%s %s", part, path)
			require.NotEmpty(t, got)
			for _, name := range []string{path, "etc/" + filepath.Base(path), "usr/" + path} {
				if want := host[name]; want != nil {
					require.Equal(t, want.Data, got, "%s %s", part, path)
				}
			}
		}
		label := map[string]string{"root": "root-x86-64", "var": "a-label-that-is-", "srv": "srv", "home": "home"}[part]
		require.Equal(t, label, made.Label())
	}
	_, size := d.Table.Extent(3)
	require.EqualValues(t, 32<<20, size, "systemd-repart makes no smaller ext4")
}

// A squashfs is compressed as its definition says, and under a hash tree.
func TestDiskSquashfs(t *testing.T) {
	const gzip, zstd = 1, 6 // numbers of the superblock
	for how, number := range map[string]byte{"": gzip, "Compression=gzip\nCompressionLevel=1\n": gzip, "Compression=zstd\n": zstd, "Compression=none\n": gzip} {
		o := fillOptions(t)
		o.Layout = repart(t, map[string]string{
			"20-usr":    "Type=usr\nFormat=squashfs\nCopyFiles=/usr:/\nMakeSymlinks=/sbin:bin\nVerity=data\nVerityMatchKey=usr\nMinimize=best\n" + how,
			"21-verity": "Type=usr-verity\nVerity=hash\nVerityMatchKey=usr\nMinimize=best\n",
		})
		o.Volumes = nil
		d, err := build.Disk(t.Context(), nil, o)
		require.NoError(t, err, how)
		require.NoError(t, verity.Verify(t.Context(), d.Content(0), d.Content(1), d.RootHashes["usr"]))
		require.Equal(t, number, contentOf(t, d.Content(0))[20], how)
		name := saved(t, "usr", d.Content(0))
		f, err := os.Open(name)
		require.NoError(t, err)
		defer f.Close()
		made, err := diskfssquash.Read(backend.New(f, true), d.Content(0).Size(), 0, 4096)
		require.NoError(t, err, how)
		got, err := made.ReadFile("bin/tool")
		require.NoError(t, err)
		require.Equal(t, host["usr/bin/tool"].Data, got)
	}
}
