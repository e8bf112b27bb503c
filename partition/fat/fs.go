package fat

import (
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

// FS is an open FAT volume. It implements [fs.FS], [fs.ReadDirFS], [fs.ReadFileFS] and [fs.StatFS];
// names are found in any case ([SameName]) and also by their 8.3 alias. The methods may be used
// concurrently. An open file that is removed or replaced reads the new contents of its clusters.
type FS struct {
	// Time is the time stamp of new entries of WriteFile and MkdirAll, in UTC. The zero value is
	// 1980-01-01.
	Time time.Time

	r    io.ReaderAt
	w    io.WriterAt // nil: read-only
	geo  geometry
	page codePage
	// unit is what the device writes whole or not at all: its logical sector.
	unit int64

	parents parents
	known   known

	mu    sync.RWMutex
	used  bitmap // clusters in use or bad; nil until the first change or Free
	joins bitmap // where chains of two entries meet; nil: nowhere
	free  uint32
	hint  uint32 // where to look for free clusters next
	ready bool   // the FATs were made equal
	// unsynced says that something was written since the last sync.
	unsynced bool
	broken   error // a write failed: what is on disk is whole, what is in memory may not be
}

var (
	_ fs.ReadDirFS  = (*FS)(nil)
	_ fs.ReadFileFS = (*FS)(nil)
	_ fs.StatFS     = (*FS)(nil)
)

// Open opens the volume on a disk, or at the start of one, for reading and updating: [OpenWith]
// without options.
func Open(disk osmith.Disk) (*FS, error) { return OpenWith(disk, OpenOptions{}) }

// OpenOptions are facts that a volume does not record.
type OpenOptions struct {
	// SectorSize is the logical sector size of the disk in bytes: the unit that the disk writes
	// completely or not at all. 0: unknown, and taken to be 512, which is safe for every disk. A
	// volume can have larger sectors than its disk. For a volume with smaller sectors the error is
	// a [*osmith.FormatError]: firmware and kernels do not mount it there.
	SectorSize int
	// CodePage is the code page of 8.3 names and the volume label: 437 (also 0), 850, 852, 858 or
	// 866. It matters only for names with characters beyond ASCII that have no long name, as DOS
	//      and cameras make them. New 8.3 names are ASCII.
	CodePage int
}

// OpenWith opens the volume on a disk, or at the start of one, for reading and updating. Nothing is
// written before the first change. If the disk has a method Sync, updates call it between steps
// whose order matters after a power cut. A FAT32 with fewer than 65,525 clusters opens too, but
// cannot be changed ([ErrReadOnly]).
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
	if f, err = OpenReaderWith(disk, OpenOptions{CodePage: o.CodePage}); err != nil {
		return nil, err
	}
	if ss := f.geo.sectorSize; ss < unit {
		return nil, badFormat(11, "boot sector: BPB_BytsPerSec", "%d, but the disk has sectors of %d bytes: create the volume for this disk", ss, unit)
	}
	f.w, f.unit = disk, unit
	return f, nil
}

// OpenReader opens the volume at the start of r for reading: [OpenReaderWith] without options.
func OpenReader(r osmith.Source) (*FS, error) { return OpenReaderWith(r, OpenOptions{}) }

// OpenReaderWith opens the volume at the start of r for reading. If a different format is
// recognised, the error is a [*NotFATError]. The SectorSize of the options is ignored.
func OpenReaderWith(r osmith.Source, o OpenOptions) (f *FS, err error) {
	defer prefix.Add("fat", &err)
	page, err := codePageOf(o.CodePage)
	if err != nil {
		return nil, err
	}
	g, err := readGeometry(r)
	if err != nil {
		return nil, err
	}
	f = &FS{r: r, geo: *g, page: page, unit: smallestSector, hint: 2}
	f.pickReadable()
	return f, nil
}

// Kind is 12, 16 or 32.
func (f *FS) Kind() int { return f.geo.kind }

// ClusterSize is the unit of allocation in bytes.
func (f *FS) ClusterSize() int64 { return f.geo.clusterSize }

// VolumeID is the serial number of the volume.
func (f *FS) VolumeID() uint32 { return f.geo.volumeID }

// Label is the volume label of the root directory, which systems show and change, or that of the
// boot sector if the root directory has none or cannot be read. It is empty if it is "NO NAME".
func (f *FS) Label() string {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if d, err := f.readDir(0, ""); err == nil {
		for _, e := range d.kept {
			if e.attr&(attrVolume|attrDirectory) == attrVolume {
				return f.page.label(e.short)
			}
		}
	}
	return f.page.label(f.geo.label)
}

