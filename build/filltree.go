package build

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/filetree"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/ext4"
	"github.com/osmith-dev/osmith/partition/squashfs"
)

// erofs makes an EROFS file system for a partition.
func (b *diskBuilder) erofs(i int, s *partition.Spec, fill *partition.FileSystemFill) error {
	o := EROFSOptions{TreeOptions: b.o.Tree, TempDir: b.o.TempDir, UUID: partition.FileSystemID(b.partitionID(i))}
	if name := b.layout.Names()[i]; len(name) <= maxErofsLabel {
		o.Label = name
	}
	return b.compact(i, s, fill, func(to Scratch, tree *copiedTree) (int64, error) {
		w := &extent{w: to}
		err := WriteEROFS(b.ctx, io.NewOffsetWriter(w, 0), tree, o)
		return roundUp(w.n, blockSize), err
	})
}

// compact makes a file system that is as large as its files need.
func (b *diskBuilder) compact(i int, s *partition.Spec, fill *partition.FileSystemFill, write func(to Scratch, tree *copiedTree) (size int64, err error)) error {
	tree, err := b.tree(i, fill)
	if err != nil {
		return err
	}
	to, err := b.scratch()
	if err != nil {
		return err
	}
	size, err := write(to, tree)
	if err != nil {
		return err
	}
	s.Content = source(to, size)
	return nil
}

// squashfs makes a squashfs file system for a partition. It has no UUID and no label.
func (b *diskBuilder) squashfs(i int, s *partition.Spec, f *partition.Fill) error {
	fill := f.FileSystem
	// What mksquashfs, and so systemd-repart, does without Compression=.
	o := squashfs.Options{TreeOptions: b.o.Tree, Compression: squashfs.Gzip}
	var err error
	if fill.Compression != "" {
		if o.Compression, err = squashfs.ParseCompression(fill.Compression); err != nil {
			return &UnmadeError{key(s), f.String(), "squashfs is made with zstd or gzip, or without compression"}
		}
	}
	if fill.CompressionLevel != "" {
		if o.Level, err = strconv.Atoi(fill.CompressionLevel); err != nil {
			return fmt.Errorf("CompressionLevel %q: want a number", fill.CompressionLevel)
		}
	}
	return b.compact(i, s, fill, func(to Scratch, tree *copiedTree) (int64, error) {
		return squashfs.Write(b.ctx, to, tree, o)
	})
}

// ext4 makes an ext4 file system for a partition. It fills the partition, but for the data of a
// dm-verity volume, whose root hash is needed before any partition has a size: that has the least
// size, and no journal.
func (b *diskBuilder) ext4(i int, s *partition.Spec, fill *partition.FileSystemFill) error {
	o := ext4.Options{TreeOptions: b.o.Tree, UUID: partition.FileSystemID(b.partitionID(i)), Label: b.layout.Names()[i]}
	o.Label = o.Label[:min(len(o.Label), ext4.MaxLabel)] // as mkfs.ext4 does
	if s.Fill.Verity != nil {
		o.NoJournal = true
		return b.compact(i, s, fill, func(to Scratch, tree *copiedTree) (int64, error) {
			return ext4.Write(b.ctx, to, tree, o)
		})
	}
	tree, err := b.tree(i, fill)
	if err != nil {
		return err
	}
	least, err := ext4.MinSize(b.ctx, tree, o)
	if err != nil {
		return err
	}
	encrypted := s.Fill.Encrypt != nil
	s.Content = &late{least, func(im *partition.Image, n int) (osmith.Source, error) {
		_, o.Size = im.Table.Extent(n)
		if encrypted {
			o.Size -= partition.LUKSOverhead
		}
		to, err := b.scratch()
		if err != nil {
			return nil, err
		}
		size, err := ext4.Write(b.ctx, to, tree, o)
		return source(to, size), err
	}}
	return nil
}

