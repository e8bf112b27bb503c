// Package superblock knows by which bytes file systems, volumes and members of RAIDs are
// recognised, and where they stand. It recognises, and reads nothing of what is in them.
//
// The rows are what libblkid of util-linux 2.38 to 2.41 finds (blkid(8), wipefs(8)), and what the
// documents of the formats say.
package superblock

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/osmith-dev/osmith/internal/sparse"
)

// What some formats are called.
const (
	LUKS     = "a LUKS volume" // the first header, of version 1 or 2
	Ext      = "an ext2, ext3 or ext4 file system"
	EROFS    = "an EROFS file system"
	SquashFS = "a squashfs file system"
)

// Signature is one place where one format is recognised.
type Signature struct {
	What   string // "an ext2, ext3 or ext4 file system"
	Offset int64  // in bytes from the start; negative: from the end
	Magic  string

	// Align says that the place, which then counts from the end, is moved down to a multiple of it.
	Align int64

	// Copy says that the place holds a copy of what stands elsewhere: it may be left behind by what
	// was there before.
	Copy bool
}

// Rows are all signatures, those at the start first, in the order in which a person is told of
// them.
func Rows() []Signature { return slices.Clone(rows()) }

var rows = sync.OnceValue(makeRows)

func makeRows() []Signature {
	list := []Signature{
		{What: LUKS, Offset: 0, Magic: "LUKS\xba\xbe"},
		{What: "a GUID partition table", Offset: 512, Magic: "EFI PART"},
		{What: "a GUID partition table", Offset: 4096, Magic: "EFI PART"},
		{What: Ext, Offset: 1024 + 56, Magic: "\x53\xef"},
		{What: "an XFS file system", Offset: 0, Magic: "XFSB"},
		{What: "a btrfs file system", Offset: 64<<10 + 64, Magic: "_BHRfS_M"},
		{What: EROFS, Offset: 1024, Magic: "\xe2\xe1\xf5\xe0"},
		{What: "an F2FS file system", Offset: 1024, Magic: "\x10\x20\xf5\xf2"},
		{What: SquashFS, Offset: 0, Magic: "hsqs"},
		{What: "an NTFS file system", Offset: 3, Magic: "NTFS    "},
		{What: "an exFAT file system", Offset: 3, Magic: "EXFAT   "},
		{What: "a BitLocker volume", Offset: 3, Magic: "-FVE-FS-"},
		{What: "a FAT file system", Offset: 54, Magic: "FAT1"},
		{What: "a FAT file system", Offset: 82, Magic: "FAT32"},
		{What: "a dm-verity hash tree", Offset: 0, Magic: "verity\x00\x00"},
		{What: "a dm-integrity volume", Offset: 0, Magic: "integrt\x00"},
		{What: "a VDO volume", Offset: 0, Magic: "dmvdo001"},
		{What: "a Ceph BlueStore device", Offset: 0, Magic: "bluestore block device"},
		{What: "a Stratis pool", Offset: 512 + 4, Magic: "!Stra0tis\x86\xff\x02^\x41rh"},
		{What: "a member of a RAID", Offset: 4096, Magic: "\xfc\x4e\x2b\xa9"},
		{What: "a member of a RAID", Offset: 0, Magic: "\xfc\x4e\x2b\xa9"},
		{What: "an APFS container", Offset: 32, Magic: "NXSB"},
		{What: "an HFS or HFS+ file system", Offset: 1024, Magic: "H+\x00"},
		{What: "an HFS or HFS+ file system", Offset: 1024, Magic: "HX\x00"},
		{What: "an HFS or HFS+ file system", Offset: 1024, Magic: "BD"},
		{What: "a JFS file system", Offset: 32 << 10, Magic: "JFS1"},
		{What: "a ReiserFS file system", Offset: 64<<10 + 52, Magic: "ReIsEr"},
		{What: "a NILFS2 file system", Offset: 1024 + 6, Magic: "\x34\x34"},
		{What: "a GFS2 file system", Offset: 64 << 10, Magic: "\x01\x16\x19\x70"},
		{What: "a bcache or bcachefs device", Offset: 4096 + 24, Magic: "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"},
		{What: "a bcache or bcachefs device", Offset: 4096 + 24, Magic: "\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"},
		{What: "an ISO 9660 file system", Offset: 32<<10 + 1, Magic: "CD001"},
		{What: "a UDF file system", Offset: 32<<10 + 1, Magic: "BEA01"},
	}
	for n := int64(0); n < 4; n++ {
		list = append(list, Signature{What: "an LVM2 physical volume", Offset: 512 * n, Magic: "LABELONE"})
	}
	for _, page := range []int64{4096, 8192, 16 << 10, 64 << 10} {
		list = append(list, Signature{What: "swap space", Offset: page - 10, Magic: "SWAPSPACE2"}, Signature{What: "swap space", Offset: page - 10, Magic: "SWAP-SPACE"},
			Signature{What: "a hibernated system", Offset: page - 10, Magic: "S1SUSPEND"})
	}
	for _, block := range []int64{1024, 2048, 4096} {
		list = append(list, Signature{What: "an OCFS2 file system", Offset: 2 * block, Magic: "OCFSV2"})
	}
	// The second copy of a LUKS2 header is behind a first one of each size that there is.
	for size := int64(16 << 10); size <= 4<<20; size *= 2 {
		list = append(list, Signature{What: "the second header of a LUKS volume", Offset: size, Magic: "SKUL\xba\xbe", Copy: true})
	}
	// Uberblocks of the first label of ZFS, in either order of bytes.
	for n := int64(0); n < 128; n++ {
		for _, magic := range []string{"\x0c\xb1\xba\x00\x00\x00\x00\x00", "\x00\x00\x00\x00\x00\xba\xb1\x0c"} {
			list = append(list, Signature{What: "a member of a ZFS pool", Offset: 128<<10 + n<<10, Magic: magic})
			// The last label begins 256 KiB before the end, which is a multiple of 256 KiB.
			list = append(list, Signature{What: "a member of a ZFS pool", Offset: -256<<10 + 128<<10 + n<<10, Magic: magic, Align: 256 << 10, Copy: true})
		}
	}
	return append(list,
		Signature{What: "a copy of a btrfs superblock", Offset: 64<<20 + 64, Magic: "_BHRfS_M", Copy: true},
		Signature{What: "a copy of a btrfs superblock", Offset: 256<<30 + 64, Magic: "_BHRfS_M", Copy: true},
		Signature{What: "a member of a RAID", Offset: -8 << 10, Magic: "\xfc\x4e\x2b\xa9", Align: 4096},
		Signature{What: "a member of a RAID", Offset: -64 << 10, Magic: "\xfc\x4e\x2b\xa9", Align: 64 << 10},
		Signature{What: "a member of a RAID", Offset: -64 << 10, Magic: "\xa9\x2b\x4e\xfc", Align: 64 << 10},
		Signature{What: "a member of an Intel RAID", Offset: -1024, Magic: "Intel Raid ISM Cfg Sig. "},
		Signature{What: "a member of a DDF RAID", Offset: -512, Magic: "\xde\x11\xde\x11"},
		Signature{What: "a copy of an NTFS boot sector", Offset: -512 + 3, Magic: "NTFS    ", Copy: true},
		Signature{What: "a copy of a NILFS2 superblock", Offset: -4096 + 6, Magic: "\x34\x34", Align: 4096, Copy: true},
	)
}

