package upgrade

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/blockdev"
	"github.com/osmith-dev/osmith/internal/pinned"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
)

// ErrNoESP is returned for a disk without an EFI system partition.
var ErrNoESP = errors.New("no EFI system partition")

// overlay is the ESP as it will be: some files gone, some there that are not, some under another
// name. The loader's menu is worked out on it, so that what a plan says about the next boots is
// what the menu code says about a real ESP.
type overlay struct {
	fs.FS
	gone  []string                 // paths
	added map[string]osmith.Source // by path, which may stand for a file of FS
	dirs  []string                 // of added files, where FS has none
}

// add puts a file where there may be one.
func (o *overlay) add(name string, src osmith.Source) {
	if o.added == nil {
		o.added = map[string]osmith.Source{}
	}
	o.added[name] = src
	if dir := path.Dir(name); !slices.Contains(o.dirs, dir) {
		o.dirs = append(o.dirs, dir)
	}
}

// rename gives a file another name.
func (o *overlay) rename(from, to string) {
	if from == to {
		return
	}
	src, ok := o.find(from)
	if !ok {
		f, err := o.FS.Open(from)
		if err != nil {
			return // what is not there has no name
		}
		if src, ok = f.(osmith.Source); !ok {
			return
		}
	}
	for name := range o.added {
		if fat.SameName(name, from) {
			delete(o.added, name)
		}
	}
	o.gone = append(o.gone, from)
	o.add(to, src)
}

func (o overlay) find(name string) (osmith.Source, bool) {
	for have, src := range o.added {
		if fat.SameName(have, name) {
			return src, true
		}
	}
	return nil, false
}

func (o overlay) isGone(name string) bool {
	return slices.ContainsFunc(o.gone, func(g string) bool { return fat.SameName(g, name) })
}

// Open implements [fs.FS].
func (o overlay) Open(name string) (fs.File, error) {
	if src, ok := o.find(name); ok {
		return &addedFile{io.NewSectionReader(src, 0, src.Size()), addedInfo{path.Base(name), src.Size()}}, nil
	}
	if o.isGone(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if o.isDir(name) {
		if f, err := o.FS.Open(name); !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		return addedDir{addedInfo{path.Base(name), -1}}, nil
	}
	return o.FS.Open(name)
}

func (o overlay) isDir(name string) bool {
	return slices.ContainsFunc(o.dirs, func(d string) bool { return fat.SameName(d, name) })
}

// ReadDir implements [fs.ReadDirFS].
func (o overlay) ReadDir(name string) ([]fs.DirEntry, error) {
	list, err := fs.ReadDir(o.FS, name)
	if err != nil && !(errors.Is(err, fs.ErrNotExist) && o.isDir(name)) {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(e fs.DirEntry) bool {
		p := path.Join(name, e.Name())
		_, replaced := o.find(p)
		return replaced || o.isGone(p)
	})
	for p, src := range o.added {
		if fat.SameName(name, path.Dir(p)) {
			list = append(list, fs.FileInfoToDirEntry(addedInfo{path.Base(p), src.Size()}))
		}
	}
	for _, d := range o.dirs {
		there := slices.ContainsFunc(list, func(e fs.DirEntry) bool { return fat.SameName(e.Name(), path.Base(d)) })
		if d != name && fat.SameName(name, path.Dir(d)) && !there {
			list = append(list, fs.FileInfoToDirEntry(addedInfo{path.Base(d), -1}))
		}
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return list, nil
}

type addedFile struct {
	*io.SectionReader
	info addedInfo
}

func (f *addedFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *addedFile) Close() error               { return nil }

// addedDir is a directory that is not on the ESP yet.
type addedDir struct{ info addedInfo }

func (d addedDir) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d addedDir) Close() error               { return nil }
func (d addedDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.info.name, Err: fs.ErrInvalid}
}

type addedInfo struct {
	name string
	size int64 // -1: a directory
}

func (i addedInfo) Name() string { return i.name }
func (i addedInfo) Size() int64  { return max(i.size, 0) }
func (i addedInfo) Mode() fs.FileMode {
	if i.IsDir() {
		return fs.ModeDir | 0o555
	}
	return 0o444
}
func (i addedInfo) ModTime() time.Time { return time.Time{} }
func (i addedInfo) IsDir() bool        { return i.size < 0 }
func (i addedInfo) Sys() any           { return nil }

