package vfat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/osmith-dev/osmith"
)

// Errors of operations, besides those of package fs. They are in the chain of a [*fs.PathError].
var (
	// ErrNoSpace: there is no free cluster, or no room for a name in a directory that cannot grow.
	ErrNoSpace = errors.New("no space left on the volume")
	// ErrNotEmpty: a directory that is to be removed has files in it.
	ErrNotEmpty = errors.New("the directory is not empty")
	// ErrIsDirectory: a directory stands where a file is wanted.
	ErrIsDirectory = errors.New("it is a directory")
	// ErrNotDirectory: a file stands where a directory is wanted.
	ErrNotDirectory = errors.New("it is not a directory")
	// ErrDamaged: a chain of clusters is not whole. The driver would go on reading only.
	ErrDamaged = errors.New("the volume is damaged")
)

// Volume is a mounted FAT12, FAT16 or FAT32. Its methods are those of a file system that the kernel
// has mounted, with the writes of the driver. They must not be used concurrently.
type Volume struct {
	disk        osmith.Disk
	bits        int
	sector      int64
	cluster     int64
	fats        int64
	fatStart    int64
	fatSize     int64
	rootStart   int64 // FAT12 and FAT16
	rootSize    int64
	root        uint32 // FAT32: the first cluster of the root directory
	dataStart   int64
	clusters    uint32 // the last one has the number clusters+1
	info        int64  // FAT32: offset of FSINFO, 0 if there is none
	hint        uint32 // where the search for free clusters begins
	freed, used int64  // clusters, of which FSINFO does not know yet
}

// Mount mounts the volume at the start of a disk. It writes nothing. What is not a FAT, or has
// smaller sectors than a disk that tells its own, is a [*osmith.FormatError].
func Mount(disk osmith.Disk) (*Volume, error) {
	v := &Volume{disk: disk, hint: 2}
	if err := v.mount(); err != nil {
		return nil, fmt.Errorf("vfat: %w", err)
	}
	return v, nil
}

// mount reads the boot sector and FSINFO (fatgen103, "Boot Sector and BPB").
func (v *Volume) mount() error {
	le := binary.LittleEndian
	boot, err := v.read(0, 512)
	if err != nil {
		return fmt.Errorf("boot sector: %w", err)
	}
	wrong := func(at int64, field, format string, args ...any) error {
		return &osmith.FormatError{Offset: at, Field: "boot sector: " + field, Err: fmt.Errorf(format, args...)}
	}
	v.sector = int64(le.Uint16(boot[11:]))
	perCluster, reserved := int64(boot[13]), int64(le.Uint16(boot[14:]))
	v.fats = int64(boot[16])
	v.rootSize = int64(le.Uint16(boot[17:])) * slotSize
	total, perFAT := int64(le.Uint16(boot[19:])), int64(le.Uint16(boot[22:]))
	if total == 0 {
		total = int64(le.Uint32(boot[32:]))
	}
	if v.bits = 16; perFAT == 0 {
		v.bits, perFAT = 32, int64(le.Uint32(boot[36:]))
	}
	switch {
	case v.sector < 512 || v.sector > 4096 || v.sector&(v.sector-1) != 0:
		return wrong(11, "BytsPerSec", "%d", v.sector)
	case perCluster == 0 || perCluster&(perCluster-1) != 0:
		return wrong(13, "SecPerClus", "%d", perCluster)
	case reserved == 0:
		return wrong(14, "RsvdSecCnt", "0")
	case v.fats == 0:
		return wrong(16, "NumFATs", "0")
	case perFAT == 0:
		return wrong(36, "FATSz32", "0")
	case total*v.sector > v.disk.Size():
		return wrong(32, "TotSec32", "%d sectors of %d bytes on a disk of %d bytes", total, v.sector, v.disk.Size())
	}
	if d, ok := v.disk.(interface{ SectorSize() int }); ok && int64(d.SectorSize()) > v.sector {
		return wrong(11, "BytsPerSec", "%d, the disk has sectors of %d bytes", v.sector, d.SectorSize())
	}
	v.cluster = v.sector * perCluster
	v.fatStart, v.fatSize = reserved*v.sector, perFAT*v.sector
	v.rootStart = v.fatStart + v.fats*v.fatSize
	v.dataStart = v.rootStart + (v.rootSize+v.sector-1)/v.sector*v.sector
	clusters := min((total*v.sector-v.dataStart)/v.cluster, v.fatSize*8/int64(v.bits)-2)
	if v.bits == 16 && clusters < 4085 {
		v.bits = 12
		clusters = min((total*v.sector-v.dataStart)/v.cluster, v.fatSize*8/12-2)
	}
	if most := map[int]int64{12: 4084, 16: 65524, 32: 0x0ffffff5}[v.bits]; total*v.sector <= v.dataStart || clusters < 1 || clusters > most {
		return wrong(32, "TotSec32", "%d clusters for a FAT%d", clusters, v.bits)
	}
	v.clusters = uint32(clusters)
	if v.bits != 32 {
		if v.rootSize == 0 {
			return wrong(17, "RootEntCnt", "0")
		}
		return nil
	}
	if v.root = le.Uint32(boot[44:]); !v.valid(v.root) {
		return wrong(44, "RootClus", "%d of 2 to %d", v.root, v.clusters+1)
	}
	v.info = int64(le.Uint16(boot[48:])) * v.sector
	if v.info >= v.fatStart {
		v.info = 0
	}
	if b, err := v.readInfo(); err != nil {
		return err
	} else if b != nil && v.valid(le.Uint32(b[492:])) {
		v.hint = le.Uint32(b[492:])
	}
	return nil
}

