package partition

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/oracle"
)

// craft changes the table of a disk and makes both copies of it whole again. Entries and headers
// are those of the disk.
func craft(t testing.TB, d *faultio.Disk, ss int, entries func(array []byte), head func(primary, backup *header)) {
	t.Helper()
	table, err := Read(d, ReadOptions{SectorSize: ss})
	require.NoError(t, err)
	p, b, array := *table.read.primary, *table.read.backup, table.read.array
	if entries != nil {
		entries(array)
	}
	p.entriesCRC = crc32.ChecksumIEEE(array[:p.count*p.entrySize])
	b.entriesCRC = p.entriesCRC
	if head != nil {
		head(&p, &b)
	}
	for _, h := range []*header{&p, &b} {
		require.NoError(t, writeAt(d, array, int64(h.entriesLBA)*int64(ss), ""))
		require.NoError(t, writeAt(d, h.encode(), int64(h.myLBA)*int64(ss), ""))
	}
}

func extentOf(array []byte, i int, first, last uint64) {
	binary.LittleEndian.PutUint64(array[i*128+32:], first)
	binary.LittleEndian.PutUint64(array[i*128+40:], last)
}

func poke(off int64, b ...byte) func(testing.TB, *faultio.Disk) {
	return func(t testing.TB, d *faultio.Disk) {
		_, err := d.WriteAt(b, off)
		require.NoError(t, err)
	}
}

// broken reads sector 0 with an error.
type broken struct{ *faultio.Disk }

func (b broken) ReadAt(p []byte, off int64) (int, error) {
	if off < 512 {
		return 0, errDisk
	}
	return b.Disk.ReadAt(p, off)
}

// device says what the sectors of the device have.
type device struct {
	*faultio.Disk
	sectorSize int
}

func (d device) SectorSize() int { return d.sectorSize }

var everyReader = oracle.Readers()

