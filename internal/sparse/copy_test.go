package sparse

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/faultio"
)

type zeroing struct {
	*faultio.Disk
	ranges [][2]int64
}

func (z *zeroing) ZeroRange(off, n int64) error {
	z.ranges = append(z.ranges, [2]int64{off, n})
	_, err := z.WriteAt(make([]byte, n), off)
	return err
}

// A file with a hole must come out the same through every kind of target.
func TestCopyHoles(t *testing.T) {
	name := filepath.Join(t.TempDir(), "sparse")
	f, err := os.Create(name)
	require.NoError(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte("head"), 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("tail"), 5<<20)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(6<<20))
	want := make([]byte, 7<<20)
	_, err = f.ReadAt(want[:6<<20], 0)
	require.NoError(t, err)

	dirty := func() *faultio.Disk {
		d := faultio.NewDisk(8 << 20)
		_, err := d.WriteAt(bytes.Repeat([]byte{0xaa}, 8<<20), 0)
		require.NoError(t, err)
		return d
	}
	clean := faultio.NewDisk(8 << 20)
	zero := &zeroing{Disk: dirty()}
	for _, c := range []struct {
		name string
		to   Target
	}{
		{"plain", Target{W: dirty()}},
		{"zero", Target{W: clean, Zero: true}},
		{"ranges", Target{W: zero}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var done int64
			c.to.Progress = func(n int64) { done += n }
			require.NoError(t, c.to.Copy(4096, io.NewSectionReader(f, 0, 6<<20), 7<<20))
			require.Equal(t, int64(7<<20), done)
			got := make([]byte, 7<<20)
			_, err := c.to.W.(io.ReaderAt).ReadAt(got, 4096)
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, got))
		})
	}
	require.NotEmpty(t, zero.ranges)
}

func TestCopyErrors(t *testing.T) {
	to := Target{W: faultio.NewDisk(1 << 20)}
	require.Error(t, to.Copy(0, bytes.NewReader(make([]byte, 10)), 9))
	require.ErrorIs(t, to.Copy(0, io.NewSectionReader(bytes.NewReader(nil), 0, 10), 10), io.ErrUnexpectedEOF)
}
