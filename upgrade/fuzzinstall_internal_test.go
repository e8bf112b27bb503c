package upgrade

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/faultio"
)

// A request is read or refused, and one that was read is written and read again as the same.
func FuzzResetRequest(f *testing.F) {
	for _, s := range []string{
		`{"osReleaseId":"acme","osReleaseImageId":"image","bootId":"00000000111122223333444444444444"}`, `{"osReleaseId":"acme","bootId":"00000000-1111-2222-3333-444444444444","x":{}}`,
		`{"osReleaseId":"acme","osReleaseId":"b","bootId":""}`, `{}`, ``, `"`,
	} {
		f.Add(efi.AppendUTF16(nil, s+"\x00"))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseResetRequest(b)
		require.Equal(t, err == nil, r != nil)
		if err != nil {
			require.ErrorAs(t, err, new(*osmith.FormatError))
			return
		}
		require.NotEmpty(t, r.OS)
		require.Equal(t, ResetMode(""), r.Mode(map[string]string{"ID": r.OS, "IMAGE_ID": r.Image}, osmith.GUID{}), "of a boot that is not known nothing is said")
		if r.Boot.IsZero() {
			return
		}
		store := &bootloader.MemoryVariables{}
		require.NoError(t, r.Ask(store))
		again, err := ReadResetRequest(store)
		require.NoError(t, err)
		require.Equal(t, r, again)
		require.Equal(t, ResetPending, again.Mode(map[string]string{"ID": r.OS, "IMAGE_ID": r.Image}, r.Boot))
	})
}

// What is on a disk is listed, whatever it is, and only a disk of zeros passes for an empty one.
func FuzzReadContents(f *testing.F) {
	f.Add([]byte("LUKS\xba\xbe"), uint32(0))
	f.Add([]byte("EFI PART"), uint32(512))
	f.Add([]byte{0x80, 0, 0, 0, 0xef, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, uint32(446))
	f.Add([]byte("_BHRfS_M"), uint32(65600))
	f.Fuzz(func(t *testing.T, b []byte, off uint32) {
		disk := faultio.NewDisk(6 << 20)
		at := int64(off) % (disk.Size() - 2)
		b = b[:min(int64(len(b)), disk.Size()-2-at)]
		_, err := disk.WriteAt(b, at)
		require.NoError(t, err)
		_, err = disk.WriteAt([]byte{0x55, 0xaa}, 510)
		require.NoError(t, err)
		c, err := ReadContents(disk)
		if err != nil {
			require.Nil(t, c)
			return
		}
		require.False(t, c.Empty())
		require.Len(t, c.Digest, 64)
		require.LessOrEqual(t, len(c.Found), maxFound+4+1024)
		again, err := ReadContents(disk)
		require.NoError(t, err)
		require.Equal(t, c.Digest, again.Digest)
		require.NotEmpty(t, c.String())
	})
}
