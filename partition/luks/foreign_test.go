package luks

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A foreignVolume is a file that cryptsetup works on.
type foreignVolume struct {
	t    *testing.T
	run  func(dir string, args ...string) (string, error)
	dir  string
	name string
	key  string // file with the passphrase of the vectors
}

func newForeignVolume(t *testing.T, run func(dir string, args ...string) (string, error), size int64) foreignVolume {
	t.Helper()
	dir := t.TempDir()
	f := foreignVolume{t, run, dir, filepath.Join(dir, "volume"), filepath.Join(dir, "key")}
	writeFile(t, f.name, nil)
	require.NoError(t, os.Truncate(f.name, size))
	writeFile(t, f.key, correctHorse)
	return f
}

func (f foreignVolume) must(args ...string) {
	f.t.Helper()
	_, err := f.run(f.dir, args...)
	require.NoError(f.t, err)
}

var cheap = []string{"--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"}

// A volume whose data is under two keys is shown, and neither opened nor changed.
func TestReencryption(t *testing.T) {
	for version, run := range cryptsetups(t) {
		f := newForeignVolume(t, run, 20<<20)
		f.must(append([]string{"luksFormat", "-q", "--type", "luks2", "--luks2-metadata-size", "16k", "--luks2-keyslots-size", "2m", "--sector-size", "512", f.name, f.key}, cheap...)...)
		args := append([]string{"reencrypt", "-q", "--init-only", "--resilience", "none", "--key-file", f.key, "--key-slot", "0", f.name}, cheap...)
		if version == "forky" {
			args = append(args, "--force-offline-reencrypt")
		}
		if _, err := run(f.dir, args...); err != nil {
			t.Logf("cryptsetup of %s begins no reencryption without a device: %v", version, err)
			require.NotEqual(t, "forky", version)
			continue
		}
		v, err := Open(undump(t, f.name))
		require.NoError(t, err, version)
		h := v.Header()
		require.NotEmpty(t, h.Requirements)
		require.Greater(t, len(h.Segments), 1)
		var unsupported *UnsupportedError
		require.ErrorAs(t, h.Unsupported, &unsupported)
		_, err = v.Unlock(correctHorse, UnlockOptions{})
		require.ErrorAs(t, err, &unsupported)
		require.ErrorAs(t, v.RemoveKey(0, RemoveOptions{LeaveNoKeyForAPerson: true}), &unsupported)
		require.NoError(t, v.Repair(RepairOptions{}), "there is nothing to repair")
	}
}

// A volume that was of LUKS1 has digests of 20 bytes by another hash, and is as good as others.
func TestConverted(t *testing.T) {
	for version, run := range cryptsetups(t) {
		for _, hash := range []string{"sha1", "sha256"} {
			f := newForeignVolume(t, run, 6<<20)
			f.must("luksFormat", "-q", "--type", "luks1", "--pbkdf-force-iterations", "1000", "--hash", hash, "--key-size", "512", f.name, f.key)
			_, err := Read(undump(t, f.name))
			require.ErrorIs(t, err, ErrLUKS1)
			f.must("convert", "-q", "--type", "luks2", f.name)
			d := undump(t, f.name)
			v, err := Open(d)
			require.NoError(t, err, "%s, %s", version, hash)
			require.NoError(t, v.Header().Unsupported)
			key, err := v.Unlock(correctHorse, UnlockOptions{})
			require.NoError(t, err, "%s, %s", version, hash)
			_, err = v.AddKey(key, []byte("second"), with(KeyOptions{KDF: fastKDF}))
			require.NoError(t, err)
			require.NoError(t, v.RemoveKey(0, RemoveOptions{}))
			name := dump(t, d)
			second := filepath.Join(filepath.Dir(name), "second")
			writeFile(t, second, []byte("second"))
			_, err = run(filepath.Dir(name), "open", "--test-passphrase", "--key-file", second, name)
			require.NoError(t, err)
		}
	}
}

// A header that is a file of its own: its keys are changed, and cryptsetup goes on with it.
func TestDetachedAgainstCryptsetup(t *testing.T) {
	for version, run := range cryptsetups(t) {
		f := newForeignVolume(t, run, 4<<20)
		header := filepath.Join(f.dir, "header")
		f.must(append([]string{"luksFormat", "-q", "--type", "luks2", "--luks2-metadata-size", "16k", "--luks2-keyslots-size", "1m", "--header", header, f.name, f.key}, cheap...)...)
		d := undump(t, header)
		v, err := Open(d)
		require.NoError(t, err, version)
		require.True(t, v.Header().Detached())
		key, err := v.Unlock(correctHorse, UnlockOptions{})
		require.NoError(t, err)
		_, err = v.NewReader(key)
		require.ErrorIs(t, err, ErrDetached)
		_, err = v.AddKey(key, []byte("second"), with(KeyOptions{KDF: fastKDF}))
		require.NoError(t, err)
		writeFile(t, header, content(t, d))
		second := filepath.Join(f.dir, "second")
		writeFile(t, second, []byte("second"))
		f.must("open", "--test-passphrase", "--key-file", second, "--header", header, f.name)
	}
}