// Each finding says what others make of the disk, which the oracle confirms: readers that are
// listed find no partition, or not all of them, and the others do.
func TestFindings(t *testing.T) {
	edk2 := []oracle.Reader{oracle.ReaderEDK2Stable202211, oracle.ReaderEDK2Stable202608}
	most := []oracle.Reader{oracle.ReaderEDK2Stable202211, oracle.ReaderEDK2Stable202608, oracle.ReaderUBoot, oracle.ReaderLinux}
	for _, c := range []struct {
		name   string
		change func(t testing.TB, d *faultio.Disk)
		code   string // "": none
		blind  []oracle.Reader
		repair string // "yes", or a part of the error; "": nothing to do
	}{
		{"whole", func(testing.TB, *faultio.Disk) {}, "", nil, ""},
		{"primary", poke(512, 'X'), "primary", []oracle.Reader{oracle.ReaderLinux}, "yes"},
		{"backup", poke(1023*512, 'X'), "backup", nil, "yes"},
		{"no MBR", poke(0, make([]byte, 512)...), "no-mbr", most, "yes"},
		{"no signature", poke(510, 0, 0), "mbr", []oracle.Reader{oracle.ReaderUBoot, oracle.ReaderLinux}, "yes"},
		{"no record", poke(446+4, 0), "no-mbr", most, "yes"},
		{"record at sector 0", poke(446+8, 0), "no-mbr", most, "yes"},
		{"EF", poke(446+4, 0xef), "mbr-wins", most, "yes"},
		{"partitioned anew", poke(446+4, 0x83), "mbr-wins", most, "hybrid MBR"},
		{"hybrid", poke(446+16+4, 0x0c), "hybrid-mbr", nil, "hybrid MBR"},
		{"two records", poke(446+16+4, 0xee), "two-records", nil, "yes"},
		{"no backup", func(t testing.TB, d *faultio.Disk) {
			lose(-1)(t, d, 512)
			craft2(t, d, func(p *header) { p.alternate = 1 })
		}, "backup", nil, "yes"},
		{"AlternateLBA 0", func(t testing.TB, d *faultio.Disk) {
			lose(-1)(t, d, 512)
			craft2(t, d, func(p *header) { p.alternate = 0 })
		}, "backup", nil, "yes"},
		{"LastUsableLBA beyond", func(t testing.TB, d *faultio.Disk) {
			lose(-1)(t, d, 512)
			craft2(t, d, func(p *header) { p.alternate, p.lastUsable = 1, 1030 })
		}, "usable", []oracle.Reader{oracle.ReaderUBoot, oracle.ReaderLinux, oracle.ReaderLinuxGPT}, "yes"},
		{"ends before it starts", func(t testing.TB, d *faultio.Disk) {
			craft(t, d, 512, func(array []byte) { extentOf(array, 1, 320, 319) }, nil)
		}, "entry", everyReader, ""},
		{"beyond the disk", func(t testing.TB, d *faultio.Disk) {
			craft(t, d, 512, func(array []byte) { extentOf(array, 1, 320, 5000) }, nil)
		}, "entry", everyReader, ""},
		{"one ID twice", func(t testing.TB, d *faultio.Disk) {
			craft(t, d, 512, func(array []byte) { copy(array[128+16:128+32], array[16:32]) }, nil)
		}, "id", nil, "yes"},
		{"no ID", func(t testing.TB, d *faultio.Disk) {
			craft(t, d, 512, func(array []byte) { clear(array[128+16 : 128+32]) }, nil)
		}, "id", nil, "yes"},
		{"below FirstUsableLBA", func(t testing.TB, d *faultio.Disk) {
			craft(t, d, 512, nil, func(p, b *header) { p.firstUsable, b.firstUsable = 300, 300 })
		}, "range", edk2, "yes"},
		{"above LastUsableLBA", func(t testing.TB, d *faultio.Disk) {
			craft(t, d, 512, nil, func(p, b *header) { p.lastUsable, b.lastUsable = 400, 400 })
		}, "range", edk2, "yes"},
		{"overlap", func(t testing.TB, d *faultio.Disk) {
			craft(t, d, 512, func(array []byte) { extentOf(array, 1, 300, 383) }, nil)
		}, "overlap", edk2, "overlap"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := usual(t, 512)
			c.change(t, d)
			table, err := Read(d, ReadOptions{})
			require.NoError(t, err)
			require.Equal(t, 3, len(table.Partitions)+len(table.BadEntries))
			codes := map[string]bool{}
			for _, f := range table.Findings() {
				codes[f.Code] = true
				require.Contains(t, f.String(), "("+f.Code+")")
			}
			if c.code == "" {
				require.Empty(t, codes)
			} else {
				require.True(t, codes[c.code], "%v", table.Findings())
			}
			for _, reader := range everyReader {
				r, err := oracle.ReadGPT(reader, d, d.Size(), 512)
				require.NoError(t, err)
				blind := len(r.Partitions) != 3 || r.Table == oracle.TableMBR
				for _, p := range r.Partitions {
					blind = blind || p.LastLBA < p.FirstLBA || p.LastLBA >= 1024
				}
				want := false
				for _, b := range c.blind {
					want = want || b == reader
				}
				require.Equal(t, want, blind, "%v: %v", reader, r)
			}
			d.Record()
			done, err := Repair(d, RepairOptions{Seed: idN(50)})
			switch c.repair {
			case "":
				require.NoError(t, err)
				require.False(t, done.Changed())
				require.Empty(t, d.Writes())
			case "yes":
				require.NoError(t, err)
				require.True(t, done.Changed())
				for _, reader := range everyReader {
					r, err := oracle.ReadGPT(reader, d, d.Size(), 512)
					require.NoError(t, err)
					require.Len(t, r.Partitions, 3, "%v", reader)
					require.Empty(t, r.Writes)
				}
				after, err := Read(d, ReadOptions{})
				require.NoError(t, err)
				require.Empty(t, after.Findings())
				for i, p := range after.Partitions {
					require.Equal(t, table.Partitions[i].FirstLBA, p.FirstLBA)
					require.Equal(t, table.Partitions[i].LastLBA, p.LastLBA)
				}
			default:
				require.ErrorContains(t, err, c.repair)
				require.Empty(t, d.Writes())
			}
		})
	}
}

// craft2 changes the primary header alone.
func craft2(t testing.TB, d *faultio.Disk, head func(p *header)) {
	t.Helper()
	table, err := Read(d, ReadOptions{})
	require.NoError(t, err)
	p := *table.read.primary
	head(&p)
	require.NoError(t, writeAt(d, p.encode(), 512, ""))
}

