package fat

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sparse"
)

// FS is an open FAT volume. It implements [fs.FS], [fs.ReadDirFS], [fs.ReadFileFS] and [fs.StatFS]; names are found
// in any case and by their 8.3 alias too. The methods may be used concurrently. A file that is open while it is
// removed or replaced reads what its clusters hold then.
type FS struct {
	// Time is what WriteFile and MkdirAll stamp new entries with, in UTC. The zero value is 1980-01-01.
	Time time.Time

	r   io.ReaderAt
	w   io.WriterAt // nil: read-only
	geo geometry
	// unit is what the device writes whole or not at all: its logical sector.
	unit int64

	mu     sync.RWMutex
	used   bitmap // clusters in use or bad; nil until the first change or Free
	free   uint32
	hint   uint32 // where to look for free clusters next
	ready  bool   // the FATs were made equal
	broken error  // a write failed: what is on disk is whole, what is in memory may not be
}

var (
	_ fs.ReadDirFS  = (*FS)(nil)
	_ fs.ReadFileFS = (*FS)(nil)
	_ fs.StatFS     = (*FS)(nil)
)

// Open opens the volume on a disk, or at the start of one, for reading and updating: [OpenWith] without options.
func Open(disk osmith.Disk) (*FS, error) { return OpenWith(disk, OpenOptions{}) }

// OpenOptions say what a volume cannot tell about itself.
type OpenOptions struct {
	// SectorSize is the logical sector size of the disk in bytes: what it writes whole or not at all. 0: it is not known, and
	// taken to be 512, which is right for every disk. A volume can have larger sectors than its disk. One with smaller
	// sectors is a [*osmith.FormatError]: no firmware or kernel mounts it there.
	SectorSize int
}

// OpenWith opens the volume on a disk, or at the start of one, for reading and updating. Nothing is written before the first
// change. If the disk has a method Sync, updates call it between steps whose order matters after a power cut. A FAT32 with
// fewer than 65,525 clusters opens too, but cannot be changed ([ErrReadOnly]).
func OpenWith(disk osmith.Disk, o OpenOptions) (f *FS, err error) {
	defer prefix.Add("fat", &err)
	unit := int64(o.SectorSize)
	switch unit {
	case 0:
		unit = smallestSector
	case 512, 1024, 2048, 4096:
	default:
		return nil, fmt.Errorf("sector size %d: want 512, 1024, 2048 or 4096", unit)
	}
	if f, err = OpenReader(disk); err != nil {
		return nil, err
	}
	if ss := f.geo.sectorSize; ss < unit {
		return nil, badFormat(11, "boot sector: BPB_BytsPerSec", "%d, the disk has sectors of %d bytes: make the volume anew for this disk", ss, unit)
	}
	f.w, f.unit = disk, unit
	return f, nil
}

// OpenReader opens the volume at the start of r for reading.
func OpenReader(r osmith.Source) (f *FS, err error) {
	defer prefix.Add("fat", &err)
	g, err := readGeometry(r)
	if err != nil {
		return nil, err
	}
	return &FS{r: r, geo: *g, unit: smallestSector, hint: 2}, nil
}

// Kind is 12, 16 or 32.
func (f *FS) Kind() int { return f.geo.kind }

// ClusterSize is the unit of allocation in bytes.
func (f *FS) ClusterSize() int64 { return f.geo.clusterSize }

// VolumeID is the serial number of the volume.
func (f *FS) VolumeID() uint32 { return f.geo.volumeID }

// Label is the volume label of the boot sector, empty if it is "NO NAME".
func (f *FS) Label() string {
	s := string(bytes.TrimRight(f.geo.label[:], " \x00"))
	if s == "NO NAME" {
		return ""
	}
	return s
}

// walk returns the directory that holds name and the entry of name; for "." the root directory and nil.
func (f *FS) walk(name string) (*directory, *entry, error) {
	if !fs.ValidPath(name) {
		return nil, nil, fs.ErrInvalid
	}
	d, err := f.readDir(0, "")
	if err != nil || name == "." {
		return d, nil, err
	}
	above := []uint32{d.cluster}
	parts := strings.Split(name, "/")
	for i, part := range parts {
		e := d.lookup(part)
		if e == nil {
			return d, nil, fs.ErrNotExist
		}
		if i == len(parts)-1 {
			return d, e, nil
		}
		if !e.isDir() {
			return nil, nil, ErrNotDirectory
		}
		if d, err = f.enter(above, e, strings.Join(parts[:i+1], "/")); err != nil {
			return nil, nil, err
		}
		above = append(above, d.cluster)
	}
	panic("unreachable")
}

