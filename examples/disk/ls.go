package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/ext4"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"
	"github.com/diskfs/go-diskfs/filesystem/squashfs"
	"github.com/erofs/go-erofs"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/partition/fat"
)

func ls(c *cli.Call, operands []string) error {
	disk, t, err := openDisk(c, operands[0], os.O_RDONLY)
	if err != nil {
		return err
	}
	i, err := find(t, operands[1])
	if err != nil {
		return err
	}
	kind, fsys, err := openFS(t.Section(disk, i))
	if err != nil {
		return fmt.Errorf("partition %s: %w", operands[1], err)
	}
	return list(c, operands, 2, kind, fsys)
}

// list prints a directory, or one file.
func list(c *cli.Call, operands []string, at int, kind string, fsys fs.FS) error {
	name := "."
	if len(operands) > at {
		name = inside(operands[at])
	}
	entries, err := entriesOf(fsys, name)
	if err != nil {
		return missing(err)
	}
	out := listJSON{head: header(c, operands[0]), FileSystem: kind, Path: name, Entries: []entryJSON{}}
	var text strings.Builder
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return err
		}
		a, _ := info.Sys().(fat.Attributes)
		out.Entries = append(out.Entries, entryJSON{e.Name(), info.IsDir(), info.Size(), a.ByAlias})
		fmt.Fprintf(&text, "%s %12d  %s", info.Mode().Type().String()[:1], info.Size(), e.Name())
		if a.ByAlias {
			text.WriteString("  (8.3 name: the long one cannot be a path)")
		}
		text.WriteByte('\n')
	}
	return c.Answer(out, strings.ToValidUTF8(text.String(), "?"))
}

// inside is a path in a file system as package fs wants it.
func inside(name string) string {
	if name = strings.Trim(path.Clean("/"+name), "/"); name == "" {
		return "."
	}
	return name
}

// entriesOf lists a directory or one file. What a name is, its parent says: not every reader
// refuses to list a file. The readers are not ours, and a file system that makes one panic is
// damaged.
func entriesOf(fsys fs.FS, name string) (entries []fs.DirEntry, err error) {
	defer guard(&err)
	if volume, ok := fsys.(*fat.FS); ok { // it has its own rule for names
		info, err := volume.Stat(name)
		if err != nil || !info.IsDir() {
			return []fs.DirEntry{fs.FileInfoToDirEntry(info)}, err
		}
		return volume.ReadDir(name)
	}
	if name == "." {
		return fs.ReadDir(fsys, name)
	}
	siblings, err := fs.ReadDir(fsys, path.Dir(name))
	if err != nil {
		return nil, err
	}
	for _, e := range siblings {
		switch {
		case e.Name() != path.Base(name):
		case e.IsDir():
			return fs.ReadDir(fsys, name)
		default:
			return []fs.DirEntry{e}, nil
		}
	}
	return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
}

func guard(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("the file system cannot be read: %v", p)
	}
}

// openFS opens the file system in a partition by its magic number.
func openFS(r *io.SectionReader) (kind string, fsys fs.FS, err error) {
	defer guard(&err)
	has := func(off int64, magic string) bool {
		b := make([]byte, len(magic))
		_, err := r.ReadAt(b, off)
		return err == nil && bytes.Equal(b, []byte(magic))
	}
	storage := file.New(&sectionFile{r}, true)
	switch {
	case has(0, "hsqs"):
		kind = "squashfs"
		fsys, err = squashfs.Read(storage, r.Size(), 0, 0)
	case has(1024, "\xe2\xe1\xf5\xe0"):
		kind = "erofs"
		fsys, err = erofs.Open(r)
	case has(1080, "\x53\xef"):
		kind = "ext4"
		fsys, err = ext4.Read(storage, r.Size(), 0, 512)
	case has(32769, "CD001"):
		kind = "iso9660"
		fsys, err = iso9660.Read(storage, r.Size(), 0, 2048)
	case has(510, "\x55\xaa"):
		kind = "fat"
		fsys, err = fat.OpenReader(r)
	default:
		err = cli.No{Err: errors.New("no file system that can be read here (FAT, SquashFS, EROFS, ext4, ISO 9660)")}
	}
	return kind, fsys, err
}

// sectionFile is a partition as go-diskfs wants to have files.
type sectionFile struct{ *io.SectionReader }

func (f *sectionFile) Close() error               { return nil }
func (f *sectionFile) Stat() (fs.FileInfo, error) { return f, nil }
func (f *sectionFile) Name() string               { return "partition" }
func (f *sectionFile) Mode() fs.FileMode          { return 0o444 }
func (f *sectionFile) ModTime() time.Time         { return time.Time{} }
func (f *sectionFile) IsDir() bool                { return false }
func (f *sectionFile) Sys() any                   { return nil }
