package partition

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/testtools"
)

// randomTable makes a table with partitions in any order and number, of any type, name and
// attributes. anyType is a partition type of some architecture.
func anyType(rng *rand.Rand) osmith.GUID {
	for {
		if id := arch.Table[rng.IntN(len(arch.Table))].Types[rng.IntN(6)]; !id.IsZero() {
			return id
		}
	}
}

func randomTable(rng *rand.Rand, ss int) *Table {
	t := &Table{SectorSize: ss, Size: 16<<20 + rng.Int64N(16<<20)/int64(ss)*int64(ss)}
	for i := range t.DiskID {
		t.DiskID[i] = byte(1 + rng.IntN(255))
	}
	t.DiskID[6], t.DiskID[8] = 0x4a, 0x8a
	names := []string{"esp", EmptyName, "root_1.0+3-0", "Größe", "日本", strings.Repeat("x", MaxName), ""}
	bits := []uint64{0, AttrReadOnly, AttrNoAuto | AttrReadOnly, AttrGrowFileSystem, AttrRequired, AttrLegacyBIOSBoot, 1<<48 | 1<<56, 0xffff << 48}
	lba := uint64(1<<20) / uint64(ss)
	step := uint64(physicalSector / ss)
	for n := rng.IntN(9); n > 0; n-- {
		lba += rng.Uint64N(50) * step
		size := (1 + rng.Uint64N(300)) * step
		p := Partition{
			Type: anyType(rng), Name: names[rng.IntN(len(names))],
			Attributes: bits[rng.IntN(len(bits))], FirstLBA: lba, LastLBA: lba + size - 1,
		}
		if rng.IntN(3) == 0 {
			p.Type = typeNames[rng.IntN(len(typeNames))].id
		}
		if rng.IntN(20) == 0 {
			p.Name = strings.Repeat("𝄞", 1+rng.IntN(MaxName/2))
		}
		p.ID = t.DiskID
		p.ID[15], p.ID[0] = byte(n), byte(rng.IntN(256))
		lba += size
		t.Partitions = append(t.Partitions, p)
	}
	numbers := rng.Perm(defaultCount)
	for i := range t.Partitions {
		t.Partitions[i].Number = 1 + numbers[i]
	}
	rng.Shuffle(len(t.Partitions), func(i, j int) { t.Partitions[i], t.Partitions[j] = t.Partitions[j], t.Partitions[i] })
	return t
}

// same compares what was read with what was meant, in entry order.
func same(t *testing.T, want, got *Table) {
	t.Helper()
	require.Equal(t, want.DiskID, got.DiskID)
	require.Equal(t, want.SectorSize, got.SectorSize)
	require.Len(t, got.Partitions, len(want.Partitions))
	byNumber := map[int]Partition{}
	for _, p := range got.Partitions {
		p.rawName, p.read = [nameBytes]byte{}, nil
		byNumber[p.Number] = p
	}
	for _, p := range want.Partitions {
		require.Equal(t, p, byNumber[p.Number])
	}
}

// Tables that we write and gdisk, fdisk and go-diskfs read, and the other way round.
func TestRoundTrips(t *testing.T) {
	sgdisk := testtools.Require(t, "sgdisk")
	sfdisk := testtools.Require(t, "sfdisk")
	rounds := 25
	if testing.Short() {
		rounds = 3
	}
	for group := range uint64(8) { // the tools mostly wait for the disk
		t.Run(fmt.Sprint(group), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(21, group))
			for round := range rounds {
				roundTrip(t, randomTable(rng, []int{512, 4096}[round%2]), sgdisk, sfdisk)
			}
		})
	}
}

func roundTrip(t *testing.T, table *Table, sgdisk, sfdisk string) {
	t.Helper()
	d := faultio.NewDisk(table.Size)
	require.NoError(t, table.Write(d))
	got, err := Read(d, ReadOptions{})
	require.NoError(t, err)
	require.NoError(t, got.BackupErr)
	same(t, table, got)
	name := dump(t, d)
	fromDiskfs(t, table, name)
	if table.SectorSize == 512 { // these two read files with sectors of 512 bytes only
		fromFdisk(t, table, d, name, sgdisk, sfdisk)
	}
	require.NoError(t, os.Remove(name))
}

