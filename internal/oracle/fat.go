package oracle

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// FATReader is a FAT driver.
type FATReader int

// The FAT drivers.
const (
	// FATReaderLinux is the vfat driver of Linux.
	FATReaderLinux FATReader = iota
	// FATReaderEDK2 is the FAT driver of edk2.
	FATReaderEDK2
	// FATReaderUBoot is U-Boot's.
	FATReaderUBoot
)

// String is the driver's name.
func (r FATReader) String() string { return [...]string{"linux", "edk2", "u-boot"}[r] }

// FATReaders returns all drivers.
func FATReaders() []FATReader { return []FATReader{FATReaderLinux, FATReaderEDK2, FATReaderUBoot} }

// ErrTooMuch is the error of volumes that cost more to read than [FATOptions.MaxRead].
var ErrTooMuch = errors.New("the volume makes its reader read too much")

// FATOptions says how [ReadFAT] reads.
type FATOptions struct {
	Reader FATReader
	// SectorSize is that of the device, 512 if it is 0. U-Boot reads no volume whose sectors have
	// another size, and Linux none whose sectors are smaller.
	SectorSize int
	// Second reads the second FAT instead of the first. No driver does; it shows what fsck.fat
	// would repair from.
	Second bool
	// NoContent leaves the contents of files alone: [File.SHA256] stays zero.
	NoContent bool
	// NoCheck leaves out the search for [Volume.Problems].
	NoCheck bool
	// MaxRead is the most bytes that are read of directories and files, eight times the size of the
	// volume if it is 0: a hostile volume may have a million names for one chain.
	MaxRead int64
}

// File is a file or a directory.
type File struct {
	Path string // with slashes, without one at its start
	Dir  bool
	Size int64 // that of the directory entry
	// Short is the name of the directory entry, such as OS_1~1.EFI; Long says whether a long name
	// hides it.
	Short      string
	Long       bool
	Attributes byte
	Start      uint32 // first cluster, 0 if there is none
	SHA256     [32]byte
	// Err says why the driver cannot read the contents, or the names in a directory.
	Err string

	raw [11]byte
	at  int64 // offset of the directory entry
}

// Volume is what a driver sees of a FAT file system, and what is wrong with it.
type Volume struct {
	Bits        int // 12, 16 or 32
	SectorSize  int
	ClusterSize int
	Clusters    int // the last one has the number Clusters+1
	Label       string
	ID          uint32
	// Files are all files and directories the driver can find, each directory before what it holds,
	// in the order of the directory entries.
	Files []File
	// Problems are what fsck.fat would find, and some that it does not see ([Volume.Beyond]).
	Problems []Problem

	r          io.ReaderAt
	size       int64
	options    FATOptions
	left       int64
	boot       []byte
	fatStart   int64
	fatSize    int64
	fats       int
	rootStart  int64 // FAT12 and FAT16
	rootSize   int64
	root       uint32 // FAT32
	dataStart  int64
	fat, other []byte // the FAT that is read and the other one
	media      byte
	backupBoot int64
	infoSector int64
	visited    []uint32 // of each cluster, the round of chain that was there last
	round      uint32
	entries    int
	labelled   bool // a volume label was found
	shown      map[string]bool
}

// maxFAT is the largest FAT that is read: 16 Mi clusters of FAT32.
const maxFAT = 64 << 20

// ReadFAT reads a volume of size bytes. It returns an error where the driver would not mount the
// volume; what it cannot read of a mounted one is in [File.Err].
func ReadFAT(r io.ReaderAt, size int64, o FATOptions) (*Volume, error) {
	v := &Volume{r: r, size: size, options: o}
	if o.SectorSize == 0 {
		v.options.SectorSize = 512
	}
	if v.left = o.MaxRead; v.left == 0 {
		v.left = 8 * max(size, 1<<20)
	}
	if err := v.open(); err != nil {
		return nil, fmt.Errorf("oracle: FAT: %w", err)
	}
	if err := v.walk(); err != nil {
		return nil, fmt.Errorf("oracle: FAT: %w", err)
	}
	if o.NoCheck {
		return v, nil
	}
	if err := (&checker{Volume: v}).check(); err != nil {
		return nil, fmt.Errorf("oracle: FAT: %w", err)
	}
	return v, nil
}

