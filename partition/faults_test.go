package partition

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/oracle"
	"github.com/osmith-dev/osmith/internal/testtools"
)

// A faultCase is a change to the partition table of a disk that power may cut at any moment.
type faultCase struct {
	name   string
	disk   func(t testing.TB, ss int) *faultio.Disk
	change func(d *faultio.Disk) error
	// inPlace says that there is no second place for the entries, so that a kernel may find nothing
	// in between.
	inPlace bool
	// only is a sector size that the case is for; 0: both.
	only int
}

// smallDisk has an ESP and two slots. Its partitions are small, and begin at first.
func smallDisk(t testing.TB, ss int, first, sectors uint64) *faultio.Disk {
	t.Helper()
	table := &Table{DiskID: diskID, SectorSize: ss, Size: int64(sectors) * int64(ss), AllowUnaligned: true}
	for i, spec := range []struct {
		typ  osmith.GUID
		name string
	}{{ESP, "esp"}, {RootX8664, "root_1.0"}, {RootX8664, EmptyName}} {
		at := first + uint64(i)*64
		table.Partitions = append(table.Partitions, Partition{Type: spec.typ, ID: idN(byte(i + 1)), Name: spec.name, FirstLBA: at, LastLBA: at + 63})
	}
	d := faultio.NewDisk(table.Size)
	require.NoError(t, table.Write(d))
	for i := range table.Partitions {
		off, size := table.Extent(i)
		_, err := d.WriteAt(bytes.Repeat([]byte{byte('a' + i)}, int(size)), off)
		require.NoError(t, err)
	}
	return d
}

func usual(t testing.TB, ss int) *faultio.Disk { return smallDisk(t, ss, 256, 1024) }

// stale is the start of a larger disk in whose last sectors an earlier table is left.
func stale(t testing.TB, ss int) *faultio.Disk {
	old := &Table{DiskID: idN(99), SectorSize: ss, Size: 2048 * int64(ss), Partitions: []Partition{
		{Type: ESP, ID: idN(98), Name: "OLDINSTALL", FirstLBA: 256, LastLBA: 1599},
	}}
	d := faultio.NewDisk(old.Size)
	require.NoError(t, old.Write(d))
	overwrite(t, d, usual(t, ss))
	return d
}

// full has a partition in every entry of its first 8 KiB.
func full(t testing.TB, ss int) *faultio.Disk {
	table := &Table{DiskID: diskID, SectorSize: ss, Size: 1024 * int64(ss), AllowUnaligned: true}
	for i := range 64 {
		p := Partition{Type: RootX8664, ID: idN(byte(i + 1)), Name: fmt.Sprint("root_1.0 ", i), FirstLBA: uint64(256 + 8*i), LastLBA: uint64(256 + 8*i + 7)}
		if i == 0 {
			p.Type = ESP
		}
		table.Partitions = append(table.Partitions, p)
	}
	d := faultio.NewDisk(table.Size)
	require.NoError(t, table.Write(d))
	return d
}

func overwrite(t testing.TB, d, start *faultio.Disk) {
	b := make([]byte, start.Size())
	_, err := start.ReadAt(b, 0)
	require.NoError(t, err)
	_, err = d.WriteAt(b, 0)
	require.NoError(t, err)
}

func larger(t testing.TB, ss int) *faultio.Disk {
	d := faultio.NewDisk(2048 * int64(ss))
	overwrite(t, d, usual(t, ss))
	return d
}

// with is a disk after something was done to it.
func with(disk func(testing.TB, int) *faultio.Disk, do func(t testing.TB, d *faultio.Disk, ss int)) func(testing.TB, int) *faultio.Disk {
	return func(t testing.TB, ss int) *faultio.Disk {
		d := disk(t, ss)
		do(t, d, ss)
		return d
	}
}

func lose(lba int64) func(testing.TB, *faultio.Disk, int) {
	return func(t testing.TB, d *faultio.Disk, ss int) {
		off := lba * int64(ss)
		if lba < 0 {
			off += d.Size()
		}
		_, err := d.WriteAt(make([]byte, ss), off)
		require.NoError(t, err)
	}
}

