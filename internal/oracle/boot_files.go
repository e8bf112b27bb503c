package oracle

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// BootFile is a file or directory of an EFI system partition as firmware shows it to a boot loader.
type BootFile struct {
	Path  string // with slashes, without one at its start
	Short string // the 8.3 name, by which it can be opened too; "" if it is not known
	Dir   bool
	Size  int64
	Err   string // why firmware cannot read it

	r  io.ReaderAt
	id [32]byte // hash of the content
}

// BootFiles are the files of one file system in the order of its directories.
type BootFiles []BootFile

// NewBootFile is a file that is on no volume.
func NewBootFile(path, content string) BootFile {
	return BootFile{Path: path, Size: int64(len(content)), r: strings.NewReader(content)}
}

// BootFiles are the files of a volume as its driver reads them, which for a boot loader is
// [FATReaderEDK2].
func (v *Volume) BootFiles() BootFiles {
	list := make(BootFiles, 0, len(v.Files)) // not nil: the volume is there
	for _, f := range v.Files {
		list = append(list, BootFile{Path: f.Path, Short: f.Short, Dir: f.Dir, Size: f.Size, Err: f.Err, r: &volumeFile{v, f}, id: f.SHA256})
	}
	return list
}

// volumeFile reads a part of a file.
type volumeFile struct {
	v *Volume
	f File
}

// ReadAt implements [io.ReaderAt].
func (o *volumeFile) ReadAt(p []byte, off int64) (int, error) {
	v := o.v
	size := int64(v.ClusterSize)
	end := min(off+int64(len(p)), o.f.Size)
	if off < 0 || off >= end {
		return 0, io.EOF
	}
	v.left = 8 * max(v.size, 1<<20)
	need := int((end + size - 1) / size)
	clusters, how := v.chain(v.fat, o.f.Start, need)
	if len(clusters) < need {
		return 0, &chainError{o.f.Start, len(clusters), need, how}
	}
	n := 0
	for off < end {
		part, err := v.readAt(v.offset(clusters[off/size])+off%size, min(size-off%size, end-off))
		if err != nil {
			return n, err
		}
		n += copy(p[n:], part)
		off += int64(len(part))
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// bytes reads n bytes of the file, or says that they are not there.
func (f BootFile) bytes(off, n int64) ([]byte, error) {
	if f.Err != "" {
		return nil, errors.New(f.Err)
	}
	if off < 0 || n < 0 || off > f.Size || n > f.Size-off {
		return nil, fmt.Errorf("%d bytes at %d are beyond the end of the file, which has %d", n, off, f.Size)
	}
	b := make([]byte, n)
	if got, err := f.r.ReadAt(b, off); int64(got) < n {
		return nil, fmt.Errorf("%d bytes at %d: got %d: %w", n, off, got, err)
	}
	return b, nil
}

// ReadFile returns the content of a file.
func (fs BootFiles) ReadFile(path string) ([]byte, error) {
	f, ok := fs.find(path)
	if !ok || f.Dir {
		return nil, fmt.Errorf("oracle: there is no file %s", path)
	}
	b, err := f.bytes(0, f.Size)
	if err != nil {
		return nil, fmt.Errorf("oracle: %s: %w", path, err)
	}
	return b, nil
}

// find opens a path as firmware does: each part is the first name that is equal but for the case of
// letters.
func (fs BootFiles) find(path string) (BootFile, bool) {
	at, found := "", BootFile{Dir: true}
	for part := range strings.SplitSeq(path, "/") {
		switch {
		case part == "." || part == "" && found.Dir: // but "file/" is not "file"
			continue
		case part == ".." && at == "":
			return BootFile{}, false
		case part == "..":
			if at, _ = split(at); at == "" {
				found = BootFile{Dir: true}
			} else {
				found, _ = fs.find(at)
			}
			continue
		}
		ok := false
		for _, f := range fs {
			if dir, name := split(f.Path); dir == at && (equalFold(name, part) || f.Short != "" && equalFold(f.Short, part)) {
				at, found, ok = f.Path, f, true
				break
			}
		}
		if !ok {
			return BootFile{}, false
		}
	}
	return found, true
}

// list returns what is in a directory.
func (fs BootFiles) list(dir string) (in []BootFile) {
	d, ok := fs.find(dir)
	if !ok || !d.Dir || d.Err != "" {
		return nil
	}
	for _, f := range fs {
		if parent, _ := split(f.Path); parent == d.Path {
			in = append(in, f)
		}
	}
	return in
}

// renamed returns the files after one got another name in its directory, of which it is the last
// then: the driver of edk2 takes the old directory entry away and makes a new one.
func (fs BootFiles) renamed(from, to string) BootFiles {
	list := make(BootFiles, 0, len(fs))
	var moved []BootFile
	for _, f := range fs {
		if f.Path == from {
			f.Path, f.Short = to, ""
			moved = append(moved, f)
			continue
		}
		list = append(list, f)
	}
	return append(list, moved...)
}
