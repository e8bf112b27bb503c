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
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
)

// ErrNoESP is returned for a disk without an EFI system partition.
var ErrNoESP = errors.New("no EFI system partition")

// overlay is the ESP as it will be: some entries gone, one more there. The loader's menu is worked out on it, so that what a
// plan says about the next boot is what the menu code says about a real ESP.
type overlay struct {
	fs.FS
	gone  []string // paths
	name  string   // path of the added file
	added osmith.Source
}

func (o overlay) isGone(name string) bool {
	return slices.ContainsFunc(o.gone, func(g string) bool { return fat.SameName(g, name) })
}

// Open implements [fs.FS].
func (o overlay) Open(name string) (fs.File, error) {
	switch {
	case fat.SameName(name, o.name):
		return &addedFile{io.NewSectionReader(o.added, 0, o.added.Size()), o.info()}, nil
	case o.isGone(name):
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return o.FS.Open(name)
}

// ReadDir implements [fs.ReadDirFS].
func (o overlay) ReadDir(name string) ([]fs.DirEntry, error) {
	list, err := fs.ReadDir(o.FS, name)
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(e fs.DirEntry) bool { return o.isGone(path.Join(name, e.Name())) })
	if fat.SameName(name, path.Dir(o.name)) {
		list = append(list, fs.FileInfoToDirEntry(o.info()))
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return list, nil
}

func (o overlay) info() addedInfo { return addedInfo{path.Base(o.name), o.added.Size()} }

type addedFile struct {
	*io.SectionReader
	info addedInfo
}

func (f *addedFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *addedFile) Close() error               { return nil }

type addedInfo struct {
	name string
	size int64
}

func (i addedInfo) Name() string       { return i.name }
func (i addedInfo) Size() int64        { return i.size }
func (i addedInfo) Mode() fs.FileMode  { return 0o444 }
func (i addedInfo) ModTime() time.Time { return time.Time{} }
func (i addedInfo) IsDir() bool        { return false }
func (i addedInfo) Sys() any           { return nil }

// scratch is a partition that can be written to without being changed: what a plan needs to try something out.
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

// leftover is what an interrupted upgrade left on the ESP, and how much is free once that is put right.
type leftover struct {
	repaired fat.Repaired
	free     int64
	err      error // damage of another kind
}

func (l leftover) any() bool { return l.err == nil && l.repaired != fat.Repaired{} }

// tryRepair repairs a copy of the ESP that is then dropped.
func (s *State) tryRepair() (l leftover) {
	esp, err := fat.Open(&scratch{s.espWindow, map[int64][scratchSector]byte{}})
	if err != nil {
		return leftover{err: err}
	}
	if l.repaired, err = esp.Repair(); err != nil {
		return leftover{err: err}
	}
	l.free = esp.Free()
	return l
}

// espFile is a file on the ESP.
type espFile struct {
	path string
	size int64
}

// findESP is the one EFI system partition of the disk.
func findESP(disk osmith.Disk, t *partition.Table) (*partition.Window, error) {
	var found []int
	for i, p := range t.Partitions {
		if p.Type == partition.ESP {
			found = append(found, i)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("%w in the partition table", ErrNoESP)
	case 1:
	default:
		return nil, fmt.Errorf("%d EFI system partitions: the disk does not tell which one the firmware starts", len(found))
	}
	return t.Window(disk, found[0]), nil
}

// findStaged lists UKIs that an interrupted upgrade left.
func (s *State) findStaged() error {
	files, err := s.esp.ReadDir(entryDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, f := range files {
		if !strings.HasSuffix(strings.ToLower(f.Name()), stagedSuffix) {
			continue
		}
		info, err := f.Info()
		if err != nil {
			return err
		}
		s.staged = append(s.staged, espFile{path.Join(entryDir, f.Name()), info.Size()})
	}
	return nil
}

// openFile opens a file on the ESP for reading at any offset. FAT files hold no resources that closing would free.
func openFile(esp *fat.FS, name string) (osmith.Source, error) {
	f, err := esp.Open(name)
	if err != nil {
		return nil, err
	}
	if src, ok := f.(osmith.Source); ok {
		return src, nil
	}
	return nil, fmt.Errorf("%s on the ESP is not a file", name)
}

// sameContent compares a file on the ESP with src.
func sameContent(esp *fat.FS, name string, src osmith.Source) (bool, error) {
	have, err := openFile(esp, name)
	if err != nil {
		return false, err
	}
	if have.Size() != src.Size() {
		return false, nil
	}
	a, err := digest(have)
	if err != nil {
		return false, err
	}
	b, err := digest(src)
	return a == b, err
}

func digest(src osmith.Source) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(src, 0, src.Size())); err != nil {
		return sum, err
	}
	h.Sum(sum[:0])
	return sum, nil
}
