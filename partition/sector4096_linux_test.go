package partition

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/testtools"
)

// loopDevice attaches a file as a disk with sectors of 4096 bytes, which is the only way to show
// such a disk to gdisk and fdisk. Where there is none to be had, the test is skipped.
func loopDevice(t *testing.T, name string) string {
	t.Helper()
	out, err := testtools.Try(t, "losetup", "--find", "--show", "--sector-size", "4096", name)
	if err != nil {
		t.Skipf("no loop device: %v: %s", err, out)
	}
	loop := strings.TrimSpace(out)
	t.Cleanup(func() { testtools.Run(t, "losetup", "--detach", loop) })
	return loop
}

// Tables for sectors of 4096 bytes that we write and gdisk and fdisk read, and that sfdisk writes
// and we read.
func TestSectors4096(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root and a loop device")
	}
	sgdisk := testtools.Require(t, "sgdisk")
	sfdisk := testtools.Require(t, "sfdisk")
	rounds := 8
	if os.Getenv("OSMITH_LONG") == "1" {
		rounds = 60
	}
	rng := rand.New(rand.NewPCG(21, 4096))
	for range rounds {
		table := randomTable(rng, 4096)
		table.Partitions = slices.DeleteFunc(table.Partitions, func(p Partition) bool {
			// sfdisk drops names with characters that take two UTF-16 units
			return strings.Contains(p.Name, "𝄞")
		})
		d := faultio.NewDisk(table.Size)
		require.NoError(t, table.Write(d))
		ours := loopDevice(t, dump(t, d))
		require.Contains(t, testtools.Run(t, sgdisk, "-v", ours), "No problems found")
		testtools.Run(t, sfdisk, "--verify", ours)

		name := filepath.Join(t.TempDir(), "other.img")
		require.NoError(t, os.WriteFile(name, nil, 0o644))
		require.NoError(t, os.Truncate(name, table.Size))
		other := loopDevice(t, name)
		testtools.Run(t, "sh", "-ec", `"$0" --dump "$1" | "$0" --quiet --no-reread --no-tell-kernel "$2"`, sfdisk, ours, other)
		testtools.Run(t, "sync", name)
		device, err := osmith.OpenFile(other)
		require.NoError(t, err)
		require.Equal(t, table.Size, device.Size())
		require.Equal(t, 4096, device.SectorSize())
		got, err := Read(device, ReadOptions{})
		require.NoError(t, device.Close())
		require.NoError(t, err)
		require.Equal(t, 4096, got.SectorSize)
		require.NoError(t, got.BackupErr)
		require.Empty(t, got.Findings())
		same(t, table, got)
	}
}
