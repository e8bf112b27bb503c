package partition

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/faultio"
)

func wipe(d *faultio.Disk, lba uint64, n int) { d.WriteAt(make([]byte, n), int64(lba)*512) }

// grown is d as the start of a larger disk.
func grown(d *faultio.Disk, size int64) *faultio.Disk {
	bigger := faultio.NewDisk(size)
	b := make([]byte, d.Size())
	d.ReadAt(b, 0)
	bigger.WriteAt(b, 0)
	return bigger
}

func last(d *faultio.Disk) uint64 { return uint64(d.Size()/512) - 1 }

// Whatever Repair finds, the table is whole in the end, and readable, with the same partitions,
// after a cut anywhere.
func TestCutRepair(t *testing.T) {
	_, small := image(t, abLayout())
	old := last(small)
	const big = 256 << 20
	for _, c := range []struct {
		name                   string
		size                   int64
		damage                 func(d *faultio.Disk)
		primary, backup, moved bool
		mbr                    bool
	}{
		{name: "nothing", size: small.Size()},
		{name: "primary header", size: small.Size(), damage: func(d *faultio.Disk) { wipe(d, 1, 512) }, primary: true},
		{name: "primary entries", size: small.Size(), damage: func(d *faultio.Disk) { wipe(d, 2, 512) }, primary: true},
		{name: "first MiB but for the MBR", size: small.Size(), damage: func(d *faultio.Disk) { wipe(d, 1, 1<<20-512) }, primary: true},
		{name: "backup header", size: small.Size(), damage: func(d *faultio.Disk) { wipe(d, old, 512) }, backup: true},
		{name: "backup entries", size: small.Size(), damage: func(d *faultio.Disk) { wipe(d, old-32, 512) }, backup: true},
		{name: "MBR", size: small.Size(), damage: func(d *faultio.Disk) { wipe(d, 0, 512) }, mbr: true},
		{name: "grown", size: big, moved: true, mbr: true},
		{name: "grown a little", size: small.Size() + 8*512, moved: true, mbr: true},
		{name: "grown, backup lost", size: big, damage: func(d *faultio.Disk) { wipe(d, old-32, 33*512) }, backup: true, moved: true, mbr: true},
		{name: "grown, primary checksum", size: big, damage: func(d *faultio.Disk) { d.WriteAt([]byte{1}, 512+60) }, primary: true, moved: true, mbr: true},
		{name: "grown, primary lost", size: big, damage: func(d *faultio.Disk) { wipe(d, 1, 64*512) }, primary: true, moved: true, mbr: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := grown(small, c.size)
			if c.damage != nil {
				c.damage(d)
			}
			table, err := Read(d, ReadOptions{})
			require.NoError(t, err)
			want := table.Partitions
			d.Record()
			done, err := Repair(d, RepairOptions{})
			require.NoError(t, err)
			require.Equal(t, []bool{c.primary, c.backup, c.moved, c.mbr},
				[]bool{done.Primary != nil, done.Backup != nil, done.MovedFrom != done.MovedTo, done.MBR}, done.String())
			if c.name == "nothing" {
				require.False(t, done.Changed())
				require.Equal(t, "nothing to repair", done.String())
				require.Empty(t, d.Writes())
				return
			}
			if c.moved {
				require.Equal(t, []uint64{old, last(d)}, []uint64{done.MovedFrom, done.MovedTo})
				b := make([]byte, 8)
				d.ReadAt(b, int64(old)*512)
				require.NotEqual(t, signature, string(b), "the old backup header is gone")
			}
			requireVerified(t, d)
			rng := rand.New(rand.NewPCG(7, uint64(c.size)))
			check := func(cut *faultio.Disk, what string) {
				got, err := Read(cut, ReadOptions{})
				require.NoError(t, err, what)
				require.Equal(t, want, got.Partitions, what)
				_, err = Repair(cut, RepairOptions{})
				require.NoError(t, err, what)
				got, err = Read(cut, ReadOptions{})
				require.NoError(t, err, what)
				require.Equal(t, want, got.Partitions, what)
				require.NoError(t, got.PrimaryErr)
				require.NoError(t, got.BackupErr)
				require.Equal(t, last(cut), got.read.backup.myLBA)
				again, err := Repair(cut, RepairOptions{})
				require.NoError(t, err)
				require.False(t, again.Changed(), "%s: %s", what, again)
			}
			writes := d.Writes()
			for k, w := range writes {
				check(d.Prefix(k), fmt.Sprint("before write ", k))
				for n := 512; n < len(w.Data); n += 2048 {
					check(d.Torn(k, n), fmt.Sprint("torn write ", k))
				}
				for range 4 {
					check(d.Lossy(k+1, func(int) bool { return rng.IntN(2) == 0 }), fmt.Sprint("lossy ", k))
				}
			}
			check(d, "at the end")
		})
	}
}

