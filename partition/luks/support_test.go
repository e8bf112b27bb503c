package luks

import (
	"encoding/hex"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/testtools"
)

// The passphrase of slot 0 of every vector.
var correctHorse = []byte("correct horse")

// random is a stream of bytes that is the same each time.
func random(seed uint64) io.Reader {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return rand.NewChaCha8(key)
}

// fastKDF is what tests can afford.
var fastKDF = KDF{Type: PBKDF2, Iterations: minIterations}

// small is a volume of 1 MiB and some for tests: room for three key slots.
func small(seed uint64) FormatOptions {
	return FormatOptions{Rand: random(seed), KeyslotsSize: 3 * 258048, SectorSize: 512, Key: KeyOptions{KDF: fastKDF}}
}

// formatted is a new volume with the passphrase of the vectors.
func formatted(t testing.TB, o FormatOptions) (*faultio.Disk, *Volume, *Key) {
	t.Helper()
	g, err := o.geometry(1 << 40)
	require.NoError(t, err)
	d := faultio.NewDisk(g.offset + 64<<10)
	v, key, err := Format(d, correctHorse, o)
	require.NoError(t, err)
	return d, v, key
}

// load is a disk with a vector.
func load(t testing.TB, name string) *faultio.Disk {
	t.Helper()
	return faultio.DiskOf(testtools.Gunzip(t, filepath.Join("testdata", name)))
}

// dump writes a disk to a file that a tool may change: cryptsetup repairs what it reads.
func dump(t testing.TB, d *faultio.Disk) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "volume.img")
	require.NoError(t, d.Save(name))
	return name
}

// undump is a disk with the content of a file.
func undump(t testing.TB, name string) *faultio.Disk {
	t.Helper()
	d, err := faultio.Load(name)
	require.NoError(t, err)
	return d
}

func content(t testing.TB, d *faultio.Disk) []byte {
	t.Helper()
	b := make([]byte, d.Size())
	_, err := d.ReadAt(b, 0)
	require.NoError(t, err)
	return b
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

// opens reports whether a passphrase opens a volume, in any slot or in one.
func opens(t testing.TB, v *Volume, passphrase string, slot *int) bool {
	t.Helper()
	key, err := v.Unlock([]byte(passphrase), UnlockOptions{Slot: slot})
	if err != nil {
		require.ErrorIs(t, err, ErrNoKey)
		return false
	}
	key.Clear()
	return true
}

func writeFile(t testing.TB, name string, b []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(name, b, 0o600))
}
