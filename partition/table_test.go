package partition

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/testtools"
)

// After a cut at any write, whatever of the unsynced writes is lost, the old or the new table is
// read.
func TestCutWrite(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(d *faultio.Disk)
		edit   func(t *Table) error
	}{
		{"edit", nil, nil},
		{"from backup", func(d *faultio.Disk) { d.WriteAt(make([]byte, 512), 512) }, nil},
		{"backup lost", func(d *faultio.Disk) { d.WriteAt(make([]byte, 512), d.Size()-512) }, nil},
		{"grow", nil, func(t *Table) error { return t.Resize(t.Size) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, d := image(t, abLayout())
			if c.name == "grow" {
				bigger := faultio.NewDisk(d.Size() + 32<<20)
				b := make([]byte, d.Size())
				d.ReadAt(b, 0)
				bigger.WriteAt(b, 0)
				d = bigger
			}
			if c.damage != nil {
				c.damage(d)
			}
			table, err := Read(d, ReadOptions{})
			require.NoError(t, err)
			before := append([]Partition(nil), table.Partitions...)
			table.Partitions[3].Name, table.Partitions[3].Type = "root_2.0", PartialType(RootX8664)
			table.Partitions = append(table.Partitions[:4:4], table.Partitions[5:]...)
			if c.edit != nil {
				require.NoError(t, c.edit(table))
			}
			d.Record()
			require.NoError(t, table.Write(d))
			requireVerified(t, d)
			after := table.Partitions
			rng := rand.New(rand.NewPCG(5, 6))
			check := func(cut *faultio.Disk, what string) {
				got, err := Read(cut, ReadOptions{})
				require.NoError(t, err, what)
				if len(got.Partitions) == len(before) {
					require.Equal(t, before, got.Partitions, what)
				} else {
					for i := range after {
						require.Equal(t, after[i].Name, got.Partitions[i].Name, what)
					}
				}
			}
			for k, w := range d.Writes() {
				check(d.Prefix(k), fmt.Sprint("before write ", k))
				for n := 512; n < len(w.Data); n += 512 {
					check(d.Torn(k, n), fmt.Sprint("torn write ", k))
				}
				for range 8 {
					check(d.Lossy(k+1, func(int) bool { return rng.IntN(2) == 0 }), fmt.Sprint("lossy ", k))
				}
			}
			check(d, "at the end")
		})
	}
}

// An edit keeps what it does not know: boot code, header and entry tails, odd names, unused
// entries.
func TestKeepsTheUnknown(t *testing.T) {
	_, d := image(t, abLayout())
	table, err := Read(d, ReadOptions{})
	require.NoError(t, err)
	le := binary.LittleEndian
	for _, h := range []*header{table.read.primary, table.read.backup} {
		array := append([]byte(nil), table.read.array...)
		// entry 1: an unpaired surrogate, and bytes behind the NUL
		copy(array[56:], "\x00\xd8x\x00\x00\x00tail")
		le.PutUint64(array[48:], 1<<17|1<<50)
		copy(array[100*128+40:], "in an unused entry")
		h.size = 128
		copy(h.sector[92:], "in the header")
		copy(h.sector[300:], "behind the header")
		h.entriesCRC = crc32.ChecksumIEEE(array[:128*128])
		d.WriteAt(array, int64(h.entriesLBA)*512)
		d.WriteAt(h.encode(), int64(h.myLBA)*512)
	}
	d.WriteAt([]byte("boot code and disk signature"), 0)
	d.WriteAt([]byte{0x80}, 446)
	before := make([]byte, d.Size())
	d.ReadAt(before, 0)
	table, err = Read(d, ReadOptions{})
	require.NoError(t, err)
	require.NoError(t, table.BackupErr)
	require.NoError(t, table.Write(d))
	after := make([]byte, d.Size())
	d.ReadAt(after, 0)
	require.True(t, bytes.Equal(before, after), "read and written again: the same bytes")
	table.Partitions[5].Name = "renamed"
	require.NoError(t, table.Write(d))
	d.ReadAt(after, 0)
	require.Equal(t, before[:512], after[:512])
	require.Equal(t, before[512+92:1024], after[512+92:1024])
	require.Equal(t, before[1024:1024+5*128], after[1024:1024+5*128])
	require.Equal(t, before[1024+6*128:34*512], after[1024+6*128:34*512])
}