// edit reads the table, changes it and writes it.
func edit(do func(table *Table) error) func(d *faultio.Disk) error {
	return func(d *faultio.Disk) error {
		table, err := Read(d, ReadOptions{})
		if err != nil {
			return err
		}
		if err := do(table); err != nil {
			return err
		}
		return table.Write(d)
	}
}

var (
	relabel = edit(func(t *Table) error {
		t.Partitions[2].Name, t.Partitions[2].ID = "root_2.0", idN(22)
		return nil
	})
	grow = edit(func(t *Table) error {
		if err := t.Resize(t.Size); err != nil {
			return err
		}
		t.Partitions[2].LastLBA = t.LastUsableLBA / 8 * 8
		return nil
	})
	repair = func(d *faultio.Disk) error { _, err := Repair(d, RepairOptions{}); return err }
)

// bootCode is what a vendor may keep between the header and the entries, or in front of the first
// partition.
var bootCode = bytes.Repeat([]byte("boot code "), 3000)

func boardDisk(t testing.TB, ss int) *faultio.Disk {
	d := smallDisk(t, ss, 256, 1024)
	require.NoError(t, edit(func(table *Table) error { // as sgdisk -j 96 does it
		r := *table.read
		p := *r.primary
		p.entriesLBA, r.free = 96, nil
		p.firstUsable = 96 + p.arraySectors(int64(ss))
		b := *r.backup
		b.firstUsable = p.firstUsable
		for _, s := range []sectorWrite{{"", 96, r.array}, {"", p.myLBA, p.encode()}, {"", b.myLBA, b.encode()}, {"", 2, make([]byte, len(r.array))}} {
			if err := writeAt(d, s.data, int64(s.lba)*int64(ss), s.what); err != nil {
				return err
			}
		}
		*table = Table{}
		now, err := Read(d, ReadOptions{})
		if err == nil {
			*table = *now
		}
		return err
	})(d))
	_, err := d.WriteAt(bootCode, 16*int64(ss))
	require.NoError(t, err)
	return d
}

func faultCases() []faultCase {
	return []faultCase{
		{name: "relabel", disk: usual, change: relabel},
		{name: "relabel again", disk: with(usual, func(t testing.TB, d *faultio.Disk, _ int) { require.NoError(t, relabel(d)) }), change: edit(func(t *Table) error {
			t.Partitions[2].Name = "root_3.0"
			return nil
		})},
		{name: "add", disk: usual, change: edit(func(t *Table) error {
			t.Partitions = append(t.Partitions, Partition{Type: Var, ID: idN(7), Name: "var", FirstLBA: 512, LastLBA: 575})
			return nil
		})},
		{name: "many changes", disk: full, change: edit(func(t *Table) error {
			for i := range t.Partitions {
				t.Partitions[i].Name = fmt.Sprint("root_2.0 ", i)
			}
			return nil
		})},
		{name: "remove", disk: usual, change: edit(func(t *Table) error { t.Partitions = t.Partitions[:2]; return nil })},
		{name: "other disk ID", disk: usual, change: edit(func(t *Table) error { t.DiskID = idN(77); return nil })},
		{name: "backup header lost", disk: with(usual, lose(-1)), change: relabel},
		{name: "backup entries lost", disk: with(usual, lose(-2)), change: relabel},
		{name: "another backup", disk: with(usual, func(t testing.TB, d *faultio.Disk, ss int) {
			before := d.Clone()
			require.NoError(t, relabel(d))
			overwrite(t, d, smallStart(t, before, ss))
		}), change: edit(func(t *Table) error { t.Partitions[1].Name = "root_4.0"; return nil })},
		{name: "primary header lost", disk: with(usual, lose(1)), change: relabel},
		{name: "primary entries lost", disk: with(usual, lose(2)), change: relabel},
		{name: "larger disk", disk: larger, change: relabel},
		{name: "larger disk, nothing else", disk: larger, change: edit(func(*Table) error { return nil })},
		{name: "larger disk, grown", disk: larger, change: grow},
		{name: "larger disk, stale backup", disk: stale, change: relabel},
		{name: "larger disk, stale backup, grown", disk: stale, change: grow},
		{name: "larger disk, repaired", disk: larger, change: repair},
		{name: "larger disk, stale backup, repaired", disk: stale, change: repair},
		{name: "primary header repaired", disk: with(usual, lose(1)), change: repair},
		{name: "primary entries repaired", disk: with(usual, lose(2)), change: repair},
		{name: "backup repaired", disk: with(usual, lose(-1)), change: repair},
		{name: "old backup in a partition", disk: lookalike(0), change: repair},
		{name: "old backup at the start of a partition", disk: lookalike(1023 - 384), change: repair},
		{name: "board", disk: boardDisk, change: relabel, only: 512},
		{name: "new partition in front", disk: usual, change: edit(func(t *Table) error {
			t.Partitions = append(t.Partitions, Partition{Type: Var, ID: idN(7), Name: "var", FirstLBA: 40, LastLBA: 47})
			return nil
		}), inPlace: true, only: 512},
		{name: "partition in front removed", disk: with(usual, func(t testing.TB, d *faultio.Disk, _ int) {
			require.NoError(t, edit(func(t *Table) error {
				t.Partitions = append(t.Partitions, Partition{Type: Var, ID: idN(7), Name: "var", FirstLBA: 40, LastLBA: 47})
				return nil
			})(d))
		}), change: edit(func(t *Table) error { t.Partitions = t.Partitions[:3]; return nil }), inPlace: true, only: 512},
		{name: "no room, larger disk", disk: func(t testing.TB, ss int) *faultio.Disk {
			d := faultio.NewDisk(2048 * int64(ss))
			overwrite(t, d, smallDisk(t, ss, 40, 1024))
			return d
		}, change: relabel, inPlace: true, only: 512},
		{name: "no room", disk: func(t testing.TB, ss int) *faultio.Disk { return smallDisk(t, ss, 40, 1024) }, change: relabel, inPlace: true, only: 512},
		{name: "room for one more", disk: func(t testing.TB, ss int) *faultio.Disk { return smallDisk(t, ss, 80, 1024) }, change: relabel, only: 512},
	}
}

