package main

import (
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

// readLayout reads a layout file or a directory of definition files. Paths in it are relative to dir.
func readLayout(name string) (l partition.Layout, dir string, err error) {
	f, err := os.Open(name)
	if err != nil {
		return l, "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return l, "", err
	}
	if info.IsDir() {
		l, err = partition.ReadRepart(os.DirFS(name), partition.RepartOptions{})
		return l, name, err
	}
	if l, err = partition.ReadLayout(f); err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return l, filepath.Dir(name), err
}

// contents are what the partitions of a layout are filled with.
type contents struct {
	call *cli.Call
	time time.Time
}

// volume is a FAT file system, made once the size of its partition is known. Until then it is a Source that only has a
// size: the least that holds the files.
type volume struct {
	label string
	files []osmith.ESPFile
	least int64
}

func (v *volume) Size() int64 { return v.least }

func (v *volume) ReadAt([]byte, int64) (int, error) {
	return 0, errors.New("the file system has not been made")
}

// openContent opens what the layout fills partitions with.
func openContent(call *cli.Call, l *partition.Layout, dir string) (c *contents, err error) {
	c = &contents{call: call}
	if c.time, err = cli.SourceDate(time.Time{}); err != nil { // for which FAT has 1980
		return nil, err
	}
	for i := range l.Partitions {
		s := &l.Partitions[i]
		switch {
		case s.Fill == nil:
		case s.Fill.FAT == nil:
			content, err := c.call.Open(within(dir, s.Fill.File))
			if err != nil {
				return nil, fmt.Errorf("content of %q: %w", s.Name, err)
			}
			s.Content = content
		default:
			v := &volume{label: s.Fill.FAT.Label}
			for _, f := range s.Fill.FAT.Files {
				if err := c.copy(v, dir, f); err != nil {
					return nil, fmt.Errorf("content of %q: %w", s.Name, err)
				}
			}
			o := fat.BuildOptions{SectorSize: l.SectorSize, Label: v.label}
			if s.Size > 0 || s.MinSize > 0 || s.MaxSize > 0 || s.Weight > 0 {
				o.Kind = fat.AnyKind // its size is decided elsewhere
			}
			if v.least, err = fat.MinSize(v.files, o); err != nil {
				return nil, fmt.Errorf("content of %q: %w", s.Name, err)
			}
			s.Content = v
		}
	}
	return c, nil
}

// makeFAT makes the file systems as large as their partitions.
func (c *contents) makeFAT(im *partition.Image) error {
	for i, p := range im.Table.Partitions {
		v, ok := im.Content(i).(*volume)
		if !ok {
			continue
		}
		off, size := im.Table.Extent(i)
		id := partition.FileSystemID(p.ID)
		made, err := fat.Plan(v.files, fat.BuildOptions{Size: size, SectorSize: im.Table.SectorSize, Label: v.label, Time: c.time,
			VolumeID:      uint32(id[0])<<24 | uint32(id[1])<<16 | uint32(id[2])<<8 | uint32(id[3]),
			HiddenSectors: uint32(off / int64(im.Table.SectorSize))})
		if err != nil {
			return fmt.Errorf("content of %q: %w", p.Name, err)
		}
		if err := im.SetContent(i, made); err != nil {
			return err
		}
	}
	return nil
}

// copy adds a file, or all of a directory in the order of names.
func (c *contents) copy(v *volume, dir string, f partition.Copy) error {
	target := strings.Trim(path.Clean("/"+f.Target), "/")
	if f.Source == "" {
		v.files = append(v.files, osmith.ESPFile{Path: target + "/"})
		return nil
	}
	root := within(dir, f.Source)
	return filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		to := path.Join(target, filepath.ToSlash(rel))
		info, err := os.Stat(name) // follows links, as a FAT has none
		switch {
		case err != nil:
			return err
		case d.IsDir():
			if to != "" && to != "." {
				v.files = append(v.files, osmith.ESPFile{Path: to + "/"})
			}
			return nil
		case !info.Mode().IsRegular():
			return fmt.Errorf("%s is no regular file", name)
		}
		content, err := c.call.Open(name)
		if err != nil {
			return err
		}
		v.files = append(v.files, osmith.ESPFile{Path: to, Content: content})
		return nil
	})
}

func within(dir, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, filepath.FromSlash(name))
}