// enter reads the directory of e. One of its own ancestors would make a tree without end.
func (f *FS) enter(above []uint32, e *entry, name string) (*directory, error) {
	if slices.Contains(above, e.cluster) {
		return nil, badFormat(f.geo.fatOff, "directory /"+name, "is one of its own parents (cluster %d)", e.cluster)
	}
	d, err := f.readDir(e.cluster, name)
	if err != nil {
		return nil, err
	}
	// '..' is cluster 0 under the root; some writers put the number of the root cluster there.
	up := above[len(above)-1]
	if len(d.buf) >= 2*entrySize && bytes.Equal(d.buf[entrySize:entrySize+11], []byte("..         ")) {
		b := d.buf[entrySize:]
		got := uint32(b[26]) | uint32(b[27])<<8
		if f.geo.kind == 32 {
			got |= uint32(b[20])<<16 | uint32(b[21])<<24
		}
		if got != up && !(len(above) == 1 && got == 0) {
			return nil, badFormat(d.off(&f.geo, entrySize), "directory /"+name, "'..' is cluster %d, the parent is %d", got, up)
		}
	} else {
		return nil, badFormat(d.off(&f.geo, 0), "directory /"+name, "has no '..'")
	}
	return d, nil
}

// find returns the entry of name (nil for the root), and the directory itself if it is one.
func (f *FS) find(name string) (*entry, *directory, error) {
	d, e, err := f.walk(name)
	if err != nil || e == nil {
		return nil, d, err
	}
	if !e.isDir() {
		return e, nil, nil
	}
	sub, err := f.readDir(e.cluster, name)
	return e, sub, err
}

// Open implements [fs.FS]. Files also implement [io.ReaderAt], [io.Seeker] and Size() int64.
func (f *FS) Open(name string) (fs.File, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	e, d, err := f.find(name)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	if d != nil {
		return &dirFile{info: newInfo(e, name), entries: d.list()}, nil
	}
	file, err := f.openFile(e, name)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return file, nil
}

func (f *FS) openFile(e *entry, name string) (*file, error) {
	need := (int64(e.size) + f.geo.clusterSize - 1) / f.geo.clusterSize
	runs, err := newTableReader(f.r, &f.geo).runs(e.cluster, need, 0, "/"+name)
	if err != nil {
		return nil, err
	}
	return newFile(f, runs, newInfo(e, name)), nil
}

// ReadDir implements [fs.ReadDirFS]: sorted by name, each name in its own case.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	_, d, err := f.find(name)
	if err == nil && d == nil {
		err = ErrNotDirectory
	}
	if err != nil {
		return nil, pathError("readdir", name, err)
	}
	return d.list(), nil
}

// ReadFile implements [fs.ReadFileFS].
func (f *FS) ReadFile(name string) ([]byte, error) {
	file, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	src, ok := file.(interface {
		io.ReaderAt
		Size() int64
	})
	if !ok {
		return nil, pathError("read", name, ErrIsDirectory)
	}
	size := int(src.Size())
	if int64(size) != src.Size() {
		return nil, pathError("read", name, errors.New("file is too large for the memory of this system"))
	}
	b := make([]byte, size) // as many clusters exist: openFile followed the chain
	if err := sparse.ReadFull(src, b, 0); err != nil {
		return nil, pathError("read", name, err)
	}
	return b, nil
}

// Stat implements [fs.StatFS]. Sys of the result is an [Attributes].
func (f *FS) Stat(name string) (fs.FileInfo, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	d, e, err := f.walk(name)
	if err != nil {
		return nil, pathError("stat", name, err)
	}
	if e == nil && d != nil {
		return newInfo(nil, "."), nil
	}
	return newInfo(e, name), nil
}

// Attributes is what [fs.FileInfo] Sys returns.
type Attributes struct {
	ShortName string // the 8.3 name, upper case
	ReadOnly  bool
	Hidden    bool
	System    bool
	Archive   bool
}

type info struct {
	name string
	e    entry
}

func newInfo(e *entry, name string) *info {
	if e == nil {
		return &info{name: ".", e: entry{attr: attrDirectory, written: stampOf(time.Time{})}}
	}
	return &info{name: e.name, e: *e}
}