// scratch is a partition that can be written to without being changed: what a plan needs to try
// something out.
type scratch struct {
	osmith.Source
	written map[int64][scratchSector]byte // by sector
}

const scratchSector = 512

func (s *scratch) ReadAt(b []byte, off int64) (int, error) {
	n, err := s.Source.ReadAt(b, off)
	for at := off / scratchSector * scratchSector; at < off+int64(n); at += scratchSector {
		sector, ok := s.written[at]
		if !ok {
			continue
		}
		if at < off {
			copy(b[:n], sector[off-at:])
		} else {
			copy(b[at-off:n], sector[:])
		}
	}
	return n, err
}

// SectorSize is that of what is not changed.
func (s *scratch) SectorSize() int {
	if d, ok := s.Source.(interface{ SectorSize() int }); ok {
		return d.SectorSize()
	}
	return 0
}

// Exclusive is asked of what is not changed: a program that uses a partition there would be in the
// way.
func (s *scratch) Exclusive(off, n int64) (release func() error, err error) {
	return blockdev.Exclusive(s.Source, off, n)
}

func (s *scratch) WriteAt(b []byte, off int64) (int, error) {
	for done := 0; done < len(b); {
		at := (off + int64(done)) / scratchSector * scratchSector
		var sector [scratchSector]byte
		if _, err := s.ReadAt(sector[:], at); err != nil && err != io.EOF {
			return done, err
		}
		done += copy(sector[off+int64(done)-at:], b[done:])
		s.written[at] = sector
	}
	return len(b), nil
}

// leftover is what an interrupted upgrade left on a file system, and how much is free once that is
// put right.
type leftover struct {
	repaired []fat.Repaired   // of the ESP, and of an extended boot loader partition
	stays    []fat.Repaired   // of those that are mounted
	free     map[string]int64 // by file system
	err      error            // damage of another kind
}

func (l leftover) any() bool {
	return l.err == nil && slices.ContainsFunc(l.repaired, func(r fat.Repaired) bool { return r != fat.Repaired{} })
}

// discards reports whether the repair takes away what is staged.
func (l leftover) discards() bool {
	return slices.ContainsFunc(l.repaired, func(r fat.Repaired) bool { return r.Discarded > 0 })
}

// String is what was left.
func (l leftover) String() string {
	var parts []string
	for _, r := range l.repaired {
		if (r != fat.Repaired{}) {
			parts = append(parts, r.String())
		}
	}
	return strings.Join(parts, " and ")
}

// discardStaged has a repair take away what an interrupted upgrade left, whatever state it is in.
var discardStaged = fat.RepairOptions{Discard: isStagedName}

// tryRepair repairs copies of the file systems that are then dropped.
func (b *bootFS) tryRepair() (l leftover) {
	l.err = b.each(l.add)
	return l
}

// add repairs a copy of a volume.
func (l *leftover) add(volume string, v *bootVolume) error {
	if l.free == nil {
		l.free = map[string]int64{}
	}
	f, repaired, err := v.tryRepair(fat.RepairOptions{})
	if v.mounted != nil {
		if err != nil {
			return &UnrepairedError{volumeName(volume), err.Error()}
		}
		if repaired.FATSectors+repaired.FATHeads+repaired.Names+repaired.Dots > 0 {
			return &UnrepairedError{volumeName(volume), repaired.String()}
		}
		// Clusters and pieces of names that belong to nothing are in the way of nothing, and stay.
		l.free[volume], l.stays = v.Free(), append(l.stays, repaired)
		return nil
	}
	if err != nil {
		// Where staged files alone are damaged, they go with the repair.
		if f, repaired, err = v.tryRepair(discardStaged); err != nil {
			return err
		}
	}
	l.free[volume], l.repaired = f.Free(), append(l.repaired, repaired)
	return nil
}

func (v *bootVolume) tryRepair(o fat.RepairOptions) (f *fat.FS, done fat.Repaired, err error) {
	if f, err = openESP(&scratch{v.window, map[int64][scratchSector]byte{}}, v.sector); err == nil {
		done, err = f.RepairWith(o)
	}
	return f, done, err
}