// At is where the signature stands on a device of size bytes; false if it is too small for it.
func (s Signature) At(size int64) (off int64, ok bool) {
	off = s.Offset
	if off < 0 {
		base := size
		if s.Align > 0 {
			base = size / s.Align * s.Align
		}
		off += base
	}
	return off, off >= 0 && off+int64(len(s.Magic)) <= size
}

// Found is a signature that is there.
type Found struct {
	Signature
	At int64 // in bytes from the start
}

// Find finds the signatures of size bytes at base of a disk. An error is one of reading: what
// stands there is not known.
func Find(r io.ReaderAt, base, size int64) (list []Found, err error) {
	var errs []error
	read := pages{r: r, base: base, size: size, have: map[int64][]byte{}}
	for _, s := range rows() {
		off, ok := s.At(size)
		if !ok {
			continue
		}
		b, err := read.bytes(off, len(s.Magic))
		if err != nil {
			errs = append(errs, fmt.Errorf("whether %s exists is unknown: %w", s.What, err))
			continue
		}
		if !bytes.Equal(b, []byte(s.Magic)) || s.isChance(read, off) {
			continue
		}
		if !slices.ContainsFunc(list, func(f Found) bool { return f.What == s.What && f.At/1024 == off/1024 }) {
			list = append(list, Found{s, off})
		}
	}
	return list, errors.Join(errs...)
}

// isChance reports whether two bytes that are right are not enough: of NILFS2 the superblock says
// its revision, 2, in front of them.
func (s Signature) isChance(read pages, off int64) bool {
	if s.Magic != "\x34\x34" {
		return false
	}
	b, err := read.bytes(off-6, 4)
	return err == nil && !bytes.Equal(b, []byte{2, 0, 0, 0})
}

// pages are what was read, by the number of the page.
type pages struct {
	r          io.ReaderAt
	base, size int64
	have       map[int64][]byte
}

const page = 4096

func (p pages) bytes(off int64, n int) ([]byte, error) {
	var out []byte
	for at := off / page; at <= (off+int64(n)-1)/page; at++ {
		b, ok := p.have[at]
		if !ok {
			b = make([]byte, min(page, p.size-at*page))
			if err := sparse.ReadFull(p.r, b, p.base+at*page); err != nil {
				return nil, err
			}
			p.have[at] = b
		}
		out = append(out, b...)
	}
	return out[off%page:][:n], nil
}