func TestRefuses(t *testing.T) {
	for _, c := range []struct {
		want   error
		change func(t *Table)
	}{
		{ErrOverlap, func(t *Table) { t.Partitions[1].FirstLBA -= 8 }},
		{ErrUnaligned, func(t *Table) { t.Partitions[4].FirstLBA++ }},
		{ErrOverlap, func(t *Table) { t.Partitions[0].LastLBA = t.Partitions[3].FirstLBA }},
		{ErrRange, func(t *Table) { t.Partitions[0].FirstLBA = 3 }},
		{ErrRange, func(t *Table) { t.Partitions[5].LastLBA = uint64(t.Size/512) - 20 }},
		{ErrDuplicateID, func(t *Table) { t.Partitions[5].ID = t.Partitions[4].ID }},
		{nil, func(t *Table) { t.Partitions[5].Number = 129 }},
		{nil, func(t *Table) { t.Partitions[5].Number = 1 }},
		{nil, func(t *Table) { t.Partitions[5].Name = strings.Repeat("x", 37) }},
		{nil, func(t *Table) { t.Partitions[5].Name = "a\x00b" }},
		{nil, func(t *Table) { t.Partitions[5].Name = "\xff" }},
		{nil, func(t *Table) { t.Partitions[5].FirstLBA = t.Partitions[5].LastLBA + 1 }},
	} {
		im, _ := image(t, abLayout())
		im.Table.Partitions[1].FirstLBA = im.Table.Partitions[0].LastLBA + 1
		c.change(im.Table)
		d := faultio.NewDisk(im.Size)
		d.Record()
		err := im.Table.Write(d)
		var entry *EntryError
		require.ErrorAs(t, err, &entry)
		if c.want != nil {
			require.ErrorIs(t, err, c.want)
		}
		require.Empty(t, d.Writes())
	}
	im, _ := image(t, abLayout())
	im.Table.Partitions[4].FirstLBA++
	im.Table.AllowUnaligned = true
	require.NoError(t, im.Table.Write(faultio.NewDisk(im.Size)))
	im.Table.Partitions[5].Name = strings.Repeat("𝄞", 18)
	require.NoError(t, im.Table.Check(), "36 units")
	for _, bad := range []*Table{{}, {SectorSize: 512}, {SectorSize: 512, Size: -1}, {SectorSize: 512, Size: 30 << 10}, {SectorSize: 1000, Size: 1 << 30}} {
		require.Error(t, bad.Check())
	}
}

// The protective MBR is the one that sgdisk writes, below and above 2 TiB.
func TestProtectiveMBR(t *testing.T) {
	for _, size := range []int64{1 << 20, 64 << 20, 9000 << 20, 3 << 40} {
		table := &Table{DiskID: diskID, SectorSize: 512, Size: size}
		d := faultio.NewDisk(size)
		require.NoError(t, table.Write(d))
		ours := make([]byte, 16)
		d.ReadAt(ours, 446)
		name := filepath.Join(t.TempDir(), "other.img")
		require.NoError(t, os.WriteFile(name, nil, 0o644))
		require.NoError(t, os.Truncate(name, size))
		testtools.Run(t, "sgdisk", "-o", name)
		theirs := make([]byte, 16)
		f, err := os.Open(name)
		require.NoError(t, err)
		_, err = f.ReadAt(theirs, 446)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		require.Equal(t, theirs, ours, "%d bytes", size)
	}
}