func (i *info) Name() string { return i.name }
func (i *info) Size() int64 {
	if i.IsDir() {
		return 0
	}
	return int64(i.e.size)
}
func (i *info) Mode() fs.FileMode {
	mode := fs.FileMode(0o644)
	if i.IsDir() {
		mode = fs.ModeDir | 0o755
	}
	if i.e.attr&attrReadOnly != 0 {
		mode &^= 0o222
	}
	return mode
}
func (i *info) ModTime() time.Time         { return i.e.written.decode() }
func (i *info) IsDir() bool                { return i.e.isDir() }
func (i *info) Type() fs.FileMode          { return i.Mode().Type() }
func (i *info) Info() (fs.FileInfo, error) { return i, nil }
func (i *info) String() string             { return fs.FormatFileInfo(i) }
func (i *info) Sys() any {
	a := i.e.attr
	return Attributes{
		ShortName: i.e.short.text(0), ReadOnly: a&attrReadOnly != 0, Hidden: a&2 != 0, System: a&4 != 0, Archive: a&attrArchive != 0,
	}
}

func (d *directory) list() []fs.DirEntry {
	out := make([]fs.DirEntry, 0, len(d.entries))
	for i := range d.entries {
		out = append(out, newInfo(&d.entries[i], d.entries[i].name))
	}
	slices.SortStableFunc(out, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return out
}

// splitPath returns parent and last element of a path.
func splitPath(name string) (dir, base string) { return path.Dir(name), path.Base(name) }

// pathError says what was tried. It begins with the name of the package, as errors of all packages do; errors of this
// package and of io/fs stay visible to errors.Is and errors.As.
func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := err.(*fs.PathError); ok && strings.HasPrefix(e.Op, "fat: ") {
		return err
	}
	return &fs.PathError{Op: "fat: " + op, Path: name, Err: err}
}

var errBroken = errors.New("an earlier write failed: open the volume again")

func (f *FS) fail(err error) error {
	if err != nil && f.broken == nil {
		f.broken = fmt.Errorf("%w: %w", errBroken, err)
	}
	return err
}

// file is an open file. Its runs are found when it is opened.
type file struct {
	*io.SectionReader // Read, Seek, ReadAt, Size
	info              *info
	closed            bool
}

// runReader reads the clusters of a file.
type runReader struct {
	f     *FS
	runs  []run
	start []int64 // first byte of each run in the file
	size  int64
}

func newFile(f *FS, runs []run, i *info) *file {
	r := &runReader{f: f, runs: runs, size: i.Size()}
	var pos int64
	for _, k := range runs {
		r.start = append(r.start, pos)
		pos += int64(k.n) * f.geo.clusterSize
	}
	return &file{SectionReader: io.NewSectionReader(r, 0, r.size), info: i}
}

// ReadAt is called by SectionReader with off and p inside of the file.
func (r *runReader) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) && off < r.size {
		i := sort.Search(len(r.start), func(i int) bool { return r.start[i] > off }) - 1
		in := off - r.start[i]
		k := min(int64(len(p)-n), int64(r.runs[i].n)*r.f.geo.clusterSize-in, r.size-off)
		at := r.f.geo.clusterOff(r.runs[i].first) + in
		if err := sparse.ReadFull(r.f.r, p[n:n+int(k)], at); err != nil {
			return n, fmt.Errorf("cluster at 0x%x: %w", at, err)
		}
		n += int(k)
		off += k
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) Stat() (fs.FileInfo, error) { return f.info, nil }

func (f *file) Close() error {
	if f.closed {
		return pathError("close", f.info.name, fs.ErrClosed)
	}
	f.closed = true
	return nil
}

func (f *file) Read(p []byte) (int, error) {
	if f.closed {
		return 0, pathError("read", f.info.name, fs.ErrClosed)
	}
	n, err := f.SectionReader.Read(p)
	return n, f.readError(err)
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.SectionReader.ReadAt(p, off)
	return n, f.readError(err)
}

// readError is err for the user of the file. The end of the file stays what it is.
func (f *file) readError(err error) error {
	if err == io.EOF {
		return err
	}
	return pathError("read", f.info.name, err)
}

// dirFile is an open directory.
type dirFile struct {
	info    *info
	entries []fs.DirEntry
	pos     int
}

func (d *dirFile) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *dirFile) Close() error               { return nil }

func (d *dirFile) Read([]byte) (int, error) {
	return 0, pathError("read", d.info.name, ErrIsDirectory)
}

func (d *dirFile) ReadDir(n int) ([]fs.DirEntry, error) {
	left := d.entries[d.pos:]
	if n > 0 {
		if len(left) == 0 {
			return nil, io.EOF
		}
		left = left[:min(n, len(left))]
	}
	d.pos += len(left)
	return append([]fs.DirEntry{}, left...), nil
}
