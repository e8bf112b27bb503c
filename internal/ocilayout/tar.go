package ocilayout

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// maxEntries bounds the table that is kept of a tar archive.
const maxEntries = 1 << 16

// TarFS shows the regular files of an uncompressed tar archive as a file system, without copying
// them: files implement [io.ReaderAt]. This is how "cosign save", "skopeo copy oci-archive:" and
// "podman save" pack a layout. A name that is listed in the archive twice, and one that is not a
// path below its root, are errors: readers of the same archive would not agree about them.
func TarFS(r io.ReaderAt, size int64) (fs.FS, error) {
	t := &tarFS{files: map[string]tarFile{}, dirs: map[string][]fs.DirEntry{".": nil}}
	// The reader seeks over contents and never reads ahead of a header, so the position behind one
	// is where its file begins.
	section := io.NewSectionReader(r, 0, size)
	archive := tar.NewReader(section)
	for {
		h, err := archive.Next()
		if err == io.EOF {
			return t, nil
		}
		if err != nil {
			return nil, fmt.Errorf("tar: %w", err)
		}
		at, err := section.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, fmt.Errorf("tar: %w", err)
		}
		if err := t.add(h, r, at, size); err != nil {
			return nil, fmt.Errorf("tar: %q: %w", h.Name, err)
		}
	}
}

type tarFS struct {
	files map[string]tarFile
	dirs  map[string][]fs.DirEntry
}

func (t *tarFS) add(h *tar.Header, r io.ReaderAt, at, size int64) error {
	name := path.Clean(strings.TrimSuffix(strings.TrimPrefix(h.Name, "./"), "/"))
	switch {
	case !fs.ValidPath(name):
		return errors.New("not a path below the root of the archive")
	case h.Typeflag == tar.TypeDir:
		return t.mkdir(name)
	case h.Typeflag != tar.TypeReg:
		return fmt.Errorf("of type %q, want a file or a directory", h.Typeflag)
	case h.Size < 0 || h.Size > size-at:
		return fmt.Errorf("%d bytes at %d of an archive of %d", h.Size, at, size)
	case len(t.files) == maxEntries:
		return fmt.Errorf("more than %d files", maxEntries)
	}
	_, file := t.files[name]
	_, dir := t.dirs[name]
	if file || dir {
		return errors.New("the name is in the archive twice")
	}
	f := tarFile{name: path.Base(name), at: at, size: h.Size, r: r}
	t.files[name] = f
	parent := path.Dir(name)
	if err := t.mkdir(parent); err != nil {
		return err
	}
	t.dirs[parent] = append(t.dirs[parent], fs.FileInfoToDirEntry(f))
	return nil
}

// mkdir notes a directory and those above it.
func (t *tarFS) mkdir(name string) error {
	if _, ok := t.dirs[name]; ok {
		return nil
	}
	if _, ok := t.files[name]; ok {
		return fmt.Errorf("%q is a file and a directory", name)
	}
	parent := path.Dir(name)
	if err := t.mkdir(parent); err != nil {
		return err
	}
	t.dirs[name] = nil
	t.dirs[parent] = append(t.dirs[parent], fs.FileInfoToDirEntry(tarFile{name: path.Base(name), dir: true}))
	return nil
}

// Open implements [fs.FS].
func (t *tarFS) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	if f, ok := t.files[name]; ok {
		return openFile{f, io.NewSectionReader(f.r, f.at, f.size)}, nil
	}
	if list, ok := t.dirs[name]; ok {
		list = slices.Clone(list)
		slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
		return &openDir{info: tarFile{name: path.Base(name), dir: true}, left: list}, nil
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// A tarFile is one file of the archive and what [fs.FileInfo] tells of it. Times and modes do not
// matter.
type tarFile struct {
	name     string
	at, size int64
	dir      bool
	r        io.ReaderAt
}

func (f tarFile) Name() string       { return f.name }
func (f tarFile) Size() int64        { return f.size }
func (f tarFile) IsDir() bool        { return f.dir }
func (f tarFile) ModTime() time.Time { return time.Time{} }
func (f tarFile) Sys() any           { return nil }

func (f tarFile) Mode() fs.FileMode {
	if f.dir {
		return fs.ModeDir | 0o555
	}
	return 0o444
}

type openFile struct {
	info tarFile
	*io.SectionReader
}

func (f openFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f openFile) Close() error               { return nil }

type openDir struct {
	info tarFile
	left []fs.DirEntry
}

func (d *openDir) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *openDir) Close() error               { return nil }

func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.info.name, Err: errors.New("is a directory")}
}

// ReadDir implements [fs.ReadDirFile].
func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n > 0 && len(d.left) == 0 {
		return nil, io.EOF
	}
	if n <= 0 || n > len(d.left) {
		n = len(d.left)
	}
	out := d.left[:n]
	d.left = d.left[n:]
	return out, nil
}
