package compare

import (
	"bytes"
	"context"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/verity"
)

// memory is a file in memory: the hash tree, of which the partition IDs are made before anything is
// written.
type memory struct{ b []byte }

func (m *memory) WriteAt(p []byte, off int64) (int, error) { return copy(m.b[off:], p), nil }

// diskImage is an ESP of files, a root of 236 MB and its hash tree, in a disk image that is synced.
func diskImage(b *testing.B) sides {
	r := testtools.Forky(b)
	dir := b.TempDir()
	require.NoError(b, os.MkdirAll(filepath.Join(dir, "tree/EFI/Linux"), 0o700))
	require.NoError(b, os.MkdirAll(filepath.Join(dir, "repart.d"), 0o700))
	root := noise(b, filepath.Join(dir, "root.erofs"), 57_600*4096) // 236 MB
	var files []osmith.ESPFile
	for _, f := range []struct {
		name string
		size int64
	}{{"EFI/Linux/os_1.0.efi", 100_000_000}, {"EFI/Linux/rescue.efi", 14_000_000}} {
		files = append(files, osmith.ESPFile{Path: f.name, Content: source(noise(b, filepath.Join(dir, "tree", f.name), f.size))})
	}
	for name, text := range map[string]string{
		"10-esp.conf":    "[Partition]\nType=esp\nFormat=vfat\nCopyFiles=/tree:/\nSizeMinBytes=128M\nSizeMaxBytes=128M\n",
		"20-root.conf":   "[Partition]\nType=root-x86-64\nCopyBlocks=" + root.Name() + "\nVerity=data\nVerityMatchKey=root\n",
		"30-verity.conf": "[Partition]\nType=root-x86-64-verity\nVerity=hash\nVerityMatchKey=root\nSizeMinBytes=2M\n",
	} {
		require.NoError(b, os.WriteFile(filepath.Join(dir, "repart.d", name), []byte(text), 0o600))
	}
	salt, err := hex.DecodeString(saltHex)
	require.NoError(b, err)
	id := func(n byte) osmith.GUID { return osmith.GUID{6: 0x40, 8: 0x80, 15: n} }
	write := func(f *os.File) error {
		p := verity.Params{Salt: salt}
		size, err := verity.TreeSize(57_600*4096, p)
		if err != nil {
			return err
		}
		tree := &memory{make([]byte, size)}
		hash, err := verity.Format(context.Background(), tree, source(root), p)
		if err != nil {
			return err
		}
		dataID, treeID, err := partition.VerityIDs(hash)
		if err != nil {
			return err
		}
		esp, err := fat.Plan(files, fat.BuildOptions{Size: 128 * mib, VolumeID: 0x12345678, Label: "ESP"})
		if err != nil {
			return err
		}
		im, err := partition.Plan(partition.Layout{DiskID: id(1), Partitions: []partition.Spec{
			{Type: partition.ESP, ID: id(2), Name: "esp", Content: esp},
			{Type: partition.RootX8664, ID: dataID, Name: "root-x86-64", Content: source(root)},
			{Type: partition.RootX8664Verity, ID: treeID, Name: "root-x86-64-verity", Content: bytes.NewReader(tree.b)},
		}})
		if err != nil {
			return err
		}
		if err := f.Truncate(im.Size); err != nil {
			return err
		}
		// ends with a sync
		return partition.WriteImage(f, im, partition.WriteOptions{TargetIsZero: true})
	}
	image := filepath.Join(dir, "theirs")
	return sides{
		ours: func() error { return create(filepath.Join(dir, "ours"), write) },
		reference: inTree(b, r, dir, "sh", "-ec", `rm -f "$1"; shift; exec "$@"`, "sh", image,
			"systemd-repart", "--empty=create", "--size=auto", "--offline=yes", "--dry-run=no", "--architecture=x86-64",
			"--definitions="+filepath.Join(dir, "repart.d"), "--copy-source="+dir, image),
	}
}
