package compare

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/aesxts"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/partition/luks"
)

// xtsInMemory encrypts a GiB a mebibyte at a time, on one core; the reference is what "openssl
// speed" says that it would take.
func xtsInMemory(sector int) func(b *testing.B) sides {
	return func(b *testing.B) sides {
		c, err := aesxts.New([]byte("64 bytes of a key, of which the first half is not the second one"))
		require.NoError(b, err)
		buf := make([]byte, mib)
		return sides{
			ours: func() error {
				for i := range 1024 {
					c.Encrypt(buf, buf, sector, uint64(i*mib/512))
				}
				return nil
			},
			reference: func() (time.Duration, error) {
				out, err := testtools.Try(b, "openssl", "speed", "-mr", "-elapsed", "-seconds", "1", "-bytes", strconv.Itoa(sector), "-evp", "aes-256-xts")
				if err != nil {
					return 0, fmt.Errorf("%w: %s", err, out)
				}
				_, line, _ := strings.Cut(out, "+F:")
				fields := strings.Split(strings.Fields(line)[0], ":")
				bytesPerSecond, err := strconv.ParseFloat(fields[len(fields)-1], 64)
				return time.Duration(1024 * mib / bytesPerSecond * float64(time.Second)), err
			},
		}
	}
}

// luksWrite writes a GiB into a new LUKS2 volume; the reference writes the same bytes as they are.
func luksWrite(b *testing.B) sides {
	dir := b.TempDir()
	data := noise(b, filepath.Join(dir, "data"), 1024*mib)
	plain := filepath.Join(dir, "plain")
	f, err := os.Create(filepath.Join(dir, "volume"))
	require.NoError(b, err)
	require.NoError(b, f.Truncate(1056*mib))
	disk, err := osmith.NewDevice(f)
	require.NoError(b, err)
	b.Cleanup(func() { disk.Close() })
	return sides{
		ours: func() (err error) {
			v, key, err := luks.Format(disk, []byte("correct horse"), luks.FormatOptions{Rand: rand.Reader, Key: luks.KeyOptions{KDF: luks.KDF{Type: luks.PBKDF2, Iterations: 1000}}})
			if err != nil {
				return err
			}
			defer key.Clear()
			w, err := v.NewWriter(key)
			if err != nil {
				return err
			}
			_, err = io.Copy(w, io.NewSectionReader(data, 0, 1024*mib))
			return errors.Join(err, w.Close(), disk.Sync())
		},
		reference: host(b, "dd if="+data.Name()+" of="+plain+" bs=1M conv=fsync,notrunc status=none", "dd"),
	}
}

// luksArgon2id makes a volume whose passphrase goes through DefaultKDF; the reference is that
// alone, by libargon2's program.
func luksArgon2id(b *testing.B) sides {
	f, err := os.Create(filepath.Join(b.TempDir(), "volume"))
	require.NoError(b, err)
	require.NoError(b, f.Truncate(32*mib))
	disk, err := osmith.NewDevice(f)
	require.NoError(b, err)
	b.Cleanup(func() { disk.Close() })
	return sides{
		ours: func() error {
			_, key, err := luks.Format(disk, []byte("correct horse"), luks.FormatOptions{Rand: rand.Reader})
			if err != nil {
				return err
			}
			key.Clear()
			return nil
		},
		reference: host(b, "echo -n 'correct horse' | argon2 saltsaltsaltsalt -id -t 4 -k 262144 -p 4 -l 64 -r", "argon2"),
	}
}