// tree is what a file system of the layout has in it.
func (b *diskBuilder) tree(i int, fill *partition.FileSystemFill) (*copiedTree, error) {
	if len(fill.Subvolumes) > 0 {
		return nil, errors.New("subvolumes require btrfs")
	}
	list, err := b.copies(fill.Files, fill.Exclude, fill.ExcludeTarget)
	if err != nil {
		return nil, err
	}
	t := &copiedTree{host: b.o.Host, root: b.validation(i, fill), of: map[string]copiedNode{".": {mode: fs.ModeDir | 0o755}}}
	for _, c := range list {
		n := copiedNode{source: c.source, info: c.info, mode: fs.ModeDir | 0o755}
		if c.info != nil {
			n.mode = c.info.Mode()
		}
		if have, ok := t.of[c.target]; ok && have.mode.IsDir() != n.mode.IsDir() {
			return nil, fmt.Errorf("%s is a directory and something else", c.target)
		}
		t.put(c.target, n)
	}
	for _, l := range fill.Links {
		t.put(hostName(l.Path), copiedNode{mode: fs.ModeSymlink | 0o777, link: l.Target})
	}
	return t, nil
}

// copiedTree is a tree of files that come from several places of the host.
type copiedTree struct {
	host fs.FS
	root map[string][]byte // extended attributes of the root, besides those of the host
	of   map[string]copiedNode
}

type copiedNode struct {
	source string // in the host; "": it is made here
	info   fs.FileInfo
	mode   fs.FileMode
	link   string
}

// put adds a file, and the directories above it.
func (t *copiedTree) put(name string, n copiedNode) {
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		if _, ok := t.of[dir]; !ok {
			t.of[dir] = copiedNode{mode: fs.ModeDir | 0o755}
		}
		if dir == "." {
			break
		}
	}
	t.of[name] = n
}

func (t *copiedTree) find(op, name string) (copiedNode, error) {
	n, ok := t.of[name]
	if !ok {
		return n, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return n, nil
}

// Open opens a file. Directories are only listed by ReadDir.
func (t *copiedTree) Open(name string) (fs.File, error) {
	n, err := t.find("open", name)
	if err != nil {
		return nil, err
	}
	if n.source == "" || !n.mode.IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	return t.host.Open(n.source)
}

func (t *copiedTree) Stat(name string) (fs.FileInfo, error) {
	n, err := t.find("stat", name)
	return copiedInfo{path.Base(name), n}, err
}

func (t *copiedTree) Lstat(name string) (fs.FileInfo, error) { return t.Stat(name) }

func (t *copiedTree) ReadLink(name string) (string, error) {
	n, err := t.find("readlink", name)
	if err != nil || n.source == "" {
		return n.link, err
	}
	return fs.ReadLink(t.host, n.source)
}

func (t *copiedTree) ReadDir(dir string) (list []fs.DirEntry, err error) {
	for name, n := range t.of {
		if name != "." && path.Dir(name) == dir {
			list = append(list, fs.FileInfoToDirEntry(copiedInfo{path.Base(name), n}))
		}
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return list, nil
}

// Xattrs are those of the file on the host, and those of the root.
func (t *copiedTree) Xattrs(name string, keep bool) (all map[string][]byte, err error) {
	n, err := t.find("getxattr", name)
	if err == nil && n.source != "" {
		all, err = filetree.Xattrs(t.host, n.source, keep)
	}
	if name == "." && t.root != nil {
		merged := map[string][]byte{}
		maps.Copy(merged, all)
		maps.Copy(merged, t.root) // the copied root of another file system may have some of its own
		all = merged
	}
	return all, err
}

type copiedInfo struct {
	name string
	copiedNode
}

func (i copiedInfo) Name() string      { return i.name }
func (i copiedInfo) Mode() fs.FileMode { return i.mode }
func (i copiedInfo) IsDir() bool       { return i.mode.IsDir() }

func (i copiedInfo) Size() int64 {
	if i.info == nil {
		return 0
	}
	return i.info.Size()
}

func (i copiedInfo) ModTime() time.Time {
	if i.info == nil {
		return time.Time{}
	}
	return i.info.ModTime()
}

func (i copiedInfo) Sys() any {
	if i.info == nil {
		return nil
	}
	return i.info.Sys()
}
