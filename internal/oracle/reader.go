package oracle

import "slices"

// Reader is a firmware or a kernel that looks for the partitions of a disk.
type Reader int

// The readers. Those without a version behave the same in all versions that were tried.
const (
	// ReaderEDK2Stable202211 is edk2 as of November 2022 (Debian 12's OVMF).
	ReaderEDK2Stable202211 Reader = iota + 1
	// ReaderEDK2Stable202608 is edk2 as of August 2026: it checks more fields of a header, and
	// gives up where it could not restore a primary table.
	ReaderEDK2Stable202608
	// ReaderUBoot is U-Boot's EFI loader. It never writes.
	ReaderUBoot
	// ReaderLinux is a kernel whose command line lacks "gpt": it reads no backup at all.
	ReaderLinux
	// ReaderLinuxGPT is a kernel with "gpt" on its command line, which needs no protective MBR and
	// uses backup tables.
	ReaderLinuxGPT
)

// Evidence is one observation that a rule stands on.
type Evidence struct{ Rule, Source string }

const pinned = "source, edk2 c5aa7e7d94"

type readerRow struct {
	name     string
	firmware bool
	read     func(*disk) (Result, error)
	evidence []Evidence
}

var edk2Evidence = []Evidence{
	{"a record of type EE that starts at LBA 1 is wanted in sector 0; its size, boot flag and the 55AA signature are not looked at", "m00-mbr-*, g15-g19; " + pinned},
	{"the primary is in LBA 1; if it is bad, the backup is looked for in the last block only", "g07, g41, m70; " + pinned},
	{"a backup in the last block that is valid replaces a bad primary, however old it is", "g09, g43; " + pinned},
	{"the restored primary has its entries in LBA 2 ff., wherever they were; the header is written first", "g11 (LBA 16-31 are overwritten), m57; " + pinned},
	{"the restored header goes to the AlternateLBA of the backup, were it LBA 0 or 5", "g25, m54, m56; " + pinned},
	{"if the primary is good, a backup is looked for at its AlternateLBA; where that is no valid table one is written, entries at LastUsableLBA+1", "g13, m50, m53, m60-m64; " + pinned},
	{"two valid tables are not compared", "g05, g08, g42; " + pinned},
	{"AlternateLBA and the usable range are not compared with the disk", "g26, m09-m12, m66; " + pinned},
	{"overlapping entries, those outside of the usable range and those with attribute bit 1 are not offered", "g27-g29, m30-m36, m41; " + pinned},
	{"a restored header has 92 bytes of the other one, the rest of the block is zero", "m77, seen only: the source speaks of padding to 96"},
}

var linuxEvidence = []Evidence{
	{"signature, header checksum, MyLBA and the entries' checksum are checked, the revision is not", "g01-g04, g20, m07, m21, m22"},
	{"HeaderSize is from 92 bytes to the logical sector", "m02-m05, g21"},
	{"entries have 128 bytes", "g22, m13-m15"},
	{"FirstUsableLBA and LastUsableLBA are on the disk and in order", "g26, g44, m08-m11, m61, m66"},
	{"entry arrays of more than 4 MiB are refused", "m23-*"},
	{"entries are offered if both ends are on the disk and the size is not zero; overlaps, the usable range and attributes do not matter", "g27-g29, m30-m36, m41"},
}

var readers = map[Reader]readerRow{
	ReaderEDK2Stable202211: {"edk2-stable202211", true, edk2{strict: false}.read, append(slices.Clone(edk2Evidence),
		Evidence{"a header of any revision, of any size up to a block and of any entry size from 128 bytes is taken", "g20, m02, m14, m21, m22, m72; source, edk2-stable202211"},
		Evidence{"a primary that could not be restored is used as it is: a bad header has no entries", "m54, m55; source, edk2-stable202211"})},
	ReaderEDK2Stable202608: {"edk2-stable202608", true, edk2{strict: true}.read, append(slices.Clone(edk2Evidence),
		Evidence{"revision 1.0, a header of 92 bytes or more, at least one entry and entries of 128*2^n bytes are wanted", "g20, m02, m14, m16, m21, m22; " + pinned},
		Evidence{"there are no partitions if the primary could not be restored", "m54, m55; " + pinned})},
	ReaderUBoot: {"u-boot", true, readUBoot, []Evidence{
		{"a record of type EE that starts at LBA 1 and the 55AA signature are wanted in sector 0", "m00-mbr-*, g12, g15-g19"},
		{"the primary is in LBA 1; if it is bad, the backup is looked for in the last block only", "g01, g02, g07, g41, m70"},
		{"nothing is ever written", "112 disks unchanged"},
		{"signature, header checksum, MyLBA, the usable range and the entries' checksum are checked, the revision and the header's least size are not; an LBA that is one beyond the disk is usable", "g20, g26, m02, m05, m07-m11, m16, m21"},
		{"entries are read in steps of 128 bytes whatever their size", "g22"},
		{"overlaps, the usable range and attributes do not matter", "g27-g29"},
	}},
	ReaderLinux: {"linux", false, linux{}.read, append([]Evidence{
		{"the 55AA signature and a record of type EE that starts at LBA 1 are wanted in sector 0, whatever its size; other records are no obstacle", "m00-mbr-*, g12, g15-g19"},
		{"no backup is read", "g01-g04, g09, k01"},
	}, linuxEvidence...)},
	ReaderLinuxGPT: {"linux gpt", false, linux{force: true}.read, append([]Evidence{
		{"sector 0 is not looked at", "g12, g19, m00-mbr-*"},
		{"if the primary is bad, the backup is looked for in the last block", "g01-g04, g07, g09, m70"},
	}, linuxEvidence...)},
}

// Readers returns all readers.
func Readers() []Reader {
	return []Reader{ReaderEDK2Stable202211, ReaderEDK2Stable202608, ReaderUBoot, ReaderLinux, ReaderLinuxGPT}
}

// String is the reader's name.
func (r Reader) String() string { return readers[r].name }

// Firmware says whether the reader is firmware, which boots from what it finds, or a kernel, which
// finds its root there.
func (r Reader) Firmware() bool { return readers[r].firmware }

// Evidence says what each rule of the reader stands on: disks of testdata/readers.json, and source
// where it may be read.
func (r Reader) Evidence() []Evidence { return slices.Clone(readers[r].evidence) }
