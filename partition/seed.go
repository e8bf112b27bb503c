package partition

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"

	"github.com/osmith-dev/osmith"
)

// SeedDiskID is the DiskGUID of a disk, derived from a seed by the rules of systemd-repart, as all
// that follows: the same seed gives what systemd-repart --seed gives. HMAC-SHA256 is keyed with the
// 16 bytes of the seed in text order
// (https://www.freedesktop.org/software/systemd/man/latest/systemd-repart.html, --seed;
// src/repart/repart.c).
func SeedDiskID(seed osmith.GUID) osmith.GUID { return seedGUID(seed, []byte("disk-uuid")) }

// SeedPartitionID is the ID of the n-th partition of a type, counted from 0 in the order of the
// definitions.
func SeedPartitionID(seed osmith.GUID, t osmith.GUID, n int) osmith.GUID {
	text := t[:]
	if n > 0 {
		text = binary.LittleEndian.AppendUint64(append([]byte{}, t[:]...), uint64(n))
	}
	return seedGUID(seed, text)
}

// SeedVeritySalt is the salt of dm-verity hash trees, 32 bytes.
func SeedVeritySalt(seed osmith.GUID) []byte { return seedBytes(seed, []byte("verity-salt")) }

// SeedVerityUUID is the UUID in the superblock of dm-verity hash trees.
func SeedVerityUUID(seed osmith.GUID) osmith.GUID { return seedGUID(seed, []byte("verity-uuid")) }

// FileSystemID is the UUID of the file system in the partition with an ID. FAT has only 32 bits for
// it: the first four bytes, most significant first.
func FileSystemID(partitionID osmith.GUID) osmith.GUID {
	return seedGUID(partitionID, []byte("file-system-uuid"))
}

// FATVolumeID is the serial number of a FAT file system in the partition with an ID: the first four
// bytes of [FileSystemID].
func FATVolumeID(partitionID osmith.GUID) uint32 {
	id := FileSystemID(partitionID)
	return binary.BigEndian.Uint32(id[:4])
}

// LUKSID is the UUID of the LUKS2 header in the partition with an ID.
func LUKSID(partitionID osmith.GUID) osmith.GUID { return seedGUID(partitionID, []byte("luks-uuid")) }

func seedBytes(key osmith.GUID, text []byte) []byte {
	mac := hmac.New(sha256.New, key[:])
	mac.Write(text)
	return mac.Sum(nil)
}

// seedGUID is the first half of the HMAC, marked as a version 4 UUID.
func seedGUID(key osmith.GUID, text []byte) osmith.GUID {
	id := osmith.GUID(seedBytes(key, text)[:16])
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}