// smallStart is the start of a disk: header and entries, but not the backup.
func smallStart(t testing.TB, d *faultio.Disk, ss int) *faultio.Disk {
	start := faultio.NewDisk(128 * int64(ss))
	b := make([]byte, start.Size())
	_, err := d.ReadAt(b, 0)
	require.NoError(t, err)
	_, err = start.WriteAt(b, 0)
	require.NoError(t, err)
	return start
}

// lookalike is a larger disk whose last partition was put over the old place of the backup, by a
// tool that left AlternateLBA as it was. One of its sectors, the last one if moved is 0, has data
// that looks like a backup header.
func lookalike(moved uint64) func(testing.TB, int) *faultio.Disk {
	return func(t testing.TB, ss int) *faultio.Disk { return lookalikeAt(t, ss, moved) }
}

func lookalikeAt(t testing.TB, ss int, moved uint64) *faultio.Disk {
	d := larger(t, ss)
	table, err := Read(d, ReadOptions{})
	require.NoError(t, err)
	p, b := *table.read.primary, table.read.backup
	table.Partitions[2].FirstLBA += moved
	table.Partitions[2].LastLBA = b.myLBA + moved/2
	array := table.read.array
	table.Partitions[2].put(array[2*p.entrySize:])
	p.lastUsable, p.entriesCRC = table.sectors()-40, crc32.ChecksumIEEE(array[:p.count*p.entrySize])
	for lba, data := range map[uint64][]byte{1: p.encode(), p.entriesLBA: array, b.myLBA: b.encode()} {
		_, err := d.WriteAt(data, int64(lba)*int64(ss))
		require.NoError(t, err)
	}
	return d
}

// offered is what a reader makes of a disk, in words.
func offered(t testing.TB, reader oracle.Reader, d *faultio.Disk, writes []oracle.Write, ss int) (string, []oracle.Write) {
	t.Helper()
	r, err := oracle.ReadGPT(reader, oracle.Apply(d, writes), d.Size(), ss)
	require.NoError(t, err)
	var b strings.Builder
	for _, p := range r.Partitions {
		fmt.Fprintln(&b, p.Number, p.Type, p.ID, p.Name, p.FirstLBA, p.LastLBA, p.Attributes)
	}
	return b.String(), r.Writes
}

