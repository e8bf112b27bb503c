package partition

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
)

// What another GPT library was found to do wrong, each as a test of ours. Headers that lie are in
// TestHostileHeaders, I/O errors in TestReadErrors, disks that grew in TestFindBackup, tables moved
// by sgdisk -j in TestMovedTable.
func TestDefectsSeenElsewhere(t *testing.T) {
	part := func(first, last uint64) Partition {
		return Partition{Type: LinuxGeneric, ID: idN(byte(first >> 8)), Name: "p", FirstLBA: first, LastLBA: last}
	}
	table := func(ss int, size int64, parts ...Partition) *Table {
		return &Table{DiskID: diskID, SectorSize: ss, Size: size, Partitions: parts}
	}
	refused := func(t *testing.T, want error, table *Table) {
		t.Helper()
		d := faultio.NewDisk(table.Size)
		d.Record()
		require.ErrorIs(t, table.Write(d), want)
		require.Empty(t, d.Writes())
	}
	t.Run("overlap", func(t *testing.T) {
		refused(t, ErrOverlap, table(512, 16<<20, part(2048, 4096), part(4096, 8191)))
	})
	t.Run("past the end", func(t *testing.T) {
		refused(t, ErrRange, table(512, 16<<20, part(2048, 32767)))
		refused(t, ErrRange, table(512, 16<<20, part(2048, 1<<40)))
	})
	t.Run("over the table", func(t *testing.T) {
		refused(t, ErrRange, table(512, 16<<20, part(3, 4095)))
		refused(t, ErrRange, table(4096, 16<<20, part(5, 100)))
	})
	t.Run("duplicate ID", func(t *testing.T) {
		a, b := part(2048, 4095), part(4096, 8191)
		b.ID = a.ID
		refused(t, ErrDuplicateID, table(512, 16<<20, a, b))
	})
	t.Run("36 characters of two units", func(t *testing.T) {
		p := part(2048, 4095)
		p.Name = strings.Repeat("\U0001f600", 36)
		var entry *EntryError
		require.ErrorAs(t, table(512, 16<<20, p).Write(faultio.NewDisk(16<<20)), &entry)
		require.ErrorContains(t, entry, "72 UTF-16 units")
	})
	t.Run("MBR of 3 TiB", func(t *testing.T) {
		d := faultio.NewDisk(3 << 40)
		require.NoError(t, table(512, 3<<40).Write(d))
		b := make([]byte, 16)
		d.ReadAt(b, 446)
		require.Equal(t, []byte{0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, b)
	})
	t.Run("MBR with sectors of 4096 bytes", func(t *testing.T) {
		d := faultio.NewDisk(16 << 20)
		require.NoError(t, table(4096, 16<<20).Write(d))
		want := make([]byte, 512)
		d.ReadAt(want, 0)
		require.Equal(t, []byte{0x55, 0xaa}, want[510:])
		d.WriteAt(make([]byte, 512), 0)
		got, err := Read(d, ReadOptions{})
		require.NoError(t, err)
		require.NoError(t, got.Write(d))
		b := make([]byte, 512)
		d.ReadAt(b, 0)
		require.Equal(t, want, b)
	})
	t.Run("more than 128 entries", func(t *testing.T) {
		big := table(512, 16<<20)
		big.Entries = 300
		for i := range 300 {
			p := part(2048+8*uint64(i), 2048+8*uint64(i)+7)
			p.ID = osmith.GUID{0: 1, 14: byte(i >> 8), 15: byte(i)}
			big.Partitions = append(big.Partitions, p)
		}
		d := faultio.NewDisk(16 << 20)
		require.NoError(t, big.Write(d))
		got, err := Read(d, ReadOptions{})
		require.NoError(t, err)
		require.NoError(t, got.BackupErr)
		require.Len(t, got.Partitions, 300)
		require.Equal(t, 300, got.Entries)
		requireVerified(t, d)
		for _, bad := range []int{-1, 1 << 20} {
			big.Entries = bad
			require.Error(t, big.Check())
		}
	})
	t.Run("entries of 256 bytes, longer header", func(t *testing.T) {
		d := faultio.NewDisk(16 << 20)
		model := table(512, 16<<20, part(2048, 4095))
		p, b, err := model.geometry()
		require.NoError(t, err)
		for _, h := range []*header{p, b} {
			h.count, h.entrySize, h.size = 64, 256, 200
			h.sector = bytes.Repeat([]byte{0x5a}, 512)
			array := make([]byte, 64*256)
			model.Partitions[0].put(array[:256])
			copy(array[128:], "tail of the entry")
			h.entriesCRC = crc32.ChecksumIEEE(array)
			d.WriteAt(array, int64(h.entriesLBA)*512)
			binary.LittleEndian.PutUint32(h.sector[8:], revision1)
			d.WriteAt(h.encode(), int64(h.myLBA)*512)
		}
		before := make([]byte, 40*512)
		got, err := Read(d, ReadOptions{})
		require.NoError(t, err)
		require.NoError(t, got.BackupErr)
		require.Equal(t, 64, got.Entries)
		require.NoError(t, got.Write(d))
		d.ReadAt(before, 0)
		got.Partitions[0].Name = "renamed"
		require.NoError(t, got.Write(d))
		after := make([]byte, 40*512)
		d.ReadAt(after, 0)
		require.Equal(t, before[1024+128:], after[1024+128:])
		require.Equal(t, before[512+92:1024], after[512+92:1024])
		got, err = Read(d, ReadOptions{})
		require.NoError(t, err)
		require.Equal(t, "renamed", got.Partitions[0].Name)
	})
	t.Run("sector size 0", func(t *testing.T) {
		require.Error(t, (&Table{Size: 16 << 20}).Write(faultio.NewDisk(16<<20)))
		_, err := Read(faultio.NewDisk(16<<20), ReadOptions{SectorSize: 1000})
		require.Error(t, err)
	})
	t.Run("two runs", func(t *testing.T) {
		var images [2][]byte
		for i := range images {
			d := faultio.NewDisk(16 << 20)
			require.NoError(t, table(512, 16<<20, part(2048, 4095), part(8192, 9000)).Write(d))
			images[i] = make([]byte, d.Size())
			d.ReadAt(images[i], 0)
		}
		require.True(t, bytes.Equal(images[0], images[1]))
	})
}