func TestFindingsOfDevices(t *testing.T) {
	d := usual(t, 512)
	table, err := Read(broken{d}, ReadOptions{})
	require.NoError(t, err)
	require.Equal(t, "no-mbr", table.Findings()[0].Code)
	require.Len(t, table.Findings(), 1)
	require.Len(t, table.Partitions, 3)

	for _, c := range []struct{ device, table int }{{512, 512}, {4096, 4096}, {512, 4096}, {4096, 512}, {0, 512}} {
		d := usual(t, c.table)
		table, err := Read(device{d, c.device}, ReadOptions{})
		require.NoError(t, err)
		require.Equal(t, c.device, table.DeviceSectorSize)
		if c.device == 0 || c.device == c.table {
			require.Empty(t, table.Findings())
			continue
		}
		require.Len(t, table.Findings(), 1)
		require.Equal(t, "sector-size", table.Findings()[0].Code)
		r, err := oracle.ReadGPT(oracle.ReaderLinux, d, d.Size(), c.device)
		require.NoError(t, err)
		require.Empty(t, r.Partitions)
	}
	require.Empty(t, (&Table{}).Findings())

	larger := larger(t, 512)
	table, err = Read(larger, ReadOptions{})
	require.NoError(t, err)
	require.Len(t, table.Findings(), 1)
	require.Equal(t, "backup-place", table.Findings()[0].Code)
	table, err = Read(stale(t, 512), ReadOptions{})
	require.NoError(t, err)
	require.Equal(t, "stale-backup", table.Findings()[1].Code)
	require.Contains(t, table.Findings()[1].Text, idN(99).String())
}

// A bad entry is kept, byte for byte, and is in the way of nothing but itself.
func TestBadEntryIsKept(t *testing.T) {
	d := usual(t, 512)
	craft(t, d, 512, func(array []byte) { extentOf(array, 1, 320, 319) }, nil)
	table, err := Read(d, ReadOptions{})
	require.NoError(t, err)
	require.Len(t, table.BadEntries, 1)
	bad := table.BadEntries[0]
	require.Equal(t, 2, bad.Number)
	require.ErrorContains(t, bad.Err, "sectors 320 to 319")
	before := table.read.array[128:256]
	// Its sectors and its number: the first are free, the second is taken.
	table.Partitions = append(table.Partitions, Partition{Type: Var, ID: idN(9), Name: "var", FirstLBA: 320, LastLBA: 327})
	require.NoError(t, table.Write(d))
	require.Equal(t, 4, table.Partitions[2].Number)
	table, err = Read(d, ReadOptions{})
	require.NoError(t, err)
	require.Len(t, table.Partitions, 3)
	require.Equal(t, before, table.read.array[128:256])
	table.Partitions[0].Number = 2
	require.ErrorContains(t, table.Check(), "used twice")
	table.Partitions[0].Number, table.BadEntries = 1, nil
	require.NoError(t, table.Write(d))
	require.Equal(t, make([]byte, 128), table.read.array[128:256])
}

// What was read may stay though it could not be made.
func TestOddPartitionsStay(t *testing.T) {
	d := usual(t, 512)
	craft(t, d, 512, func(array []byte) {
		clear(array[128+16 : 128+32])
		copy(array[256+16:256+32], array[16:32])
	}, func(p, b *header) { p.firstUsable, p.lastUsable, b.firstUsable, b.lastUsable = 300, 400, 300, 400 })
	table, err := Read(d, ReadOptions{})
	require.NoError(t, err)
	table.Partitions[1].Name = "renamed"
	require.NoError(t, table.Write(d))
	table, err = Read(d, ReadOptions{})
	require.NoError(t, err)
	require.Equal(t, "renamed", table.Partitions[1].Name)
	for _, change := range []func(t *Table){
		func(t *Table) { t.Partitions[0].LastLBA-- },
		func(t *Table) { t.Partitions[1].ID = t.Partitions[0].ID },
		func(t *Table) {
			t.Partitions = append(t.Partitions, Partition{Type: Var, Name: "var", FirstLBA: 384 - 8, LastLBA: 384 - 1})
		},
	} {
		next, err := Read(d, ReadOptions{})
		require.NoError(t, err)
		change(next)
		require.Error(t, next.Check())
	}
}