// faultTally counts what a run of fault cases saw.
type faultTally struct {
	operations, states, restores, lost int
	unbootable                         map[string]int
	lostUnbootable                     map[string]int
}

// After a cut at any moment every reader finds the old or the new table. What edk2 rewrites then,
// cut anywhere as well, changes nothing about that, and touches neither partitions nor boot code.
func TestFaults(t *testing.T) {
	tally := &faultTally{unbootable: map[string]int{}, lostUnbootable: map[string]int{}}
	for _, ss := range []int{512, 4096} {
		for _, c := range faultCases() {
			if c.only == 0 || c.only == ss {
				t.Run(fmt.Sprintf("%s/%d", c.name, ss), func(t *testing.T) { testFaults(t, c, ss, tally) })
			}
		}
	}
	t.Logf("%d operations, %d states (and %d in which edk2 restores a table), unbootable: %v; 512e: %d states, unbootable: %v",
		tally.operations, tally.states, tally.restores, tally.unbootable, tally.lost, tally.lostUnbootable)
}

func testFaults(t *testing.T, c faultCase, ss int, tally *faultTally) {
	d := c.disk(t, ss)
	before := map[oracle.Reader]string{}
	for _, reader := range oracle.Readers() {
		before[reader], _ = offered(t, reader, d, nil, ss)
	}
	require.Contains(t, before[oracle.ReaderEDK2Stable202608], "root_1.0")
	start, err := Read(d, ReadOptions{})
	require.NoError(t, err)
	d.Record()
	require.NoError(t, c.change(d))
	end, err := Read(d, ReadOptions{})
	require.NoError(t, err)
	requireOutside(t, d, start, end, ss)
	after := map[oracle.Reader]string{}
	for _, reader := range oracle.Readers() {
		var writes []oracle.Write
		after[reader], writes = offered(t, reader, d, nil, ss)
		require.Empty(t, writes, "%v has nothing to restore", reader)
		require.NotEmpty(t, after[reader])
		if got, _ := offered(t, reader, primaryLost(t, d, ss), nil, ss); reader != oracle.ReaderLinux {
			require.Equal(t, after[reader], got, "%v goes by the backup", reader)
		}
	}
	options := faultio.FaultOptions{Sector: ss, Physical: 4096, Lost: faultio.LostGarbage, Limit: 1 << 12}
	if testing.Short() {
		options.Limit = 300
	}
	faults, err := d.Faults(options)
	require.NoError(t, err)
	tally.operations++
	headerEpochs := map[int]bool{}
	for _, w := range d.Writes() {
		headerEpochs[w.Epoch] = headerEpochs[w.Epoch] || w.Offset == int64(ss)
	}
	for state := range faults.States() {
		if state.Kind == faultio.FaultLost {
			tally.lost++
		} else {
			tally.states++
		}
		if !judge(t, c, state, before, after, start, end, ss, tally) {
			return
		}
		if headerEpochs[state.Epoch] && state.Kind != faultio.FaultLost {
			// a bad sector where the header is written
			bad := state
			bad.Disk = primaryLost(t, state.Disk, ss)
			for _, reader := range oracle.Readers() {
				if got, _ := offered(t, reader, bad.Disk, nil, ss); reader != oracle.ReaderLinux {
					require.True(t, got == before[reader] || got == after[reader], "%v, when the primary header is lost, offers:\n%s%v", reader, got, state)
				}
			}
		}
		if state.Kind == faultio.FaultLost {
			continue
		}
		now, err := Read(state.Disk, ReadOptions{})
		require.NoError(t, err, state)
		require.Contains(t, []any{names(start), names(end)}, names(now), state)
		_, err = Repair(state.Disk, RepairOptions{})
		require.NoError(t, err, state)
		for _, reader := range oracle.Readers() {
			got, writes := offered(t, reader, state.Disk, nil, ss)
			require.True(t, slices.Contains([]string{before[reader], after[reader], before[oracle.ReaderUBoot]}, got), "%v after a repair offers:\n%s%v", reader, got, state)
			require.Empty(t, writes, "%v has nothing to restore after a repair of %v", reader, state)
		}
	}
}

