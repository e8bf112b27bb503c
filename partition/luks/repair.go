package luks

import (
	"bytes"
	"io"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// RepairOptions are the choices of [Volume.Repair].
type RepairOptions struct {
	// OverwriteWhatBeginsThere restores a damaged first copy although something else begins where it was ([ForeignError]).
	OverwriteWhatBeginsThere bool
}

// Repair makes both copies of the header the same, as the one is that counts. It writes the other one only, and nothing where both are good.
func (v *Volume) Repair(o RepairOptions) (err error) {
	defer prefix.Add(pkg, &err)
	if v.disk != nil && !v.broken && !v.h.NeedsRepair() {
		return nil
	}
	end, err := v.begin()
	if err != nil {
		return err
	}
	defer end()
	if !o.OverwriteWhatBeginsThere {
		if err := v.foreign(); err != nil {
			return err
		}
	}
	bad := 1 - v.used
	if v.h.Copies[bad].Differs {
		v.salt[bad] = nil // its salt is of other contents
	}
	whole, err := v.copyOf(v.raw, bad, v.h.JSON)
	if err != nil {
		return err
	}
	v.broken = true
	if err := v.put(whole, int64(bad)*v.h.Size); err != nil {
		return err
	}
	v.salt[bad], v.seen[bad] = bytes.Clone(whole[saltAt:][:len(v.raw.Salt)]), bytes.Clone(whole[:binarySize])
	v.bothGood()
	return nil
}

// signatures are how others begin, as util-linux's libblkid knows them: who finds one at a disk whose second header is whole has most likely a disk that was
// formatted since.
var signatures = []struct {
	off  int64
	text string
	what string
}{
	{1024 + 56, "\x53\xef", "an ext2, ext3 or ext4 file system"},
	{0, "XFSB", "an XFS file system"},
	{1024, "\xe2\xe1\xf5\xe0", "an EROFS file system"},
	{1024, "\x10\x20\xf5\xf2", "an F2FS file system"},
	{0, "hsqs", "a squashfs file system"},
	{3, "NTFS    ", "an NTFS file system"},
	{3, "EXFAT   ", "an exFAT file system"},
	{54, "FAT1", "a FAT file system"},
	{82, "FAT32", "a FAT file system"},
	{512, "EFI PART", "a GUID partition table"},
	{4096 - 10, "SWAPSPACE2", "swap space"},
	{512, "LABELONE", "an LVM2 physical volume"},
	{0, "verity\x00\x00", "a dm-verity hash tree"},
	{4096, "\xfc\x4e\x2b\xa9", "a member of a RAID"},
	{64<<10 + 64, "_BHRfS_M", "a btrfs file system"},
}

// foreign finds something else where a damaged first copy would be written.
func (v *Volume) foreign() error {
	if v.h.Copies[0].Err == nil {
		return nil
	}
	for _, s := range signatures {
		b := make([]byte, len(s.text))
		if n, err := v.src.ReadAt(b, s.off); n < len(b) && err != nil && err != io.EOF {
			return err
		}
		if bytes.Equal(b, []byte(s.text)) {
			return &ForeignError{s.what}
		}
	}
	return nil
}
