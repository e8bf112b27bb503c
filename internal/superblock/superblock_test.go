package superblock

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/faultio"
)

// Each signature is found where it stands, on devices of different sizes, and in an empty one there
// is none.
func TestFind(t *testing.T) {
	for _, size := range []int64{1 << 20, 3<<20 + 12288, 80 << 20} {
		list, err := Find(faultio.NewDisk(size+4096), 4096, size)
		require.NoError(t, err)
		require.Empty(t, list)
		for n, s := range Rows() {
			if s.What == "a member of a ZFS pool" && n%37 != 0 {
				continue // there are hundreds of them
			}
			at, ok := s.At(size)
			if !ok {
				continue
			}
			d := faultio.NewDisk(size + 4096)
			text := []byte(s.Magic)
			if s.Magic == "\x34\x34" {
				text = append([]byte{2, 0, 0, 0, 0, 0}, text...)
				at -= 6
			}
			_, err := d.WriteAt(text, 4096+at)
			require.NoError(t, err)
			list, err := Find(d, 4096, size)
			require.NoError(t, err)
			require.NotEmpty(t, list, "%+v", s)
			require.Equal(t, s.What, list[0].What)
		}
	}
	_, err := Find(faultio.NewDisk(4096), 0, 1<<20)
	require.Error(t, err, "what cannot be read is not known")
	bad := broken{}
	_, err = Find(bad, 0, 1<<20)
	require.ErrorIs(t, err, errBroken)
}

var errBroken = errors.New("broken")

type broken struct{}

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errBroken }