// A table that sgdisk moved to leave a gap for boot code stays behind it, and the gap is not
// touched.
func TestMovedTable(t *testing.T) {
	_, d := image(t, abLayout())
	name := dump(t, d)
	testtools.Run(t, "sgdisk", "-j", "1024", name)
	d = load(t, name)
	uboot := bytes.Repeat([]byte("UBOOT"), 100<<10)[:500<<10]
	d.WriteAt(uboot, 16*512)
	for _, damage := range []bool{false, true} {
		if damage {
			d.WriteAt(make([]byte, 512), 512)
		}
		table, err := Read(d, ReadOptions{})
		require.NoError(t, err)
		require.Equal(t, damage, table.UsedBackup)
		table.Partitions[0].Name = fmt.Sprint("esp ", damage)
		require.NoError(t, table.Write(d))
		got := make([]byte, len(uboot))
		d.ReadAt(got, 16*512)
		require.True(t, bytes.Equal(uboot, got))
		requireVerified(t, d)
		table, err = Read(d, ReadOptions{})
		require.NoError(t, err)
		require.GreaterOrEqual(t, table.read.primary.entriesLBA, uint64(1024), "behind the gap")
	}
}

func TestManyEntries(t *testing.T) {
	name := filepath.Join(t.TempDir(), "many.img")
	require.NoError(t, os.WriteFile(name, nil, 0o644))
	require.NoError(t, os.Truncate(name, 64<<20))
	testtools.Run(t, "sgdisk", "-S", "256", "-n", "200:2048:4095", "-c", "200:far", name)
	d := load(t, name)
	table, err := Read(d, ReadOptions{})
	require.NoError(t, err)
	require.Equal(t, 200, table.Partitions[0].Number)
	table.Partitions = append(table.Partitions, Partition{Type: ESP, ID: idN(7), Name: "new", FirstLBA: 4096, LastLBA: 8191})
	require.NoError(t, table.Write(d))
	requireVerified(t, d)
	table, err = Read(d, ReadOptions{})
	require.NoError(t, err)
	require.Equal(t, []int{1, 200}, []int{table.Partitions[0].Number, table.Partitions[1].Number})
	require.EqualValues(t, 256, table.read.primary.count)
}

// An image written to a larger disk: nothing moves until Resize says so.
func TestResize(t *testing.T) {
	_, small := image(t, abLayout())
	b := make([]byte, small.Size())
	small.ReadAt(b, 0)
	d := faultio.NewDisk(256 << 20)
	d.WriteAt(b, 0)
	table, err := Read(d, ReadOptions{})
	require.NoError(t, err)
	require.NoError(t, table.BackupErr)
	require.Equal(t, uint64(small.Size()/512-1), table.read.primary.alternate)
	require.NoError(t, table.Write(d), "a plain edit leaves the backup where it is")
	require.NoError(t, table.Resize(d.Size()))
	require.NoError(t, table.Write(d))
	requireVerified(t, d)
	require.Error(t, table.Resize(60<<20))
	require.Error(t, table.Resize(0))
	require.Error(t, table.Resize(-1))
	require.NoError(t, table.Check())
}

// A partition that another program put at an odd place may stay there, but none may be put there by
// us.
func TestUnaligned(t *testing.T) {
	im, d := image(t, abLayout())
	im.Table.Partitions[4].FirstLBA++
	im.Table.AllowUnaligned = true
	require.NoError(t, im.Table.Write(d))
	table, err := Read(d, ReadOptions{})
	require.NoError(t, err)
	table.Partitions[4].Name = "renamed"
	require.NoError(t, table.Write(d))
	table.Partitions[4].FirstLBA++
	require.ErrorIs(t, table.Write(d), ErrUnaligned)
}

func TestHybridMBR(t *testing.T) {
	for _, kind := range []byte{typeGPT, 0x83} { // beside a protective record, and without one
		testHybridMBR(t, kind)
	}
}

func testHybridMBR(t *testing.T, kind byte) {
	_, d := image(t, abLayout())
	d.WriteAt([]byte{kind}, 446+4)
	d.WriteAt([]byte{0x0c}, 446+16+4)
	table, err := Read(d, ReadOptions{})
	require.NoError(t, err)
	require.True(t, table.HybridMBR)
	require.ErrorIs(t, table.Write(d), ErrHybridMBR)
	table.KeepHybridMBR = true
	before := make([]byte, 512)
	d.ReadAt(before, 0)
	require.NoError(t, table.Write(d))
	after := make([]byte, 512)
	d.ReadAt(after, 0)
	require.Equal(t, before, after)
}
