package partition

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/testtools"
)

func TestKernelChanges(t *testing.T) {
	part := func(n byte, number int, first, last uint64) Partition {
		return Partition{Type: LinuxGeneric, ID: idN(n), Number: number, Name: string('a' + rune(n)), FirstLBA: first, LastLBA: last}
	}
	table := &Table{DiskID: diskID, SectorSize: 4096, Size: 1 << 30, Partitions: []Partition{
		part(1, 1, 256, 511),   // stays
		part(2, 2, 512, 1023),  // shrinks
		part(3, 3, 1280, 2047), // moves
		part(4, 5, 2304, 4095), // grows
		part(5, 0, 1024, 1279), // is new: number 4
	}}
	have := []extent{{1, 1 << 20, 1 << 20}, {2, 2 << 20, 3 << 20}, {3, 6 << 20, 2 << 20}, {5, 9 << 20, 1 << 20}, {7, 20 << 20, 1 << 20}}
	h, _, err := table.geometry()
	require.NoError(t, err)
	numbers, err := table.numbers(h)
	require.NoError(t, err)
	require.Equal(t, []kernelChange{
		{unix.BLKPG_DEL_PARTITION, have[2], "d"},
		{unix.BLKPG_DEL_PARTITION, have[4], ""},
		{unix.BLKPG_RESIZE_PARTITION, extent{2, 2 << 20, 2 << 20}, "c"},
		{unix.BLKPG_ADD_PARTITION, extent{3, 5 << 20, 3 << 20}, "d"},
		{unix.BLKPG_ADD_PARTITION, extent{4, 4 << 20, 1 << 20}, "f"},
		{unix.BLKPG_RESIZE_PARTITION, extent{5, 9 << 20, 7 << 20}, "e"},
	}, kernelChanges(have, table, numbers))
}

// struct blkpg_partition: long long start, length; int pno; char devname[64], volname[64].
func TestKernelArgument(t *testing.T) {
	c := kernelChange{unix.BLKPG_ADD_PARTITION, extent{3, 5 << 20, 3 << 20}, "name"}
	arg := c.arg()
	b := unsafe.Slice((*byte)(unsafe.Pointer(&arg)), unsafe.Sizeof(arg))
	want := 8 + 8 + 4 + 64 + 64
	if unsafe.Alignof(arg) == 8 {
		want += 4
	}
	require.Len(t, b, want)
	require.Equal(t, "\x00\x00\x50\x00\x00\x00\x00\x00"+"\x00\x00\x30\x00\x00\x00\x00\x00"+"\x03\x00\x00\x00"+strings.Repeat("\x00", want-20), string(b))
	require.EqualValues(t, 0x1269, unix.BLKPG)
	require.Equal(t, []string{"adding", "removing", "resizing"}, []string{
		(&kernelChange{op: 1}).verb(), (&kernelChange{op: 2}).verb(), (&kernelChange{op: 3}).verb()})
}

func TestKernelPartitions(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"sda1/partition": "1\n", "sda1/start": "2048\n", "sda1/size": "4096\n", "sda1/dev": "8:1\n", "queue/size": "9"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	got, err := kernelPartitions(dir)
	require.NoError(t, err)
	require.Equal(t, []extent{{1, 1 << 20, 2 << 20}}, got)
	_, err = kernelPartitions(filepath.Join(dir, "missing"))
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "sda1/size"), []byte("-"), 0o644))
	_, err = kernelPartitions(dir)
	require.Error(t, err)
	f, err := os.Open(filepath.Join(dir, "sda1/size"))
	require.NoError(t, err)
	defer f.Close()
	require.ErrorContains(t, UpdateKernel(f, &Table{}), "not a block device")
}

// A real disk, where a loop device can be had: a partition in use stays while others come, grow and
// go.
func TestUpdateKernel(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root and a loop device")
	}
	_, d := image(t, abLayout())
	name := dump(t, d)
	out, err := testtools.Try(t, "losetup", "--find", "--show", "--partscan", name)
	if err != nil {
		t.Skipf("no loop device: %v: %s", err, out)
	}
	loop := strings.TrimSpace(out)
	t.Cleanup(func() { testtools.Run(t, "losetup", "--detach", loop) })
	disk, err := os.OpenFile(loop, os.O_RDWR, 0)
	require.NoError(t, err)
	defer disk.Close()
	device, err := osmith.NewDevice(disk)
	require.NoError(t, err)
	table, err := Read(device, ReadOptions{})
	require.NoError(t, err)
	known := func() []extent {
		have, err := kernelPartitions("/sys/class/block/" + filepath.Base(loop))
		require.NoError(t, err)
		return have
	}
	h, _, err := table.geometry()
	require.NoError(t, err)
	agreed := func() bool {
		numbers, err := table.numbers(h)
		require.NoError(t, err)
		return len(kernelChanges(known(), table, numbers)) == 0
	}
	if err := UpdateKernel(disk, table); err != nil {
		t.Skipf("the loop device takes no partitions: %v", err)
	}
	require.True(t, agreed(), known())
	busy, err := os.OpenFile(loop+"p1", os.O_RDONLY|unix.O_EXCL, 0)
	if err != nil {
		t.Skipf("no device nodes for partitions: %v", err)
	}
	defer busy.Close()
	table.Partitions[5].LastLBA -= 2048
	table.Partitions = append(table.Partitions[:3:3], table.Partitions[4:]...)
	require.NoError(t, table.Write(disk))
	require.NoError(t, UpdateKernel(disk, table), "p1 is in use and does not change")
	require.True(t, agreed(), known())
	esp := table.Partitions[0]
	table.Partitions = table.Partitions[1:]
	err = UpdateKernel(disk, table)
	require.ErrorIs(t, err, syscall.EBUSY)
	var entry *EntryError
	require.ErrorAs(t, err, &entry)
	require.Equal(t, 1, entry.Number)
	table.Partitions = append([]Partition{esp}, table.Partitions...)
	require.True(t, agreed(), known())
}