// judge asks every reader about a state, and about what edk2 makes of it.
func judge(t *testing.T, c faultCase, state faultio.State, before, after map[oracle.Reader]string, start, end *Table, ss int, tally *faultTally) bool {
	for _, reader := range oracle.Readers() {
		got, writes := offered(t, reader, state.Disk, nil, ss)
		if got != before[reader] && got != after[reader] {
			switch {
			case c.inPlace && reader == oracle.ReaderLinux:
				tally.unbootable["linux where there is no room for a second array"]++
				continue
			case state.Kind == faultio.FaultLost:
				tally.lostUnbootable[reader.String()]++
				if !strings.Contains(state.String(), "the physical sector at 0 is lost") {
					// that of the protective MBR
					require.Equal(t, 4096, ss, "%v", state)
					require.Contains(t, state.String(), "the physical sector at 4096 is lost")
					require.Equal(t, oracle.ReaderLinux, reader)
				}
				continue
			}
			tally.unbootable[reader.String()]++
			t.Errorf("%v offers:\n%swant:\n%sor\n%s%v", reader, got, before[reader], after[reader], state)
			return false
		}
		if len(writes) == 0 {
			continue
		}
		tally.restores++
		for k := range writes {
			for _, next := range oracle.Readers() {
				again, _ := offered(t, next, state.Disk, writes[:k+1], ss)
				// A kernel for which there was no table sees the one that was restored.
				good := []string{before[next], after[next], before[oracle.ReaderUBoot]}
				if !slices.Contains(good, again) && (k+1 == len(writes) || next != oracle.ReaderLinux) {
					t.Errorf("after %d writes of %v %v offers:\n%swant:\n%sor\n%s%v", k+1, reader, next, again, before[next], after[next], state)
					return false
				}
			}
		}
		for _, w := range writes {
			requireApart(t, w.Offset, len(w.Data), fmt.Sprintf("%v writes its %s", reader, w.What), start, end)
		}
	}
	return true
}

func names(t *Table) (out []string) {
	for _, p := range t.Partitions {
		out = append(out, fmt.Sprint(p.Number, p.Name, p.ID, p.FirstLBA, p.LastLBA))
	}
	return out
}

func primaryLost(t testing.TB, d *faultio.Disk, ss int) *faultio.Disk {
	d = d.Clone()
	lose(1)(t, d, ss)
	return d
}

// requireOutside makes sure that nothing was written into a partition, or over boot code.
func requireOutside(t *testing.T, d *faultio.Disk, start, end *Table, ss int) {
	t.Helper()
	now := make([]byte, len(bootCode))
	_, err := d.ReadAt(now, 16*int64(ss))
	require.NoError(t, err)
	then := make([]byte, len(bootCode))
	_, err = d.Prefix(0).ReadAt(then, 16*int64(ss))
	require.NoError(t, err)
	if bytes.Contains(then, []byte("boot code boot code")) {
		require.Equal(t, then, now)
	}
	for _, w := range d.Writes() {
		requireApart(t, w.Offset, len(w.Data), "written", start, end)
	}
}

// requireApart makes sure that a write touches no partition of two tables.
func requireApart(t *testing.T, off int64, n int, what string, tables ...*Table) {
	t.Helper()
	for _, table := range tables {
		for i, p := range table.Partitions {
			at, size := table.Extent(i)
			require.False(t, off < at+size && at < off+int64(n), "%s: %d bytes at %d, in %q", what, n, off, p.Name)
		}
	}
}

