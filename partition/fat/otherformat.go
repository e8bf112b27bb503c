package fat

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sparse"
)

// NotFATError is in the error chain of Open and OpenReader if a different format is recognised.
type NotFATError struct {
	// "exFAT", "NTFS", "MBR", "GPT", "qcow2", "VHDX", "VHD", "VMDK", "xz", "gzip", "zstd"
	Format string
	What   string // in words
	Remedy string
}

func (e *NotFATError) Error() string {
	return fmt.Sprintf("found %s, want FAT: %s", e.What, e.Remedy)
}

const (
	remedyMake   = "firmware boots from FAT only: create the volume with fat.Build or mkfs.vfat"
	remedyRaw    = "convert it to a raw image first (qemu-img convert -O raw)"
	remedyUnpack = "decompress it first"
	remedyPart   = "open one of its partitions"
)

// otherFormats are told by bytes at a place, from the end of the source if it is negative.
var otherFormats = []struct {
	off   int64
	magic string
	NotFATError
}{
	// exFAT specification 1.00, section 3.1.2
	{3, "EXFAT   ", NotFATError{"exFAT", "an exFAT volume", remedyMake}},
	// BS_OEMName
	{3, "NTFS    ", NotFATError{"NTFS", "an NTFS volume", remedyMake}},
	// QEMU, docs/interop/qcow2.txt
	{0, "QFI\xfb", NotFATError{"qcow2", "a qcow2 image", remedyRaw}},
	// MS-VHDX, section 2.2.1
	{0, "vhdxfile", NotFATError{"VHDX", "a VHDX image", remedyRaw}},
	// a dynamic disk begins with a copy of its footer
	{0, "conectix", NotFATError{"VHD", "a VHD image", remedyRaw}},
	// Virtual Hard Disk Image Format Specification 1.0
	{-512, "conectix", NotFATError{"VHD", "a VHD image of fixed size", remedyRaw}},
	// Virtual Disk Format 5.0
	{0, "KDMV", NotFATError{"VMDK", "a VMDK image", remedyRaw}},
	// The .xz File Format, section 2.1.1.1
	{0, "\xfd7zXZ\x00", NotFATError{"xz", "a file compressed with xz", remedyUnpack}},
	// RFC 1952
	{0, "\x1f\x8b\x08", NotFATError{"gzip", "a file compressed with gzip", remedyUnpack}},
	// RFC 8878
	{0, "\x28\xb5\x2f\xfd", NotFATError{"zstd", "a file compressed with zstd", remedyUnpack}},
	{512, "EFI PART", NotFATError{"GPT", "a disk with a partition table (GPT)", remedyPart}},
	{4096, "EFI PART", NotFATError{"GPT", "a disk with a partition table (GPT, 4096-byte sectors)", remedyPart}},
}

// otherFormat recognises what is not a FAT, or returns nil. It is asked when the boot sector cannot
// be that of a FAT.
func otherFormat(r osmith.Source) *NotFATError {
	size := r.Size()
	has := func(off int64, magic string) bool {
		if off < 0 {
			off += size
		}
		b := make([]byte, len(magic))
		return off >= 0 && off+int64(len(b)) <= size && sparse.ReadFull(r, b, off) == nil && string(b) == magic
	}
	for _, f := range otherFormats {
		if has(f.off, f.magic) {
			return &f.NotFATError
		}
	}
	b := make([]byte, 512)
	if size >= 512 && sparse.ReadFull(r, b, 0) == nil && isMBR(b, size) {
		return &NotFATError{"MBR", "a disk with a partition table (MBR)", remedyPart}
	}
	return nil
}

// isMBR reports whether a sector is a partition table of a disk: four records of which one is used,
// and each is nothing or a partition inside of the disk with a boot flag of 0x00 or 0x80.
func isMBR(b []byte, size int64) bool {
	if b[510] != 0x55 || b[511] != 0xaa {
		return false
	}
	used := false
	for i := range 4 {
		p := b[446+16*i : 462+16*i]
		if bytes.Equal(p, make([]byte, 16)) {
			continue
		}
		start := int64(binary.LittleEndian.Uint32(p[8:]))
		if p[0]&0x7f != 0 || p[4] == 0 || start == 0 || start >= size/512 {
			return false
		}
		used = true
	}
	return used
}