// A disk that becomes too small for a partition is refused, where that was inside before and where
// it was not.
func TestResizeTooSmall(t *testing.T) {
	for _, outside := range []bool{false, true} {
		d := usual(t, 512)
		if outside {
			craft(t, d, 512, nil, func(p, b *header) { p.lastUsable, b.lastUsable = 400, 400 })
		}
		table, err := Read(d, ReadOptions{})
		require.NoError(t, err)
		require.NoError(t, table.Check())
		require.NoError(t, table.Resize(600*512))
		for _, sectors := range []int64{440, 448, 470} {
			// the last partition ends in sector 447, and a backup takes 33
			require.ErrorIs(t, table.Resize(sectors*512), ErrRange, "%d sectors, outside %t", sectors, outside)
		}
	}
}

// "No GPT" is said only of a disk that shows no trace of one.
func TestNoTableOrDamaged(t *testing.T) {
	_, err := Read(faultio.NewDisk(1<<20), ReadOptions{})
	require.ErrorIs(t, err, ErrNoTable)
	require.NotErrorIs(t, err, ErrDamaged)
	d := usual(t, 512)
	for _, keep := range []string{"MBR", "primary", "backup"} {
		d := d.Clone()
		if keep != "MBR" {
			poke(0, make([]byte, 512)...)(t, d)
		}
		poke(2*512, 'X')(t, d)
		poke(1022*512, 'X')(t, d)
		if keep != "primary" {
			lose(1)(t, d, 512)
		}
		if keep != "backup" {
			lose(-1)(t, d, 512)
		}
		lose(2)(t, d, 512)
		_, err = Read(d, ReadOptions{})
		require.ErrorIs(t, err, ErrDamaged, keep)
		require.NotErrorIs(t, err, ErrNoTable)
	}
}

// An image that is cut off is read as far as it goes, but what is there of a partition is not
// overwritten with a backup table.
func TestTruncated(t *testing.T) {
	whole := usual(t, 512)
	d := faultio.NewDisk(440 * 512)
	b := make([]byte, d.Size())
	_, err := whole.ReadAt(b, 0)
	require.NoError(t, err)
	_, err = d.WriteAt(b, 0)
	require.NoError(t, err)
	table, err := Read(d, ReadOptions{})
	require.NoError(t, err)
	require.Len(t, table.Partitions, 2)
	require.Len(t, table.BadEntries, 1)
	d.Record()
	_, err = Repair(d, RepairOptions{})
	require.ErrorContains(t, err, "partition: no room for a backup table at the end of the disk: entry 3 (\"_empty\") ends beyond the disk: the disk seems truncated")
	table.Partitions[0].Name = "EFI"
	require.ErrorContains(t, table.Write(d), "partition: no room for a backup table at the end of the disk: entry 3 (\"_empty\") ends beyond the disk: the disk seems truncated")
	require.Empty(t, d.Writes())
}

// unreadableAt is a disk of zeros of which one sector cannot be read.
type unreadableAt struct {
	size, off int64
}

func (d unreadableAt) Size() int64 { return d.size }

func (d unreadableAt) ReadAt(b []byte, off int64) (int, error) {
	if off <= d.off && d.off < off+int64(len(b)) {
		return 0, errUnreadable
	}
	clear(b)
	return len(b), nil
}

var errUnreadable = errors.New("medium error")

// Where a table may be and cannot be read, none is not the answer: a disk that looks new may have
// all of a user's data.
func TestUnreadableIsNotEmpty(t *testing.T) {
	const size = 1 << 20
	_, err := Read(unreadableAt{size, -1}, ReadOptions{})
	require.ErrorIs(t, err, ErrNoTable)
	for _, off := range []int64{0, 512, 4096, size - 512, size - 4096} {
		_, err := Read(unreadableAt{size, off}, ReadOptions{})
		require.ErrorIs(t, err, errUnreadable, "%d", off)
		require.NotErrorIs(t, err, ErrNoTable, "%d", off)
		require.NotErrorIs(t, err, ErrDamaged, "%d", off)
	}
}