// The table on the disk is written only if it is the one that was read.
func TestWriteChanged(t *testing.T) {
	for _, change := range []func(d *faultio.Disk) error{
		relabel,
		func(d *faultio.Disk) error { lose(1)(t, d, 512); return nil },
		func(d *faultio.Disk) error { lose(-1)(t, d, 512); return nil },
		func(d *faultio.Disk) error { _, err := d.WriteAt([]byte("boot code"), 0); return err },
		func(d *faultio.Disk) error { lose(1)(t, d, 512); lose(-1)(t, d, 512); return nil },
	} {
		d := usual(t, 512)
		table, err := Read(d, ReadOptions{})
		require.NoError(t, err)
		require.NoError(t, change(d))
		table.Partitions[0].Name = "EFI"
		d.Record()
		require.ErrorIs(t, table.Write(d), ErrChanged)
		require.Empty(t, d.Writes())
	}
	d := usual(t, 512)
	table, err := Read(d, ReadOptions{})
	require.NoError(t, err)
	require.ErrorContains(t, table.Write(struct{ io.WriterAt }{d}), "ReadAt")
	// What was written is what is there: it can be changed again.
	for _, name := range []string{"root_2.0", "root_3.0", "root_4.0"} {
		table.Partitions[2].Name = name
		require.NoError(t, table.Write(d))
		now, err := Read(d, ReadOptions{})
		require.NoError(t, err)
		require.Equal(t, name, now.Partitions[2].Name)
		require.Equal(t, now.read, table.read)
		// Nothing is written twice.
		d.Record()
		require.NoError(t, table.Write(d))
		require.Empty(t, d.Writes())
	}
}

// Both places for entries stay free: another tool, and Check, take no partition there.
func TestWriteReserves(t *testing.T) {
	for ss, want := range map[int][4]uint64{512: {40, 72, 40, 104}, 4096: {6, 10, 6, 14}} {
		d := usual(t, ss)
		for i := range 3 {
			table, err := Read(d, ReadOptions{})
			require.NoError(t, err)
			table.Partitions[2].Name = fmt.Sprint("root_2.", i)
			plan, err := table.PlanWrite()
			require.NoError(t, err)
			require.True(t, plan.Writes())
			require.NoError(t, plan.InPlace)
			require.NoError(t, table.Write(d))
			table, err = Read(d, ReadOptions{})
			require.NoError(t, err)
			header, entries, err := table.MarshalPrimary()
			require.NoError(t, err)
			require.Equal(t, plan.Primary, MeasuredTable{header, entries})
			require.Equal(t, want[i], table.read.primary.entriesLBA)
			require.Equal(t, want[3], table.FirstUsableLBA)
			require.Equal(t, want[3], table.read.backup.firstUsable)
			table.Partitions = append(table.Partitions, Partition{Type: Var, ID: idN(7), Name: "var", FirstLBA: want[1], LastLBA: want[1]})
			table.AllowUnaligned = true
			require.ErrorIs(t, table.Check(), ErrRange)
		}
	}
}

// PlanWrite knows the table that edk2 makes of the backup.
func TestPlanRestored(t *testing.T) {
	for _, long := range []bool{false, true} {
		d := usual(t, 512)
		table, err := Read(d, ReadOptions{})
		require.NoError(t, err)
		if long { // bytes of a header that edk2 does not know
			for _, h := range []*header{table.read.primary, table.read.backup} {
				h.size = 128
				copy(h.sector[92:], "in the header")
				require.NoError(t, writeAt(d, h.encode(), int64(h.myLBA)*512, ""))
			}
			table, err = Read(d, ReadOptions{})
			require.NoError(t, err)
		}
		table.Partitions[2].Name = "root_2.0"
		plan, err := table.PlanWrite()
		require.NoError(t, err)
		require.NoError(t, table.Write(d))
		lose(1)(t, d, 512)
		_, writes := offered(t, oracle.ReaderEDK2Stable202608, d, nil, 512)
		require.Len(t, writes, 2)
		for _, w := range writes {
			_, err := d.WriteAt(w.Data, w.Offset)
			require.NoError(t, err)
		}
		table, err = Read(d, ReadOptions{})
		require.NoError(t, err)
		require.Equal(t, uint64(2), table.read.primary.entriesLBA)
		header, entries, err := table.MarshalPrimary()
		require.NoError(t, err)
		require.Equal(t, MeasuredTable{header, entries}, plan.Restored)
		require.NotEqual(t, plan.Primary, plan.Restored)
	}
}