// readAt reads n bytes or fails.
func (v *Volume) readAt(off int64, n int64) ([]byte, error) {
	if off < 0 || n < 0 || off > v.size || n > v.size-off {
		return nil, fmt.Errorf("%d bytes at %d are beyond the end of the volume", n, off)
	}
	b := make([]byte, n)
	if _, err := v.r.ReadAt(b, off); err != nil && err != io.EOF {
		return nil, err
	}
	return b, nil
}

// open reads the boot sector and the FATs.
func (v *Volume) open() error {
	boot, err := v.readAt(0, 512)
	if err != nil {
		return err
	}
	v.boot = boot
	le := binary.LittleEndian
	sector := int64(le.Uint16(boot[11:]))
	perCluster := int64(boot[13])
	reserved := int64(le.Uint16(boot[14:]))
	v.fats = int(boot[16])
	rootEntries := int64(le.Uint16(boot[17:]))
	total := int64(le.Uint16(boot[19:]))
	if total == 0 {
		total = int64(le.Uint32(boot[32:]))
	}
	v.media = boot[21]
	perFAT := int64(le.Uint16(boot[22:]))
	v.Bits = 16
	if perFAT == 0 {
		v.Bits = 32
		perFAT = int64(le.Uint32(boot[36:]))
	}
	switch {
	case sector < 512 || sector > 4096 || sector&(sector-1) != 0:
		return fmt.Errorf("sectors of %d bytes", sector)
	case perCluster == 0 || perCluster&(perCluster-1) != 0:
		return fmt.Errorf("clusters of %d sectors", perCluster)
	case reserved == 0:
		return errors.New("no reserved sectors")
	case v.fats == 0:
		return errors.New("no FAT")
	case perFAT == 0:
		return errors.New("a FAT without sectors")
	case v.media != 0xf0 && v.media < 0xf8:
		return fmt.Errorf("media byte %#x", v.media)
	case total == 0:
		return errors.New("no sectors")
	case v.options.Reader == FATReaderUBoot && sector != int64(v.options.SectorSize):
		return fmt.Errorf("sectors of %d bytes, the device has %d", sector, v.options.SectorSize)
	case sector < int64(v.options.SectorSize):
		return fmt.Errorf("sectors of %d bytes are smaller than the device's of %d", sector, v.options.SectorSize)
	}
	v.SectorSize, v.ClusterSize = int(sector), int(sector*perCluster)
	v.fatStart, v.fatSize = reserved*sector, perFAT*sector
	if v.Bits == 32 {
		rootEntries = 0
		v.root = le.Uint32(boot[44:])
		v.ID = le.Uint32(boot[67:])
		v.backupBoot, v.infoSector = int64(le.Uint16(boot[50:])), int64(le.Uint16(boot[48:]))
	} else {
		v.ID = le.Uint32(boot[39:])
		if rootEntries == 0 {
			return errors.New("no root directory")
		}
	}
	v.rootStart = v.fatStart + int64(v.fats)*v.fatSize
	v.rootSize = rootEntries * 32
	v.dataStart = v.rootStart + (v.rootSize+sector-1)/sector*sector
	clusters := (total*sector - v.dataStart) / int64(v.ClusterSize)
	if total*sector <= v.dataStart || clusters <= 0 {
		return errors.New("no clusters")
	}
	if v.Bits == 16 && clusters < 4085 {
		v.Bits = 12
	}
	// A FAT that is too small limits the clusters.
	clusters = min(clusters, v.fatSize*8/int64(v.Bits)-2)
	most := map[int]int64{12: 4084, 16: 65524, 32: 0x0ffffff5}[v.Bits]
	switch {
	case clusters <= 0 || clusters > most:
		return fmt.Errorf("%d clusters for FAT%d", clusters, v.Bits)
	case v.options.Reader == FATReaderEDK2 && v.Bits == 32 && clusters < 65525:
		return fmt.Errorf("%d clusters are too few for FAT32", clusters)
	case v.fatSize > maxFAT:
		return fmt.Errorf("a FAT of %d bytes, at most %d can be judged", v.fatSize, maxFAT)
	}
	v.Clusters = int(clusters)
	v.visited = make([]uint32, clusters+2)
	if v.fat, err = v.readAt(v.fatStart, v.fatSize); err != nil {
		return fmt.Errorf("first FAT: %w", err)
	}
	if v.fats > 1 {
		if v.other, err = v.readAt(v.fatStart+v.fatSize, v.fatSize); err != nil {
			return fmt.Errorf("second FAT: %w", err)
		}
	}
	if v.options.Second {
		if v.other == nil {
			return errors.New("there is no second FAT")
		}
		v.fat, v.other = v.other, v.fat
	}
	if v.Bits == 32 && (v.root < 2 || int64(v.root) > clusters+1) {
		return fmt.Errorf("the root directory starts at cluster %d", v.root)
	}
	return nil
}