func TestRepairRefuses(t *testing.T) {
	_, d := image(t, abLayout())
	_, err := Repair(faultio.NewDisk(1<<20), RepairOptions{})
	require.ErrorIs(t, err, ErrNoTable)
	_, err = Repair(d, RepairOptions{SectorSize: 4096})
	require.ErrorIs(t, err, ErrDamaged)
	_, err = Repair(d, RepairOptions{SectorSize: 512})
	require.NoError(t, err)
	hybrid := grown(d, 256<<20)
	hybrid.WriteAt([]byte{0x0c}, 446+16+4)
	_, err = Repair(hybrid, RepairOptions{})
	require.ErrorIs(t, err, ErrHybridMBR)
	before := make([]byte, 512)
	hybrid.ReadAt(before, 0)
	done, err := Repair(hybrid, RepairOptions{KeepHybridMBR: true})
	require.NoError(t, err)
	require.True(t, done.Changed())
	require.False(t, done.MBR)
	after := make([]byte, 512)
	hybrid.ReadAt(after, 0)
	require.Equal(t, before, after)
	d.CutAfter(0)
	wipe(d, 1, 512)
	d = d.Clone()
	wipe(d, 1, 512)
	d.CutAfter(1)
	_, err = Repair(d, RepairOptions{})
	require.ErrorIs(t, err, faultio.ErrCut)
}

// The backup of a disk that grew, with nothing left of the primary, at each of the usual places.
func TestFindBackup(t *testing.T) {
	l := abLayout()
	for i := range l.Partitions {
		l.Partitions[i].Size, l.Partitions[i].Content = 1<<20, nil
	}
	// a protective record that covers everything says where nothing ended
	gpt := func(d *faultio.Disk) {
		d.WriteAt([]byte{0xff, 0xff, 0xff, 0xff}, 446+12)
	}
	for _, c := range []struct {
		name      string
		old, size int64
		keep      func(d *faultio.Disk)
	}{
		{"protective MBR", 77<<20 + 3*512, 512 << 20, func(*faultio.Disk) {}},
		{"a MiB", 77 << 20, 512 << 20, gpt},
		{"a GiB", 5 << 30, 9 << 30, gpt},
		{"a little before the end", 77<<20 + 3*512, 77<<20 + 100*512, gpt},
	} {
		t.Run(c.name, func(t *testing.T) {
			l.Size = c.old
			_, small := image(t, l)
			d := faultio.NewDisk(c.size)
			for _, part := range [][2]int64{{0, 1 << 20}, {c.old - 1<<20, 1 << 20}} {
				b := make([]byte, part[1])
				small.ReadAt(b, part[0])
				d.WriteAt(b, part[0])
			}
			wipe(d, 1, 64*512)
			c.keep(d)
			table, err := Read(d, ReadOptions{})
			require.NoError(t, err)
			require.True(t, table.UsedBackup)
			require.Error(t, table.PrimaryErr)
			require.Equal(t, uint64(c.old/512-1), table.read.backup.myLBA)
			require.Len(t, table.Partitions, 6)
			// without a trace of a GPT, a header inside of the disk is a user's data
			wipe(d, 0, 512)
			_, err = Read(d, ReadOptions{})
			require.ErrorIs(t, err, ErrNoTable)
		})
	}
	t.Run("behind the last partition", func(t *testing.T) {
		l.Size = 0
		im, err := Plan(l)
		require.NoError(t, err)
		l.Size = im.Size - 1<<20 + 50*512 // at no whole MiB
		_, small := image(t, l)
		d := grown(small, 512<<20)
		wipe(d, 1, 512)
		gpt(d)
		table, err := Read(d, ReadOptions{})
		require.NoError(t, err)
		require.Equal(t, uint64(l.Size/512-1), table.read.backup.myLBA)
	})
}