// fromFdisk has sfdisk write the table that it reads to another disk; now and then sgdisk, which
// sleeps for a second.
func fromFdisk(t *testing.T, table *Table, d *faultio.Disk, name, sgdisk, sfdisk string) {
	t.Helper()
	require.Contains(t, testtools.Run(t, sgdisk, "-v", name), "No problems found")
	text := testtools.Run(t, sfdisk, "--json", name)
	var listed struct {
		PartitionTable struct {
			ID         string
			Partitions []struct {
				Start, Size uint64
				Type, UUID  string
				Name        string
			}
		}
	}
	require.NoError(t, json.Unmarshal([]byte(text), &listed), text)
	require.Equal(t, strings.ToUpper(table.DiskID.String()), listed.PartitionTable.ID)
	byID := map[string]Partition{}
	for _, p := range table.Partitions {
		byID[strings.ToUpper(p.ID.String())] = p
	}
	require.Len(t, listed.PartitionTable.Partitions, len(byID))
	for _, l := range listed.PartitionTable.Partitions {
		p := byID[l.UUID]
		require.Equal(t, []uint64{p.FirstLBA, p.LastLBA - p.FirstLBA + 1}, []uint64{l.Start, l.Size})
		require.Equal(t, strings.ToUpper(p.Type.String()), strings.ToUpper(l.Type))
		require.Equal(t, p.Name, l.Name)
	}
	dir := t.TempDir()
	other := filepath.Join(dir, "other.img")
	require.NoError(t, os.WriteFile(other, nil, 0o644))
	require.NoError(t, os.Truncate(other, d.Size()))
	// sfdisk drops names with characters that take two UTF-16 units.
	wide := slices.ContainsFunc(table.Partitions, func(p Partition) bool { return strings.Contains(p.Name, "𝄞") })
	switch {
	case table.DiskID[0] < 4:
		backup := filepath.Join(dir, "backup")
		testtools.Run(t, sgdisk, "--backup", backup, name)
		testtools.Run(t, sgdisk, "--load-backup", backup, other)
	case wide:
		return
	default:
		testtools.Run(t, "sh", "-ec", `"$0" --dump "$1" | "$0" --quiet "$2"`, sfdisk, name, other)
	}
	theirs := load(t, other)
	got, err := Read(theirs, ReadOptions{})
	require.NoError(t, err)
	require.NoError(t, got.BackupErr)
	same(t, table, got)
}

// fromDiskfs has go-diskfs read the table and write it to another disk.
func fromDiskfs(t *testing.T, table *Table, name string) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	theirs, err := gpt.Read(f, table.SectorSize, table.SectorSize)
	require.NoError(t, err)
	require.Equal(t, strings.ToUpper(table.DiskID.String()), strings.ToUpper(theirs.GUID))
	byStart := map[uint64]*gpt.Partition{}
	for _, p := range theirs.Partitions {
		if p.Type != gpt.Unused {
			byStart[p.Start] = p
		}
	}
	require.Len(t, byStart, len(table.Partitions))
	for _, p := range table.Partitions {
		q := byStart[p.FirstLBA]
		require.NotNil(t, q)
		require.Equal(t, fmt.Sprint(p.LastLBA, p.Name, p.Attributes, strings.ToUpper(p.ID.String()), strings.ToUpper(p.Type.String())),
			fmt.Sprint(q.End, q.Name, q.Attributes, strings.ToUpper(q.GUID), strings.ToUpper(string(q.Type))))
	}
	require.NoError(t, theirs.Write(f, table.Size))
	got, err := Read(io.NewSectionReader(f, 0, table.Size), ReadOptions{SectorSize: table.SectorSize})
	require.NoError(t, err)
	require.NoError(t, got.BackupErr)
	same(t, table, got)
}
