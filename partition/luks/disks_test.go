package luks

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/partition"
)

// inPartition is a partition in the middle of a disk that otherwise is as large.
func inPartition(disk osmith.Disk) *partition.Window {
	const first = 1 << 20 / 512
	t := &partition.Table{SectorSize: 512, Partitions: []partition.Partition{{FirstLBA: first, LastLBA: uint64(disk.Size()/512) - 1}}}
	return t.Window(disk, 0)
}

// bare has only what every disk has.
type bare struct{ osmith.Disk }

// A volume can be in a partition of any disk, whether or not that has the methods that a disk may
// have.
func TestDisks(t *testing.T) {
	const size = 8 << 20
	file := func() *osmith.Device {
		f, err := os.Create(filepath.Join(t.TempDir(), "disk.img"))
		require.NoError(t, err)
		require.NoError(t, f.Truncate(size))
		d, err := osmith.NewDevice(f)
		require.NoError(t, err)
		t.Cleanup(func() { d.Close() })
		return d
	}
	for name, disk := range map[string]osmith.Disk{
		"memory": faultio.NewDisk(size), "bare": bare{faultio.NewDisk(size)}, "file": file(),
		"partition in memory": inPartition(faultio.NewDisk(size)), "partition of a bare disk": inPartition(bare{faultio.NewDisk(size)}), "partition of a file": inPartition(file()),
	} {
		t.Run(name, func(t *testing.T) {
			v, key, err := Format(disk, correctHorse, small(1))
			require.NoError(t, err)
			_, err = v.AddKey(key, []byte("second"), KeyOptions{Rand: random(2), KDF: fastKDF})
			require.NoError(t, err)
			again, err := Open(disk)
			require.NoError(t, err)
			require.True(t, opens(t, again, "second", nil))
			require.NoError(t, again.RemoveKey(0, RemoveOptions{}))
			require.False(t, opens(t, again, string(correctHorse), nil))
		})
	}
}

// Who changes a volume in a partition has the whole disk alone.
func TestLockedInPartition(t *testing.T) {
	disk := &lockable{Disk: faultio.NewDisk(8 << 20)}
	v, key, err := Format(inPartition(disk), correctHorse, small(1))
	require.NoError(t, err)
	require.Empty(t, disk.log, "written without the lock")
	require.False(t, disk.held)
	disk.held = true
	_, err = v.AddKey(key, []byte("second"), KeyOptions{Rand: random(2), KDF: fastKDF})
	require.EqualError(t, err, "luks: "+(&osmith.LockedError{Name: "disk"}).Error())
	_, _, err = Format(inPartition(disk), correctHorse, small(1))
	require.ErrorAs(t, err, new(*osmith.LockedError))
}

// What is written to a file is read back past the page cache, which the kernel counts.
func TestReadBackFromTheMedium(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "volume.img"))
	require.NoError(t, err)
	require.NoError(t, f.Truncate(8<<20))
	d, err := osmith.NewDevice(f)
	require.NoError(t, err)
	defer d.Close()
	read := testtools.DiskReads(t, dir)
	v, key, err := Format(d, correctHorse, small(1))
	require.NoError(t, err)
	before := read()
	_, err = v.AddKey(key, []byte("second"), KeyOptions{Rand: random(2), KDF: fastKDF})
	require.NoError(t, err)
	require.GreaterOrEqual(t, read()-before, areaSize(64)+2*v.Header().Size)
}
