package build

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/partition"
)

// errNoHost is why a path in a layout leads nowhere.
var errNoHost = errors.New("no files are given (DiskOptions.Host)")

// hostName is a path in the layout as package fs has it.
func hostName(name string) string {
	name = strings.Trim(path.Clean("/"+name), "/")
	if name == "" {
		return "."
	}
	return name
}

// hostFile is a file that a layout names.
func (b *diskBuilder) hostFile(name string) (osmith.Source, error) {
	if b.o.Host == nil {
		return nil, fmt.Errorf("%s: %w", name, errNoHost)
	}
	info, err := fs.Stat(b.o.Host, hostName(name))
	if err != nil {
		return nil, err
	}
	return b.openHost(hostName(name), info)
}

// openHost is a file of the host as a source. It is opened anew for each read, so that an image of
// many files does not need as many open ones.
func (b *diskBuilder) openHost(name string, info fs.FileInfo) (osmith.Source, error) {
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	f, err := b.o.Host.Open(name)
	if err != nil {
		return nil, err
	}
	if _, ok := f.(io.ReaderAt); ok {
		return &hostFile{b.o.Host, name, info.Size()}, f.Close()
	}
	// It can only be read from the start.
	s, err := b.scratch()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	n, err := io.Copy(io.NewOffsetWriter(s, 0), f)
	return source(s, n), errors.Join(err, f.Close())
}

type hostFile struct {
	fsys fs.FS
	name string
	size int64
}

func (h *hostFile) Size() int64 { return h.size }

func (h *hostFile) ReadAt(p []byte, off int64) (n int, err error) {
	f, err := h.fsys.Open(h.name)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	at, ok := f.(io.ReaderAt)
	if !ok || info.Size() != h.size {
		return 0, fmt.Errorf("%s changed since the disk was planned: %d bytes, want %d", h.name, info.Size(), h.size)
	}
	return at.ReadAt(p, off)
}

// exclusion is what ExcludeFiles= and ExcludeFilesTarget= say about a path.
type exclusion int

const (
	excludedNot     exclusion = iota
	excludedContent           // a directory stays, empty
	excludedAll
)

func exclude(source, target string, sources, targets []string) exclusion {
	out := excludedNot
	for i, list := range [][]string{sources, targets} {
		for _, p := range list {
			if hostName(p) != []string{source, target}[i] {
				continue
			}
			if strings.HasSuffix(p, "/") {
				out = max(out, excludedContent)
			} else {
				out = excludedAll
			}
		}
	}
	return out
}

// copied is one file of a file system that is made.
type copied struct {
	target string // hostName
	source string // in the host; "": a directory that is made
	info   fs.FileInfo
}

// copies lists what a file system gets, a directory before what is in it, in the order of the
// layout and of names.
func (b *diskBuilder) copies(files []partition.Copy, excludeSource, excludeTarget []string) (all []copied, err error) {
	for _, c := range files {
		target := hostName(c.Target)
		if c.Source == "" {
			all = append(all, copied{target: target})
			continue
		}
		if b.o.Host == nil {
			return nil, fmt.Errorf("%s: %w", c.Source, errNoHost)
		}
		if c.FSVerity {
			return nil, fmt.Errorf("%s: fs-verity is not carried over", c.Source)
		}
		root := hostName(c.Source)
		err := fs.WalkDir(b.o.Host, root, func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			to := hostName(path.Join(target, strings.TrimPrefix(strings.TrimPrefix(name, root), "/")))
			if root == "." {
				to = hostName(path.Join(target, name))
			}
			x := exclude(name, to, excludeSource, excludeTarget)
			if x == excludedAll || x == excludedContent && !d.IsDir() {
				if d.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			all = append(all, copied{to, name, info})
			if x == excludedContent {
				return fs.SkipDir
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// fatFiles are the files of a FAT, which has no links: what they lead to is copied.
func (b *diskBuilder) fatFiles(f *partition.FATFill) (out []osmith.ESPFile, err error) {
	list, err := b.copies(f.Files, f.Exclude, f.ExcludeTarget)
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		if c.info != nil && c.info.Mode()&fs.ModeSymlink != 0 {
			if c.info, err = fs.Stat(b.o.Host, c.source); err != nil {
				return nil, err
			}
		}
		if c.info == nil || c.info.IsDir() {
			if c.target != "." {
				out = append(out, osmith.ESPFile{Path: c.target + "/"})
			}
			continue
		}
		content, err := b.openHost(c.source, c.info)
		if err != nil {
			return nil, err
		}
		// What comes twice counts once, the last.
		out = slices.DeleteFunc(out, func(have osmith.ESPFile) bool { return have.Content != nil && have.Path == c.target })
		out = append(out, osmith.ESPFile{Path: c.target, Content: content})
	}
	return out, nil
}
