package partition

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
)

// Headers with valid checksums that lie. The other table is used; without one it is an error that
// names the field. Nothing large is allocated.
func TestHostileHeaders(t *testing.T) {
	le := binary.LittleEndian
	for _, c := range []struct {
		field string
		lie   func(b []byte)
	}{
		{"Signature", func(b []byte) { b[0] = 'e' }},
		{"Revision", func(b []byte) { le.PutUint32(b[8:], 0x20000) }},
		{"HeaderSize", func(b []byte) { le.PutUint32(b[12:], 91) }},
		{"HeaderSize", func(b []byte) { le.PutUint32(b[12:], 0) }},
		{"HeaderSize", func(b []byte) { le.PutUint32(b[12:], 0xffffffff) }},
		{"MyLBA", func(b []byte) { le.PutUint64(b[24:], 7) }},
		{"FirstUsableLBA", func(b []byte) { le.PutUint64(b[40:], 1<<63) }},
		{"PartitionEntryLBA", func(b []byte) { le.PutUint64(b[72:], 1<<55-1) }},
		{"PartitionEntryLBA", func(b []byte) { le.PutUint64(b[72:], 1<<63+2) }},
		{"PartitionEntryLBA", func(b []byte) { le.PutUint64(b[72:], 0) }},
		{"NumberOfPartitionEntries", func(b []byte) { le.PutUint32(b[80:], 0xffffffff) }},
		{"NumberOfPartitionEntries", func(b []byte) { le.PutUint32(b[80:], 1<<24) }},
		{"NumberOfPartitionEntries", func(b []byte) { le.PutUint32(b[80:], 0) }},
		{"NumberOfPartitionEntries", func(b []byte) { le.PutUint32(b[80:], 0xffffffff); le.PutUint32(b[84:], 1<<31) }},
		{"SizeOfPartitionEntry", func(b []byte) { le.PutUint32(b[84:], 0xffffffff) }},
		{"SizeOfPartitionEntry", func(b []byte) { le.PutUint32(b[84:], 64) }},
		{"SizeOfPartitionEntry", func(b []byte) { le.PutUint32(b[84:], 0) }},
		{"PartitionEntryArrayCRC32", func(b []byte) { b[88]++ }},
	} {
		_, d := image(t, abLayout())
		lie := func(lba int64) {
			b := make([]byte, 512)
			d.ReadAt(b, lba*512)
			c.lie(b)
			if n := le.Uint32(b[12:]); n >= 92 && n <= 512 {
				le.PutUint32(b[16:], headerCRC(b[:n]))
			}
			d.WriteAt(b, lba*512)
		}
		lie(1)
		table, err := Read(d, ReadOptions{})
		require.NoError(t, err, c.field)
		require.True(t, table.UsedBackup)
		var format *osmith.FormatError
		require.ErrorAs(t, table.PrimaryErr, &format)
		require.True(t, strings.HasSuffix(format.Field, ": "+c.field), "%s: %v", c.field, format)
		lie(d.Size()/512 - 1)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		table, err = Read(d, ReadOptions{})
		runtime.ReadMemStats(&after)
		require.ErrorIs(t, err, ErrDamaged, c.field)
		require.ErrorAs(t, err, &format)
		require.Nil(t, table)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(32<<20))
	}
}

// claims says that a disk has another size.
type claims struct {
	io.ReaderAt
	size int64
}

func (c claims) Size() int64 { return c.size }

type failing struct{ osmith.Source }

var errDisk = errors.New("disk error")

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off < 8192 && off+int64(len(p)) > 512 {
		return 0, errDisk
	}
	return f.Source.ReadAt(p, off)
}

func TestReadErrors(t *testing.T) {
	_, d := image(t, abLayout())
	table, err := Read(failing{d}, ReadOptions{})
	require.NoError(t, err, "an unreadable primary is what the backup is for")
	require.ErrorIs(t, table.PrimaryErr, errDisk)
	for _, size := range []int64{-1, 0, 1, 512, 1024} {
		_, err := Read(claims{d, size}, ReadOptions{})
		require.ErrorIs(t, err, ErrNoTable)
	}
	_, err = Read(d, ReadOptions{SectorSize: 4096})
	require.ErrorIs(t, err, ErrDamaged)
	require.ErrorContains(t, err, "partition: the GPT cannot be read with sectors of 4096 bytes: the table has sectors of 512 bytes")
	_, err = Read(d, ReadOptions{SectorSize: 1})
	require.Error(t, err)
}