// A backup goes into the last sectors only where there is no partition.
func TestNoRoomForBackup(t *testing.T) {
	d := usual(t, 512)
	table, err := Read(d, ReadOptions{})
	require.NoError(t, err)
	p := *table.read.primary // gpt-no-backup of genimage: the partition ends with the disk
	table.Partitions[2].LastLBA = 1023
	table.Partitions[2].put(table.read.array[256:])
	p.lastUsable, p.alternate, p.entriesCRC = 1023, 2047, crc32.ChecksumIEEE(table.read.array)
	require.NoError(t, writeAt(d, table.read.array, 1024, ""))
	require.NoError(t, writeAt(d, p.encode(), 512, ""))
	larger := faultio.NewDisk(1040 * 512) // room for a header, but not for entries
	overwrite(t, larger, d)
	for _, d := range []*faultio.Disk{d, larger} {
		p.alternate = uint64(d.Size()/512) - 1
		require.NoError(t, writeAt(d, p.encode(), 512, ""))
		lose(-1)(t, d, 512)
		table, err = Read(d, ReadOptions{})
		require.NoError(t, err)
		require.False(t, table.UsedBackup)
		table.Partitions[0].Name = "EFI"
		d.Record()
		require.Error(t, table.Write(d))
		// smaller, but what it holds must not be lost before that is on the disk
		table.Partitions[2].LastLBA = 700
		require.ErrorIs(t, table.Write(d), ErrNoRoom)
		require.Empty(t, d.Writes())
	}
}

// What lies at the old end of a disk that grew is made zero only if it is a header.
func TestRepairForgetsHeaders(t *testing.T) {
	d := larger(t, 512)
	_, err := d.WriteAt([]byte("precious"), 1023*512)
	require.NoError(t, err)
	_, err = Repair(d, RepairOptions{})
	require.NoError(t, err)
	b := make([]byte, 8)
	_, err = d.ReadAt(b, 1023*512)
	require.NoError(t, err)
	require.Equal(t, "precious", string(b))
}

// Second judges: what sgdisk and sfdisk make of a sample of the same states. Both read a backup in
// the last sector and at AlternateLBA.
func TestFaultsForeign(t *testing.T) {
	sfdisk, sgdisk := testtools.Require(t, "sfdisk"), testtools.Require(t, "sgdisk")
	rnd, long := testtools.Seed(t)
	share := 12
	if long {
		share = 4
	}
	list := func(d *faultio.Disk) (string, string) {
		name := dump(t, d)
		a, _ := testtools.Try(t, "sh", "-c", `"$0" --dump "$1" 2>/dev/null`, sfdisk, name)
		b, _ := testtools.Try(t, "sh", "-c", `"$0" --print "$1" 2>/dev/null`, sgdisk, name)
		var parts []string
		for line := range strings.Lines(a) {
			if _, entry, ok := strings.Cut(line, " : start="); ok {
				parts = append(parts, entry)
			}
		}
		var numbered []string // without what is said about the other copy
		for line := range strings.Lines(b) {
			if len(line) > 4 && strings.Trim(line[:4], " ") != "" && strings.Trim(line[:4], " 0123456789") == "" {
				numbered = append(numbered, line)
			}
		}
		return strings.Join(parts, ""), strings.Join(numbered, "")
	}
	judged := 0
	for _, c := range faultCases() {
		if c.only == 4096 {
			continue
		}
		d := c.disk(t, 512)
		oldS, oldG := list(d)
		d.Record()
		require.NoError(t, c.change(d))
		newS, newG := list(d)
		require.NotEmpty(t, newS)
		require.NotEmpty(t, newG)
		faults, err := d.Faults(faultio.FaultOptions{Sector: 512, Limit: 300})
		require.NoError(t, err)
		for state := range faults.States() {
			if rnd.IntN(share) != 0 {
				continue
			}
			judged++
			gotS, gotG := list(state.Disk)
			require.True(t, gotS == oldS || gotS == newS, "%s: sfdisk reads:\n%s%v", c.name, gotS, state)
			require.True(t, gotG == oldG || gotG == newG, "%s: sgdisk reads:\n%s%v", c.name, gotG, state)
		}
	}
	require.Greater(t, judged, 5)
	t.Logf("%d states", judged)
}