// valid says whether a cluster has data.
func (v *Volume) valid(n uint32) bool { return n >= 2 && n-2 < v.clusters }

// offset is where a cluster is.
func (v *Volume) offset(n uint32) int64 { return v.dataStart + int64(n-2)*v.cluster }

// read reads n bytes or fails.
func (v *Volume) read(off, n int64) ([]byte, error) {
	if off < 0 || n < 0 || off > v.disk.Size() || n > v.disk.Size()-off {
		return nil, fmt.Errorf("%d bytes at %d: %w", n, off, io.ErrUnexpectedEOF)
	}
	b := make([]byte, n)
	got, err := v.disk.ReadAt(b, off)
	switch {
	case int64(got) == n:
		return b, nil
	case err == nil || err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return nil, fmt.Errorf("%d bytes at %d: %w", n, off, err)
}

// write writes whole sectors.
func (v *Volume) write(b []byte, off int64) error {
	if _, err := v.disk.WriteAt(b, off); err != nil {
		return fmt.Errorf("%d bytes at %d: %w", len(b), off, err)
	}
	return nil
}

// patch is a change of some bytes that lie in one sector.
type patch struct {
	at   int64
	data []byte
}

// apply makes changes in their order. Those that follow each other in one sector are one write.
func (v *Volume) apply(all []patch) error {
	for i := 0; i < len(all); {
		at := all[i].at / v.sector * v.sector
		b, err := v.read(at, v.sector)
		if err != nil {
			return err
		}
		for ; i < len(all) && all[i].at/v.sector*v.sector == at; i++ {
			copy(b[all[i].at-at:], all[i].data)
		}
		if err := v.write(b, at); err != nil {
			return err
		}
	}
	return nil
}

// readInfo reads the sector of FSINFO. nil: there is none (fatgen103, "FAT32 FSInfo Sector
// Structure").
func (v *Volume) readInfo() ([]byte, error) {
	if v.info == 0 {
		return nil, nil
	}
	b, err := v.read(v.info, v.sector)
	if err != nil {
		return nil, fmt.Errorf("FSINFO: %w", err)
	}
	le := binary.LittleEndian
	if le.Uint32(b) != 0x41615252 || le.Uint32(b[484:]) != 0x61417272 {
		return nil, nil
	}
	return b, nil
}

// writeInfo tells FSINFO of clusters that were taken and freed. A count that cannot be right
// becomes unknown.
func (v *Volume) writeInfo() error {
	if v.used == 0 && v.freed == 0 {
		return nil
	}
	delta := v.freed - v.used
	v.used, v.freed = 0, 0
	b, err := v.readInfo()
	if err != nil || b == nil {
		return err
	}
	const unknown = 0xffffffff
	le := binary.LittleEndian
	if free := int64(le.Uint32(b[488:])); free != unknown {
		if free += delta; free < 0 || free > int64(v.clusters) {
			free = unknown
		}
		le.PutUint32(b[488:], uint32(free))
	}
	le.PutUint32(b[492:], v.hint)
	return v.write(b, v.info)
}

// done ends an operation: FSINFO is told what it did to the FAT, even where it failed, and an error
// gets the name of the package and the path.
func (v *Volume) done(op, name string, err error) error {
	if info := v.writeInfo(); err == nil {
		err = info
	}
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: "vfat: " + op, Path: name, Err: err}
}
