package luks

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/partition"
)

// A file system that systemd-repart has put into an encrypted partition is one after we decrypted
// it, and again after we have encrypted it in a volume of our own.
func TestRepart(t *testing.T) {
	root := testtools.Forky(t)
	testtools.Require(t, "e2fsck")
	testtools.Require(t, "debugfs")
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "repart.d"), 0o755))
	writeFile(t, filepath.Join(dir, "repart.d", "var.conf"), []byte("[Partition]\nType=var\nCopyBlocks="+dir+"/ext4\nEncrypt=key-file\nSizeMinBytes=40M\nSizeMaxBytes=40M\n"))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "content"), 0o755))
	writeFile(t, filepath.Join(dir, "content", "file"), []byte("what is in it"))
	testtools.Run(t, "mkfs.ext4", "-q", "-b", "4096", "-d", filepath.Join(dir, "content"), filepath.Join(dir, "ext4"), "20M")
	writeFile(t, filepath.Join(dir, "key"), correctHorse)
	root.Run(t, dir, "systemd-repart", "--empty=create", "--size=auto", "--offline=yes", "--dry-run=no", "--definitions="+dir+"/repart.d",
		"--key-file="+dir+"/key", "--seed=2f6b7b9a-5f0c-4b5e-9f86-0d1b8e3b7a10", dir+"/disk.img")
	disk, err := osmith.OpenFile(filepath.Join(dir, "disk.img"))
	require.NoError(t, err)
	defer disk.Close()
	table, err := partition.Read(disk, partition.ReadOptions{})
	require.NoError(t, err)
	v, err := OpenReader(table.Window(disk, 0))
	require.NoError(t, err)
	key, err := v.Unlock(correctHorse, UnlockOptions{})
	require.NoError(t, err)
	r, err := v.NewReader(key)
	require.NoError(t, err)
	fsck := func(r osmith.Source) {
		t.Helper()
		name := filepath.Join(t.TempDir(), "ext4")
		f, err := os.Create(name)
		require.NoError(t, err)
		_, err = io.Copy(f, io.NewSectionReader(r, 0, r.Size()))
		require.NoError(t, err)
		require.NoError(t, f.Close())
		testtools.Run(t, "e2fsck", "-fn", name)
		require.Contains(t, testtools.Run(t, "debugfs", "-R", "cat /file", name), "what is in it")
	}
	fsck(r)

	o := small(1)
	o.SectorSize = 4096
	im, err := NewImage(r, 0, correctHorse, o, nil)
	require.NoError(t, err)
	again, err := OpenReader(im)
	require.NoError(t, err)
	key, err = again.Unlock(correctHorse, UnlockOptions{})
	require.NoError(t, err)
	r, err = again.NewReader(key)
	require.NoError(t, err)
	fsck(r)
}
