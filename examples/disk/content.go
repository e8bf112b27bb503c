package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
)

// contents are what the partitions of a layout are filled with.
type contents struct {
	call  *cli.Call
	flags *layoutFlags
	dir   string // that paths in the layout are relative to
	time  time.Time
}

// unmade is a content that only has a size, the least that it may have: a file system that is made once the size of its
// partition is known, or what somebody else makes.
type unmade int64

func (u unmade) Size() int64 { return int64(u) }

func (u unmade) ReadAt([]byte, int64) (int, error) {
	return 0, errors.New("the content has not been made")
}

// openContent opens what the layout fills partitions with: files and FAT file systems. What else it asks for stays as it is, and
// the plan refuses it unless the partition is there or the layout is all that is wanted.
func openContent(call *cli.Call, flags *layoutFlags, l *partition.Layout, dir string) (c *contents, err error) {
	c = &contents{call: call, flags: flags, dir: dir}
	if c.time, err = cli.SourceDate(time.Time{}); err != nil { // for which FAT has 1980
		return nil, err
	}
	for i := range l.Partitions {
		s := &l.Partitions[i]
		f := s.Fill
		name := cmp.Or(s.Name, s.Definition)
		switch {
		case f == nil:
		case f.File != "" && (f.Encrypt == nil || flags.layoutOnly):
			content, err := call.Open(within(dir, f.File))
			switch {
			case err != nil && flags.layoutOnly && missingFile(err):
				fmt.Fprintf(call.Stderr, "warning: content of %q: %v: its size does not count\n", name, err)
			case err != nil:
				return nil, fmt.Errorf("content of %q: %w", name, hint(l, err))
			case f.Encrypt != nil:
				s.Content = unmade(content.Size() + partition.LUKSOverhead)
			default:
				s.Content = content
			}
		case f.FAT != nil && f.Encrypt == nil && f.Verity == nil && !flags.layoutOnly:
			files, err := c.files(f.FAT)
			if err != nil {
				return nil, fmt.Errorf("content of %q: %w", name, hint(l, err))
			}
			o := fat.BuildOptions{SectorSize: sectorSize(l, f), Label: f.FAT.Label}
			if l.Repart || s.Size > 0 || s.MinSize > 0 || s.MaxSize > 0 || s.Weight > 0 {
				o.Kind = fat.AnyKind // its size is decided elsewhere
			}
			least, err := fat.MinSize(files, o)
			if err != nil {
				return nil, fmt.Errorf("content of %q: %w", name, hint(l, err))
			}
			s.Content = unmade(least)
		}
	}
	return c, nil
}

// hint says what may help when a file is missing.
func hint(l *partition.Layout, err error) error {
	if l.Repart && missingFile(err) {
		return fmt.Errorf("%w; -copy-source says where the files are, with -layout-only they are left to somebody else", err)
	}
	return err
}

// sectorSize is that of a file system.
func sectorSize(l *partition.Layout, f *partition.Fill) int {
	n := l.FileSystemSectorSize
	if f.SectorSize != 0 {
		n = f.SectorSize
	}
	return max(n, l.SectorSize, 512)
}

// makeFAT makes the file systems as large as their partitions.
func (c *contents) makeFAT(l *partition.Layout, im *partition.Image) error {
	for i, p := range im.Table.Partitions {
		f := im.Fill(i)
		if _, ok := im.Content(i).(*cli.Input); ok || im.Content(i) == nil || f == nil || f.FAT == nil {
			continue
		}
		files, err := c.files(f.FAT)
		if err != nil {
			return fmt.Errorf("content of %q: %w", p.Name, err)
		}
		off, size := im.Table.Extent(i)
		id := partition.FileSystemID(p.ID)
		ss := sectorSize(l, f)
		made, err := fat.Plan(files, fat.BuildOptions{Size: size, SectorSize: ss, Label: f.FAT.Label, Time: c.time,
			VolumeID:      uint32(id[0])<<24 | uint32(id[1])<<16 | uint32(id[2])<<8 | uint32(id[3]),
			HiddenSectors: uint32(off / int64(ss))})
		if err != nil {
			return fmt.Errorf("content of %q: %w", p.Name, err)
		}
		if err := im.SetContent(i, made); err != nil {
			return err
		}
	}
	return nil
}

// files are the files of a FAT file system, directories in the order of names. What comes twice counts once, the last.
func (c *contents) files(f *partition.FATFill) ([]osmith.ESPFile, error) {
	var out []osmith.ESPFile
	for _, one := range f.Files {
		if err := c.copy(&out, f, one); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// copy adds a file, or all of a directory in the order of names.
func (c *contents) copy(files *[]osmith.ESPFile, of *partition.FATFill, f partition.Copy) error {
	target := strings.Trim(path.Clean("/"+f.Target), "/")
	switch {
	case f.Source == "":
		*files = append(*files, osmith.ESPFile{Path: target + "/"})
		return nil
	case f.FSVerity:
		return fmt.Errorf("%s: a FAT has no fs-verity", f.Source)
	}
	root := c.flags.source(c.dir, f.Source)
	return filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		to := path.Join(target, filepath.ToSlash(rel))
		switch c.excluded(of, name, to) {
		case excludedAll:
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case excludedContent:
			*files = append(*files, osmith.ESPFile{Path: to + "/"})
			return fs.SkipDir
		}
		info, err := os.Stat(name) // follows links, as a FAT has none
		switch {
		case err != nil:
			return err
		case d.IsDir():
			if to != "" && to != "." {
				*files = append(*files, osmith.ESPFile{Path: to + "/"})
			}
			return nil
		case !info.Mode().IsRegular():
			return fmt.Errorf("%s is no regular file", name)
		}
		content, err := c.call.Open(name)
		if err != nil {
			return err
		}
		*files = append(*files, osmith.ESPFile{Path: to, Content: content})
		return nil
	})
}

// exclusion is what ExcludeFiles= and ExcludeFilesTarget= say about a path.
type exclusion int

const (
	excludedNot exclusion = iota
	excludedContent
	excludedAll
)

func (c *contents) excluded(of *partition.FATFill, source, target string) exclusion {
	out := excludedNot
	for _, p := range of.Exclude {
		if filepath.Clean(source) == filepath.Clean(c.flags.source(c.dir, p)) {
			out = max(out, excludedBy(p))
		}
	}
	for _, p := range of.ExcludeTarget {
		if path.Clean("/"+target) == path.Clean(p) {
			out = max(out, excludedBy(p))
		}
	}
	return out
}

func excludedBy(p string) exclusion {
	if strings.HasSuffix(p, "/") {
		return excludedContent
	}
	return excludedAll
}