func TestWindow(t *testing.T) {
	im, d := image(t, abLayout())
	w := im.Table.Window(d, 4)
	n, err := w.WriteAt([]byte("inside"), w.Size()-6)
	require.NoError(t, err)
	require.Equal(t, 6, n)
	b := make([]byte, 8)
	n, err = w.ReadAt(b, w.Size()-6)
	require.Equal(t, io.EOF, err)
	require.Equal(t, "inside", string(b[:n]))
	for _, off := range []int64{-1, w.Size() - 5, w.Size() + 1, 1 << 62} {
		_, err = w.WriteAt([]byte("inside"), off)
		require.Error(t, err)
	}
	require.NoError(t, w.Sync())
}

// FuzzRead: no panic, a table or an error; and what was read is written back the same, repaired and
// drawn. The input is a list of changes to the MBR, the headers and entries of a good disk, with
// checksums that fit every other time.
func FuzzRead(f *testing.F) {
	var images [][]byte
	for _, ss := range []int{512, 4096} {
		l := abLayout()
		l.SectorSize, l.Align = ss, 4096
		for i := range l.Partitions {
			l.Partitions[i].Size, l.Partitions[i].Content = 4096, nil
		}
		im, err := Plan(l)
		if err != nil {
			f.Fatal(err)
		}
		d := faultio.NewDisk(im.Size)
		if err := WriteImage(d, im, WriteOptions{TargetIsZero: true}); err != nil {
			f.Fatal(err)
		}
		b := make([]byte, im.Size)
		d.ReadAt(b, 0)
		images = append(images, b)
	}
	f.Add(byte(0), byte(0), []byte(nil))
	f.Add(byte(1), byte(8), []byte("\x01\x00\x50\xff"))
	f.Add(byte(0), byte(32), []byte("\x02\x00\x50\xff\x03\x00\x20\x40"))
	f.Fuzz(func(t *testing.T, kind, grow byte, changes []byte) {
		ss := []int{512, 4096}[kind%2]
		b := append([]byte(nil), images[kind%2]...)
		backup := len(b) - ss
		for ; len(changes) >= 4; changes = changes[4:] {
			at := int(changes[1])<<8 | int(changes[2])
			switch changes[0] % 5 {
			case 0:
				at %= 512
			case 1:
				at = ss + at%128
			case 2:
				at = backup + at%128
			case 3:
				at = 2*ss + at%1024
			default:
				at = backup - 16384 + at%1024
			}
			b[at] = changes[3]
		}
		b = append(b, make([]byte, int(grow)*4096)...)
		for _, at := range []int{ss, backup} { // let mutations through the checksums
			if n := binary.LittleEndian.Uint32(b[at+12:]); kind%4 < 2 && n >= 92 && n <= uint32(ss) {
				off := 2 * ss
				if at == backup {
					off = backup - 16384
				}
				binary.LittleEndian.PutUint32(b[at+88:], crc32.ChecksumIEEE(b[off:off+16384]))
				binary.LittleEndian.PutUint32(b[at+16:], headerCRC(b[at:at+int(n)]))
			}
		}
		d := faultio.DiskOf(b)
		table, err := Read(d, ReadOptions{})
		if (table == nil) == (err == nil) {
			t.Fatal("table and error")
		}
		if err != nil {
			return
		}
		Diagram(table, d.Size(), 80)
		fixed := d.Clone()
		if _, err := Repair(fixed, RepairOptions{SectorSize: table.SectorSize}); err == nil {
			whole, err := Read(fixed, ReadOptions{SectorSize: table.SectorSize})
			if err != nil || whole.PrimaryErr != nil || whole.BackupErr != nil {
				t.Fatal("not whole after a repair", err, whole)
			}
			require.Equal(t, table.Partitions, whole.Partitions)
			require.Len(t, whole.BadEntries, len(table.BadEntries))
			for i, e := range whole.BadEntries { // at another place, perhaps
				require.Equal(t, table.BadEntries[i].Partition, e.Partition)
			}
		}
		if table.Check() != nil || table.UsedBackup || table.BackupErr != nil {
			return
		}
		if err := table.Write(d); err != nil {
			t.Fatal(err)
		}
		again, err := Read(d, ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		after := make([]byte, len(b))
		d.ReadAt(after, 0)
		if string(after[512:]) != string(b[512:]) && table.SectorSize == 512 && grow == 0 {
			t.Fatal("a table that was read and written again differs")
		}
		require.Equal(t, table.Partitions, again.Partitions)
	})
}