// Special values of a FAT entry, for all widths.
const (
	fatFree = 0
	fatBad  = 0x0ffffff7
	fatEnd  = 0x0fffffff // any end of a chain
)

// entry is the FAT's entry of a cluster, with the special values of FAT32.
func (v *Volume) entry(fat []byte, n uint32) uint32 {
	var e uint32
	le := binary.LittleEndian
	switch v.Bits {
	case 12:
		if at := int(n) * 3 / 2; at+1 < len(fat) {
			if e = uint32(le.Uint16(fat[at:])); n%2 == 1 {
				e >>= 4
			}
		}
		if e &= 0xfff; e >= 0xff7 {
			e |= 0x0ffff000
		}
	case 16:
		if e = uint32(le.Uint16(fat[2*n:])); e >= 0xfff7 {
			e |= 0x0fff0000
		}
	default:
		e = le.Uint32(fat[4*n:]) & 0x0fffffff
	}
	if e > fatBad {
		e = fatEnd
	}
	return e
}

// valid says whether a cluster has data.
func (v *Volume) valid(n uint32) bool { return n >= 2 && int64(n) <= int64(v.Clusters)+1 }

func (v *Volume) offset(n uint32) int64 { return v.dataStart + int64(n-2)*int64(v.ClusterSize) }

// chainEnd says how a chain ends.
type chainEnd int

const (
	chainWhole   chainEnd = iota // with the mark of an end
	chainStart                   // the first cluster does not exist
	chainFree                    // with a free cluster
	chainBad                     // with one marked bad
	chainRange                   // with a number that is no cluster
	chainLoop                    // it comes back to one of its clusters
	chainLimited                 // it goes on
)

// stepCost is what a step along a chain costs of [FATOptions.MaxRead].
const stepCost = 32

// chain returns the clusters from start. A cluster whose own entry is wrong is still the last of
// the chain. With a limit that is not negative, it returns so many clusters at most, and a loop is
// gone round as often as it takes.
func (v *Volume) chain(fat []byte, start uint32, limit int) ([]uint32, chainEnd) {
	var all []uint32
	n := start
	if !v.valid(n) {
		return nil, chainStart
	}
	defer func() { v.left -= int64(len(all)) * stepCost }()
	v.round++
	for {
		if limit >= 0 && len(all) == limit || v.left < int64(len(all))*stepCost {
			return all, chainLimited
		}
		if limit < 0 && v.visited[n] == v.round {
			return all, chainLoop
		}
		v.visited[n] = v.round
		all = append(all, n)
		switch next := v.entry(fat, n); {
		case next == fatEnd:
			return all, chainWhole
		case next == fatBad:
			return all, chainBad
		case next == fatFree:
			return all, chainFree
		case !v.valid(next):
			return all, chainRange
		default:
			n = next
		}
	}
}

// readClusters reads the first n bytes of some clusters.
func (v *Volume) readClusters(clusters []uint32, n int64) ([]byte, error) {
	var b bytes.Buffer
	err := v.copyClusters(&b, clusters, n)
	return b.Bytes(), err
}

// copyClusters writes the first n bytes of some clusters.
func (v *Volume) copyClusters(w io.Writer, clusters []uint32, n int64) error {
	if v.left -= n; v.left < 0 {
		return ErrTooMuch
	}
	const most = 1 << 20 // bytes at once
	for i, at := 0, int64(0); at < n; {
		j := i + 1
		for j < len(clusters) && clusters[j] == clusters[j-1]+1 && (j-i)*v.ClusterSize < most {
			j++
		}
		end := min(n, int64(j)*int64(v.ClusterSize))
		part, err := v.readAt(v.offset(clusters[i]), end-at)
		if err != nil {
			return err
		}
		if _, err := w.Write(part); err != nil {
			return err
		}
		at, i = end, j
	}
	return nil
}

