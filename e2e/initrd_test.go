package e2e

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/erofs/go-erofs"
	"github.com/stretchr/testify/require"
)

func fakeModules(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	write("modules.dep", "kernel/md/dm-verity.ko: kernel/md/dm-bufio.ko kernel/md/dm-mod.ko\n"+
		"kernel/md/dm-bufio.ko: kernel/md/dm-mod.ko\nkernel/md/dm-mod.ko:\n")
	write("modules.builtin", "kernel/virtio/virtio_pci.ko\nkernel/block/virtio_blk.ko\nkernel/fs/erofs.ko\nkernel/tpm/tpm_tis.ko\n"+
		"kernel/fs/efivarfs.ko\nkernel/fs/vfat.ko\nkernel/nls/nls_cp437.ko\nkernel/nls/nls_ascii.ko\n")
	for _, name := range []string{"dm-verity", "dm-bufio", "dm-mod"} {
		write("kernel/md/"+name+".ko", "ELF of "+name)
	}
	return dir
}

func TestModuleClosure(t *testing.T) {
	tree, err := readModuleTree(fakeModules(t))
	require.NoError(t, err)
	files, err := tree.closure(GuestModules)
	require.NoError(t, err)
	require.Equal(t, []string{"kernel/md/dm-mod.ko", "kernel/md/dm-bufio.ko", "kernel/md/dm-verity.ko"}, files)

	_, err = tree.closure([]string{"zfs"})
	require.True(t, errors.Is(err, ErrNoModule), err)
	_, err = readModuleTree(t.TempDir())
	require.ErrorContains(t, err, "depmod")
}

func TestInitrd(t *testing.T) {
	guest := filepath.Join(t.TempDir(), "guest")
	require.NoError(t, os.WriteFile(guest, []byte("#!guest"), 0o755))
	dir := fakeModules(t)
	one, err := Initrd(guest, dir)
	require.NoError(t, err)
	two, err := Initrd(guest, dir)
	require.NoError(t, err)
	require.Equal(t, one, two)

	z, err := gzip.NewReader(bytes.NewReader(one))
	require.NoError(t, err)
	raw, err := io.ReadAll(z)
	require.NoError(t, err)
	require.Contains(t, string(raw), "/modules/dm_mod.ko\n/modules/dm_bufio.ko\n/modules/dm_verity.ko\n")
	require.Equal(t, []string{"dev", "dev/console", "init", "modules", "modules/dm_bufio.ko", "modules/dm_mod.ko", "modules/dm_verity.ko", "modules.list", "proc", "run", "sys", "sysroot", "TRAILER!!!"},
		cpioNames(t, raw))
}

// cpioNames walks an archive by its own sizes and expects it to end with the
// trailer. That the kernel unpacks it is for the boots to show.
func cpioNames(t *testing.T, b []byte) []string {
	t.Helper()
	field := func(i int) int {
		v, err := strconv.ParseUint(string(b[6+8*i:14+8*i]), 16, 32)
		require.NoError(t, err)
		return int(v)
	}
	var names []string
	for len(b) > 0 {
		require.Equal(t, "070701", string(b[:6]))
		size, name := field(6), field(11)
		names = append(names, string(b[110:110+name-1]))
		b = b[(110+name+3)&^3:]
		b = b[(size+3)&^3:]
	}
	return names
}

func TestWriteRoot(t *testing.T) {
	guest := filepath.Join(t.TempDir(), "guest")
	require.NoError(t, os.WriteFile(guest, bytes.Repeat([]byte("guest"), 3000), 0o755))
	r := Root{Guest: guest, OSRelease: []byte("ID=osmith\nIMAGE_VERSION=1\n"), Payload: 10000, Seed: "1"}
	var images [][]byte
	for range 2 {
		f, err := os.Create(filepath.Join(t.TempDir(), "root.erofs"))
		require.NoError(t, err)
		defer f.Close()
		require.NoError(t, WriteRoot(f, r))
		b, err := os.ReadFile(f.Name())
		require.NoError(t, err)
		images = append(images, b)
	}
	require.Equal(t, images[0], images[1])

	img, err := erofs.Open(bytes.NewReader(images[0]))
	require.NoError(t, err)
	f, err := img.Open(PayloadName[1:])
	require.NoError(t, err)
	defer f.Close()
	got, err := io.ReadAll(f)
	require.NoError(t, err)
	require.Len(t, got, 10000)
	require.Equal(t, PayloadBlock("1", 1), got[4096:8192])
	require.Equal(t, 1, bytes.Count(images[0], PayloadBlock("1", 0)))
	require.NotEqual(t, PayloadBlock("1", 0), PayloadBlock("2", 0))
}
