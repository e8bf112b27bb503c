package sparse

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/faultio"
)

// answering is a disk that answers with an error, or with none.
type answering struct {
	*faultio.Disk
	err error
}

func (a answering) DropCache(int64, int64) error { return a.err }

func (a answering) Lock() (func() error, error) {
	if a.err != nil {
		return nil, a.err
	}
	return func() error { return errors.New("unlocked") }, nil
}

// What a disk cannot do is not done, and no failure; what it fails to do is one.
func TestWhatADiskMayHave(t *testing.T) {
	broken := errors.New("broken")
	plain := struct{ io.WriterAt }{faultio.NewDisk(4096)}
	for _, c := range []struct {
		name   string
		disk   any
		can    bool
		failed error
	}{
		{"it can", answering{}, true, nil},
		{"it fails", answering{err: broken}, false, broken},
		{"what is below it cannot", answering{err: fmt.Errorf("below: %w", errors.ErrUnsupported)}, false, nil},
		{"it has no such method", plain, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			known, err := DropCache(c.disk, 0, 4096)
			require.ErrorIs(t, err, c.failed)
			require.Equal(t, c.can, known)
			unlock, err := Lock(c.disk)
			require.ErrorIs(t, err, c.failed)
			if c.failed != nil {
				return
			}
			if err := unlock(); c.can {
				require.EqualError(t, err, "unlocked", "the disk's own")
			} else {
				require.NoError(t, err)
			}
		})
	}
}

// short is a target that takes less than it is given, and does not say so.
type short struct{ *faultio.Disk }

func (s short) WriteAt(p []byte, off int64) (int, error) { return s.Disk.WriteAt(p[:len(p)/2], off) }

func TestShortWrites(t *testing.T) {
	for _, zero := range []bool{false, true} {
		to := Target{W: short{faultio.NewDisk(1 << 20)}, Zero: zero}
		require.ErrorIs(t, to.Copy(0, strings.NewReader("content"), 7), io.ErrShortWrite)
	}
	to := Target{W: short{faultio.NewDisk(1 << 20)}}
	require.ErrorIs(t, to.Zeros(0, 1<<10), io.ErrShortWrite)
}
