package partition

import (
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/testtools"
)

// Three of these were read from an image that systemd-repart 262 wrote; TestSeedsOfRepart reads
// them all again.
func TestSeeds(t *testing.T) {
	require.Equal(t, "029f4951-90d3-4059-b93b-d358015a0a3b", SeedDiskID(repartSeed).String())
	require.Equal(t, "1d00c5de-82e6-410f-8ac9-c08e54925652", SeedPartitionID(repartSeed, RootX8664VeritySig, 0).String())
	require.Equal(t, "6009a0f6-f2df-456b-b796-2164ab5c4fec", SeedPartitionID(repartSeed, RootX8664VeritySig, 1).String())
	require.Equal(t, "860f08c6a5ec51f0b5d608187cbd374c16ba09b312ee6ece89bc87527654eddf", hex.EncodeToString(SeedVeritySalt(repartSeed)))
}

// A disk with hash tree and file system by systemd-repart has the derived salt and UUIDs.
func TestSeedsOfRepart(t *testing.T) {
	root := testtools.Forky(t)
	dir := t.TempDir()
	block := filepath.Join(dir, "data")
	require.NoError(t, os.WriteFile(block, make([]byte, 1<<20), 0o644))
	image := filepath.Join(dir, "disk.img")
	out, err := repart(t, root, dir, map[string]string{
		"10.conf": "[Partition]\nType=root\nCopyBlocks=" + block + "\nVerity=data\nVerityMatchKey=root\nSizeMaxBytes=10M\n",
		"11.conf": "[Partition]\nType=root-verity\nVerity=hash\nVerityMatchKey=root\n",
		"13.conf": "[Partition]\nType=swap\nFormat=swap\nSizeMaxBytes=10M\n",
	}, image, "200M", "--empty=create", "--architecture=x86-64")
	require.NoError(t, err, "%s", out)
	table := tableOf(t, image)
	f, err := os.Open(image)
	require.NoError(t, err)
	defer f.Close()
	read := func(i int, off int64, n int) []byte {
		b := make([]byte, n)
		_, err := table.Section(f, i).ReadAt(b, off)
		require.NoError(t, err)
		return b
	}
	require.Equal(t, SeedDiskID(repartSeed), table.DiskID)
	// verity superblock: UUID at 16, length of the salt at 80, salt at 88
	require.Equal(t, SeedVerityUUID(repartSeed), osmith.GUID(read(1, 16, 16)))
	require.Equal(t, uint16(32), binary.LittleEndian.Uint16(read(1, 80, 2)))
	require.Equal(t, SeedVeritySalt(repartSeed), read(1, 88, 32))
	require.Equal(t, SeedPartitionID(repartSeed, Swap, 0), table.Partitions[2].ID)
	// swap header
	require.Equal(t, FileSystemID(table.Partitions[2].ID), osmith.GUID(read(2, 1036, 16)))
}