// walk returns the directory that holds name and the entry of name; for "." the root directory and
// nil.
func (f *FS) walk(name string) (*directory, *entry, error) {
	d, e, _, err := f.resolve(name, false)
	return d, e, err
}

// target is walk for a change: an element of the path that can mean several entries is
// [ErrAmbiguous].
func (f *FS) target(name string) (*directory, *entry, error) {
	d, e, _, err := f.resolve(name, true)
	return d, e, err
}

// resolve also returns the clusters of the directories on the way, the one of d last.
func (f *FS) resolve(name string, change bool) (d *directory, e *entry, above []uint32, err error) {
	if !fs.ValidPath(name) {
		return nil, nil, nil, fs.ErrInvalid
	}
	if d, err = f.readDir(0, ""); err != nil {
		return nil, nil, nil, err
	}
	above = []uint32{d.cluster}
	if name == "." {
		return d, nil, above, nil
	}
	parts := strings.Split(name, "/")
	for i, part := range parts {
		e = d.lookup(part)
		if change {
			if e, err = d.only(part); err != nil {
				return nil, nil, nil, err
			}
		}
		if e == nil {
			return d, nil, above, fs.ErrNotExist
		}
		if i == len(parts)-1 {
			break
		}
		if !e.isDir() {
			return nil, nil, nil, ErrNotDirectory
		}
		if d, err = f.enter(above, e, strings.Join(parts[:i+1], "/")); err != nil {
			return nil, nil, nil, err
		}
		above = append(above, d.cluster)
	}
	return d, e, above, nil
}

// maxDepth is how many directories can be inside of each other. Linux has paths of 4,096 bytes and
// Windows of 260 units.
const maxDepth = 256

// enter reads the directory of e. A tree of directories that contain each other, or that several
// parents share, would make a walk endless: each directory is read under one parent.
// What '.' and '..' say is not asked, because old versions of mtools wrote cluster 0 there.
func (f *FS) enter(above []uint32, e *entry, name string) (*directory, error) {
	bad := func(format string, args ...any) (*directory, error) {
		return nil, badFormat(f.geo.fatOff, "directory /"+name, format, args...)
	}
	up := above[len(above)-1]
	switch {
	case !f.geo.valid(e.cluster):
		return bad("starts at cluster %d, want 2 to %d", e.cluster, f.geo.clusters+1)
	case slices.Contains(above, e.cluster):
		return bad("is one of its own parents (cluster %d)", e.cluster)
	case len(above) >= maxDepth:
		return bad("is inside of %d others, want fewer", len(above))
	case e.again || !f.parents.claim(e.cluster, up):
		return bad("cluster %d is a directory under two names", e.cluster)
	}
	return f.readDir(e.cluster, name)
}

// parents remembers under which parent each directory was read.
type parents struct {
	mu sync.Mutex
	of map[uint32]uint32 // first cluster of a directory -> that of its parent
}

func (p *parents) claim(c, parent uint32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if first, ok := p.of[c]; ok {
		return first == parent
	}
	if p.of == nil {
		p.of = map[uint32]uint32{}
	}
	p.of[c] = parent
	return true
}

// forget is for changes: clusters may be used anew.
func (p *parents) forget() {
	p.mu.Lock()
	p.of = nil
	p.mu.Unlock()
}

// find returns the entry of name (nil for the root), and the directory itself if it is one.
func (f *FS) find(name string) (*entry, *directory, error) { return f.findFor(name, false) }

func (f *FS) findFor(name string, change bool) (*entry, *directory, error) {
	d, e, above, err := f.resolve(name, change)
	if err != nil || e == nil {
		return nil, d, err
	}
	if !e.isDir() {
		return e, nil, nil
	}
	sub, err := f.enter(above, e, name)
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

// ReadDir implements [fs.ReadDirFS]: entries are sorted by name, and names keep their case.
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
	// ByAlias: the long name cannot be an element of a path, because it has a surrogate without its
	// pair, a slash or more than 255 UTF-16 units. The file is listed, found and changed by its 8.3
	// alias; the long name stays as it is until the file is renamed or removed.
	ByAlias bool
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
		ShortName: i.e.alias, ReadOnly: a&attrReadOnly != 0, Hidden: a&2 != 0, System: a&4 != 0, Archive: a&attrArchive != 0,
		ByAlias: i.e.byAlias,
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

// pathError says what was tried. It begins with the name of the package, as errors of all packages
// do; errors of this package and of io/fs stay visible to errors.Is and errors.As.
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
