package blockdev

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Lines of proc_pid_mountinfo(5), with what the kernel escapes.
func TestParseMounts(t *testing.T) {
	got, err := parseMounts([]byte(`44 26 259:0 / /boot\040efi rw,relatime shared:7 - vfat /dev/sda1 rw,fmask=0022
45 26 0:31 /sub\134x /mnt ro - autofs systemd-1 ro,fd=7
`))
	require.NoError(t, err)
	require.Equal(t, []Mount{
		{"259:0", "/", "/boot efi", []string{"rw", "relatime", "rw", "fmask=0022"}, "vfat"},
		{"0:31", `/sub\x`, "/mnt", []string{"ro", "ro", "fd=7"}, "autofs"},
	}, got)
	for _, bad := range []string{"44 26 259:0 / /boot rw vfat", "44 26 - vfat a b", "44 26 259:0 / /boot rw - vfat\n"} {
		_, err := parseMounts([]byte(bad))
		require.ErrorContains(t, err, "want a mount", bad)
	}
}

// A file has no device, and the device that this test runs on has a disk or is one, where there is
// any.
func TestOf(t *testing.T) {
	name := filepath.Join(t.TempDir(), "disk.img")
	require.NoError(t, os.WriteFile(name, make([]byte, 512), 0o600))
	f, err := os.Open(name)
	require.NoError(t, err)
	defer f.Close()
	_, err = Of(f)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer null.Close()
	_, err = Of(null)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = Below("/proc")
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = Below(filepath.Join(t.TempDir(), "missing"))
	require.ErrorIs(t, err, os.ErrNotExist)

	release, err := Exclusive(f, 0, 512)
	require.NoError(t, err)
	require.NoError(t, release())
}