// putRight repairs what an interrupted upgrade left. Damage of another kind is left to who changes
// the volume.
func (b *bootFS) putRight() error {
	if !b.tryRepair().any() {
		return nil
	}
	return b.Repair()
}

// removeLeft removes a file. One that is staged may have gone with a repair, or with the file that
// it lay beside.
func (b *bootFS) removeLeft(name string) error {
	err := b.Remove(name)
	if errors.Is(err, fs.ErrNotExist) && isStagedName(name) {
		return nil
	}
	return err
}

func volumeName(volume string) string {
	if volume == onXBOOTLDR {
		return "the extended boot loader partition"
	}
	return "the ESP"
}

// espFile is a file on the ESP.
type espFile struct {
	path   string
	size   int64
	remove StepKind // of the step that takes it away
}

// findESP is the EFI system partition of the disk: the one, or that which the machine was started
// from.
func (m *Machine) findESP(t *partition.Table) (int, error) {
	var found []int
	for i, p := range t.Partitions {
		if p.Type == partition.ESP {
			found = append(found, i)
		}
	}
	named := m.espID()
	i := slices.IndexFunc(found, func(i int) bool { return t.Partitions[i].ID == named })
	switch {
	case len(found) == 0:
		return -1, fmt.Errorf("%w in the partition table", ErrNoESP)
	case i >= 0:
		return found[i], nil
	case slices.ContainsFunc(t.Partitions, func(p partition.Partition) bool { return p.Type == partition.XBOOTLDR && p.ID == named }):
		// The UKI was started from there, and the loader from the ESP.
	case !named.IsZero():
		return -1, &NotRunningError{"the ESP", named.String()}
	}
	if len(found) > 1 {
		return -1, fmt.Errorf("%d EFI system partitions: which of them the firmware starts is unknown: set Running.ESP or Machine.ESP", len(found))
	}
	return found[0], nil
}

// openESP opens the file system of an ESP, to be written in whole sectors of the disk.
func openESP(disk osmith.Disk, sectorSize int) (*fat.FS, error) {
	return fat.OpenWith(disk, fat.OpenOptions{SectorSize: sectorSize})
}

// findStaged lists what no boot has tried yet: entries with all their tries, and UKIs that an
// interrupted upgrade left. What others have staged is theirs.
func (s *State) findStaged() error {
	for _, e := range s.Entries {
		if s.isStaged(e) && !slices.Contains(s.Staged, e.Path) {
			s.Staged = append(s.Staged, e.Path)
		}
	}
	return s.esp.each(s.findStagedOn)
}

func (s *State) findStagedOn(volume string, v *bootVolume) error {
	files, err := listDir(v, entryDir)
	if err != nil {
		return err
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			return err
		}
		// An empty file is where an entry was to appear.
		if name := fold(f.Name()); info.IsDir() || !isStagedName(name) && (info.Size() > 0 || path.Ext(name) != ".efi") {
			continue
		}
		name := volume + path.Join(entryDir, f.Name())
		s.staged, s.Staged = append(s.staged, espFile{name, info.Size(), StepRemoveStaged}), append(s.Staged, name)
	}
	return nil
}

// isStaged reports whether an entry is installed and was not tried: it has a counter that says so,
// and does not run.
func (s *State) isStaged(e *Entry) bool {
	runs := func(other *Entry) bool { return other != nil && fat.SameName(uncounted(other.Path), uncounted(e.Path)) }
	return e.Counted && e.TriesDone == 0 && e.TriesLeft > 0 && !runs(s.Running) && !runs(s.Started)
}

// openFile opens a file on the ESP for reading at any offset. FAT files hold no resources that
// closing would free.
func openFile(esp fs.FS, name string) (osmith.Source, error) {
	f, err := esp.Open(name)
	if err != nil {
		return nil, err
	}
	if src, ok := f.(osmith.Source); ok {
		return src, nil
	}
	return nil, fmt.Errorf("%s on the ESP is not a file", name)
}

// sameDigest compares a file on the ESP with a digest. A missing file differs.
func (s *State) sameDigest(name string, want [sha256.Size]byte) (bool, error) {
	have, err := openFile(s.esp, name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	got, err := digest(have)
	return got == want, err
}

func digest(src osmith.Source) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	if err := pinned.Scan(src, h); err != nil {
		return sum, err
	}
	h.Sum(sum[:0])
	return sum, nil
}
