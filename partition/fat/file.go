package fat

import (
	"fmt"
	"io"
	"io/fs"
	"sort"

	"github.com/osmith-dev/osmith/internal/sparse"
)

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
