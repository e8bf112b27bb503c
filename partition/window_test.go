package partition

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/sparse"
)

var _ osmith.Disk = (*Window)(nil)

// able is a disk that knows its holes, can zero ranges, and begins to write when it is asked to.
type able struct {
	*faultio.Disk
	data            [2]int64 // the only range that is not zero
	zeroed, started [][2]int64
}

func (a *able) NextData(off int64) (start, end int64, err error) {
	if off >= a.data[1] {
		return 0, 0, io.EOF
	}
	return max(off, a.data[0]), a.data[1], nil
}

func (a *able) ZeroRange(off, n int64) error {
	a.zeroed = append(a.zeroed, [2]int64{off, n})
	_, err := a.WriteAt(make([]byte, n), off)
	return err
}

func (a *able) StartWriteback(off, n int64) { a.started = append(a.started, [2]int64{off, n}) }

// ranges are all data of a source.
func ranges(t *testing.T, src osmith.Source) (out [][2]int64) {
	t.Helper()
	for off := int64(0); ; {
		start, end, err := sparse.NextData(src, off)
		require.NoError(t, err)
		require.LessOrEqual(t, off, start)
		if start == src.Size() {
			return out
		}
		out = append(out, [2]int64{start, end})
		off = end
	}
}

func windowOf(disk osmith.Disk, firstLBA, sectors uint64) *Window {
	t := &Table{SectorSize: 512, Partitions: []Partition{{FirstLBA: firstLBA, LastLBA: firstLBA + sectors - 1}}}
	return t.Window(disk, 0)
}

// What the disk can do, a partition of it can do.
func TestWindowOffersWhatTheDiskOffers(t *testing.T) {
	const mib = 1 << 20
	disk := &able{Disk: faultio.NewDisk(64 * mib), data: [2]int64{6 * mib, 7 * mib}}
	w := windowOf(disk, 4*mib/512, 32*mib/512)
	require.Equal(t, [][2]int64{{2 * mib, 3 * mib}}, ranges(t, w))
	require.Equal(t, [][2]int64{{mib, 2 * mib}}, ranges(t, io.NewSectionReader(w, mib, 8*mib)), "a section of a partition")
	require.Empty(t, ranges(t, windowOf(disk, 8*mib/512, 8)))

	to := sparse.Target{W: w, Sync: true}
	require.NoError(t, to.Copy(mib, bytes.NewReader(bytes.Repeat([]byte{1}, 20*mib)), 21*mib))
	require.Equal(t, [][2]int64{{25 * mib, mib}}, disk.zeroed)
	require.Equal(t, [][2]int64{{5 * mib, 8 * mib}, {13 * mib, 8 * mib}}, disk.started)

	disk.started = nil
	w.StartWriteback(31*mib, 2*mib)
	require.Empty(t, disk.started, "beyond the partition")
	require.Error(t, w.ZeroRange(31*mib, 2*mib))

	plain := windowOf(faultio.NewDisk(64*mib), 0, 8*mib/512)
	require.Equal(t, [][2]int64{{0, 8 * mib}}, ranges(t, plain))
	require.ErrorIs(t, plain.ZeroRange(0, mib), errors.ErrUnsupported)
	to = sparse.Target{W: plain}
	require.NoError(t, to.Zeros(0, mib), "zeros are written then")
	plain.StartWriteback(0, mib)
}

// locking is a disk that something may have already.
type locking struct {
	*faultio.Disk
	held bool
}

func (l *locking) Lock() (func() error, error) {
	if l.held {
		return nil, &osmith.LockedError{Name: "disk"}
	}
	l.held = true
	return func() error { l.held = false; return nil }, nil
}

// Who changes a partition has the whole disk alone.
func TestWindowLocksTheDisk(t *testing.T) {
	disk := &locking{Disk: faultio.NewDisk(1 << 20)}
	w := windowOf(disk, 8, 8)
	unlock, err := w.Lock()
	require.NoError(t, err)
	require.True(t, disk.held)
	_, err = windowOf(disk, 16, 8).Lock()
	require.EqualError(t, err, (&osmith.LockedError{Name: "disk"}).Error())
	require.NoError(t, unlock())
	require.False(t, disk.held)
	_, err = windowOf(faultio.NewDisk(1<<20), 8, 8).Lock()
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

// A copy out of a partition of a sparse file leaves its holes out.
func TestWindowHoles(t *testing.T) {
	const mib = 1 << 20
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	require.NoError(t, err)
	disk, err := osmith.NewDevice(f)
	require.NoError(t, err)
	defer disk.Close()
	require.NoError(t, f.Truncate(64*mib))
	disk, err = osmith.NewDevice(f)
	require.NoError(t, err)
	_, err = disk.WriteAt(bytes.Repeat([]byte{1}, mib), 20*mib)
	require.NoError(t, err)
	if len(ranges(t, disk)) != 1 || ranges(t, disk)[0] != [2]int64{20 * mib, 21 * mib} {
		t.Skip("this file system does not tell holes")
	}
	w := windowOf(disk, 16*mib/512, 32*mib/512)
	require.Equal(t, [][2]int64{{4 * mib, 5 * mib}}, ranges(t, w))
	out := faultio.NewDisk(32 * mib)
	out.Record()
	to := sparse.Target{W: out, Zero: true}
	require.NoError(t, to.Copy(0, w, w.Size()))
	written := int64(0)
	for _, write := range out.Writes() {
		written += int64(len(write.Data))
	}
	require.Equal(t, int64(mib), written)
}