// content writes a file as the driver reads it.
func (v *Volume) content(f *File, w io.Writer) error {
	if f.Size == 0 {
		return nil
	}
	if f.Start == 0 && v.options.Reader == FATReaderLinux { // a file without clusters is a hole
		if v.left -= f.Size; v.left < 0 {
			return ErrTooMuch
		}
		_, err := io.CopyN(w, zeros{}, f.Size)
		return err
	}
	need := int((f.Size + int64(v.ClusterSize) - 1) / int64(v.ClusterSize))
	clusters, end := v.chain(v.fat, f.Start, need)
	if v.left < 0 {
		return ErrTooMuch
	}
	if len(clusters) < need {
		return &chainError{f.Start, len(clusters), need, end}
	}
	if v.options.Reader == FATReaderUBoot && v.entry(v.fat, clusters[len(clusters)-1]) == fatFree {
		return &chainError{f.Start, len(clusters), need, chainFree}
	}
	return v.copyClusters(w, clusters, f.Size)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// chainError is a chain that is not whole.
type chainError struct {
	start     uint32
	got, want int
	end       chainEnd
}

func (e *chainError) Error() string {
	how := [...]string{"ends", "has no first cluster", "comes to a free cluster", "comes to a bad cluster", "comes to a number that is no cluster", "loops", "goes on"}[e.end]
	return fmt.Sprintf("the chain from cluster %d %s after %d clusters, want %d", e.start, how, e.got, e.want)
}

// File returns the file that the driver opens under a path: the first whose long or short names
// match without regard to case.
func (v *Volume) File(path string) (File, bool) {
	prefix := ""
	var found File
	for part := range strings.SplitSeq(path, "/") {
		i := slices.IndexFunc(v.Files, func(f File) bool {
			dir, name := split(f.Path)
			return dir == prefix && (equalFold(name, part) || equalFold(f.Short, part))
		})
		if i < 0 {
			return File{}, false
		}
		found = v.Files[i]
		prefix = found.Path
	}
	return found, true
}

func split(path string) (dir, name string) {
	i := strings.LastIndexByte(path, '/')
	return path[:max(i, 0)], path[i+1:]
}

// equalFold compares ASCII letters without regard to case.
func equalFold(a, b string) bool {
	return strings.Map(upper, a) == strings.Map(upper, b)
}

func upper(r rune) rune {
	if r >= 'a' && r <= 'z' {
		return r - 'a' + 'A'
	}
	return r
}

// ReadFile returns the contents of a file.
func (v *Volume) ReadFile(path string) ([]byte, error) {
	f, ok := v.File(path)
	if !ok || f.Dir {
		return nil, fmt.Errorf("oracle: FAT: there is no file %s", path)
	}
	v.left = 8 * max(v.size, 1<<20)
	var b bytes.Buffer
	if err := v.content(&f, &b); err != nil {
		return nil, fmt.Errorf("oracle: FAT: %s: %w", path, err)
	}
	return b.Bytes(), nil
}

// Contents returns the SHA-256 of each file by its path, as text; directories have a slash at the
// end and nothing, and what cannot be read has the reason. Two volumes with the same contents are
// the same to the driver.
func (v *Volume) Contents() map[string]string {
	all, again := map[string]string{}, map[string]int{}
	for _, f := range v.Files {
		path, value := f.Path, f.Err
		switch {
		case f.Dir:
			path += "/"
		case f.Err == "":
			value = fmt.Sprintf("%x", f.SHA256)
		}
		for n, name := again[path], path; ; n++ { // the same name may come many times
			if n > 0 {
				name = fmt.Sprintf("%s (again %d)", path, n)
			}
			if _, taken := all[name]; !taken {
				again[path], path = n+1, name
				break
			}
		}
		all[path] = value
	}
	return all
}

// hash fills in the contents of a file.
func (v *Volume) hash(f *File) error {
	h := sha256.New()
	err := v.content(f, h)
	if errors.Is(err, ErrTooMuch) {
		return err
	}
	if err != nil {
		f.Err = err.Error()
		return nil
	}
	h.Sum(f.SHA256[:0])
	return nil
}
