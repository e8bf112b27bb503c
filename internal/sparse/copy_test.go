package sparse

import (
	"bytes"
	"errors"
	"fmt"
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

// unable has a method that it cannot fulfil.
type unable struct{ *faultio.Disk }

func (u unable) ZeroRange(int64, int64) error {
	return fmt.Errorf("this disk: %w", errors.ErrUnsupported)
}

func TestZerosUnsupported(t *testing.T) {
	d := faultio.NewDisk(1 << 20)
	_, err := d.WriteAt(bytes.Repeat([]byte{1}, 1<<20), 0)
	require.NoError(t, err)
	var done int64
	to := Target{W: unable{d}, Progress: func(n int64) { done += n }}
	require.NoError(t, to.Zeros(0, 1<<20))
	got := make([]byte, 1<<20)
	_, err = d.ReadAt(got, 0)
	require.NoError(t, err)
	require.Equal(t, make([]byte, 1<<20), got)
	require.Equal(t, int64(1<<20), done)
}

// holed is a source of 8 MiB with data in its third.
type holed struct{ *bytes.Reader }

func (h holed) NextData(off int64) (start, end int64, err error) {
	if off >= 3<<20 {
		return 0, 0, io.EOF
	}
	return max(off, 2<<20), 3 << 20, nil
}

// A section of a section knows the holes of the source, and one beyond its end leaves the error to
// the read.
func TestNextDataOfSections(t *testing.T) {
	src := holed{bytes.NewReader(make([]byte, 8<<20))}
	section := io.NewSectionReader(io.NewSectionReader(src, 1<<20, 6<<20), 1<<19, 4<<20)
	start, end, err := NextData(section, 0)
	require.NoError(t, err)
	require.Equal(t, [2]int64{1 << 19, 3 << 19}, [2]int64{start, end})
	start, end, err = NextData(section, end)
	require.NoError(t, err)
	require.Equal(t, [2]int64{4 << 20, 4 << 20}, [2]int64{start, end})
	for _, beyond := range []*io.SectionReader{io.NewSectionReader(src, 7<<20, 2<<20), io.NewSectionReader(src, 9<<20, 1<<20), io.NewSectionReader(src, 1<<20, 1<<62)} {
		start, end, err = NextData(beyond, 0)
		require.NoError(t, err)
		require.Equal(t, [2]int64{0, beyond.Size()}, [2]int64{start, end})
	}
}
