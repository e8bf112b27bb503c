package upgrade

import (
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/osmith-dev/osmith"
)

// overlay is the ESP as it will be: some entries gone, one more there. The loader's menu is worked out on it, so that what a
// plan says about the next boot is what the menu code says about a real ESP.
type overlay struct {
	fs.FS
	gone  []string // paths
	name  string   // path of the added file
	added osmith.Source
}

func (o overlay) isGone(name string) bool {
	return slices.ContainsFunc(o.gone, func(g string) bool { return strings.EqualFold(g, name) })
}

// Open implements [fs.FS].
func (o overlay) Open(name string) (fs.File, error) {
	switch {
	case strings.EqualFold(name, o.name):
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
	if strings.EqualFold(name, path.Dir(o.name)) {
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
