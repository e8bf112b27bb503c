package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/internal/espvolume"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/partition"
)

// A copy of efivarfs is read and written like the one of this machine. A variable of the loader
// that is not understood is no reason to guess.
func TestCopyOfEFIVarFS(t *testing.T) {
	b := newBench(t)
	b.image("disk.img", b.fat(partition.ESP, "esp", three()))
	b.file("new", petest.Loader("262-1"))
	name := "vars/LoaderEntryDefault-" + vendor.String()
	b.file(name, append([]byte{7, 0, 0, 0}, efi.AppendUTF16(nil, "os_1.efi\x00")...))
	require.Equal(t, "os_1.efi", object[listResult](b, 0, "list -esp @disk.img -vars @vars").Default)
	out := object[installResult](b, 0, "install -esp @disk.img -vars @vars -boot-option -random-seed -loader @new")
	require.Empty(t, out.Option.Refused)
	require.Equal(t, "written", out.SystemToken)
	v, err := bootloader.ReadVariables(os.DirFS(filepath.Join(b.dir, "vars")))
	require.NoError(t, err)
	require.Equal(t, []uint16{out.Option.Number}, v.Order)

	b.file("vars/BootOrder-8be4df61-93ca-11d2-aa0d-00e098032b8c", []byte{7, 0, 0, 0, 1})
	_, stderr := b.want(0, "list -esp @disk.img -vars @vars")
	require.Contains(t, stderr, "BootOrder")
	b.file(name, []byte{7, 0, 0, 0, 1})
	b.refused(2, "LoaderEntryDefault", "list -esp @disk.img -vars @vars")
	b.refused(2, "no such file", "list -esp @disk.img -vars @none")
}

// The option of a mounted ESP names its partition, which a directory of another file system has
// none of.
func TestDirectoryIsNoMountPoint(t *testing.T) {
	b := newBench(t)
	b.directory("efi", nil)
	c := callOf(t)
	defer c.Close()
	_, err := espvolume.FindMounted(c, filepath.Join(b.dir, "efi"))
	require.Error(t, err)
}
