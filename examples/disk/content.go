package main

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/luks"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// unmade is a content that only has a size: another program makes it.
type unmade int64

func (u unmade) Size() int64 { return int64(u) }

func (u unmade) ReadAt([]byte, int64) (int, error) {
	return 0, errors.New("the content has not been made")
}

// openContent opens the files that the layout fills partitions with, so that their sizes count.
// What else it asks for stays as it is, and the plan refuses it unless the partition is there or
// the layout is all that is wanted.
func openContent(call *cli.Call, flags *layoutFlags, l *partition.Layout, dir string) error {
	for i := range l.Partitions {
		s := &l.Partitions[i]
		f := s.Fill
		if f == nil || f.File == "" || f.Encrypt != nil && !flags.layoutOnly {
			continue
		}
		name := cmp.Or(s.Name, s.Definition)
		content, err := call.Open(within(dir, f.File))
		switch {
		case err != nil && flags.layoutOnly && missingFile(err):
			fmt.Fprintf(call.Stderr, "warning: content of %q: %v: its size does not count\n", name, err)
		case err != nil:
			return fmt.Errorf("content of %q: %w", name, hint(l, err))
		case f.Encrypt != nil:
			s.Content = unmade(content.Size() + partition.LUKSOverhead)
		default:
			s.Content = content
		}
	}
	return nil
}

// hint says what may help when a file is missing.
func hint(l *partition.Layout, err error) error {
	if l.Repart && missingFile(err) {
		return fmt.Errorf("%w; -copy-source says where the files are, -layout-only leaves them out", err)
	}
	return err
}

// fill plans a new disk with all that the layout fills it with.
func (f *layoutFlags) fill(c *cli.Call, l *partition.Layout, dir string) (*partition.Image, error) {
	when, err := cli.SourceDate(time.Time{}) // for which FAT has 1980
	if err != nil {
		return nil, err
	}
	own, root, err := f.absolute(l, dir)
	if err != nil {
		return nil, err
	}
	o := build.DiskOptions{Seed: l.Seed, Layout: own, Host: os.DirFS(root), Time: when, Tree: osmith.TreeOptions{Time: when}, Volumes: map[string]build.Volume{}}
	if f.privateKey != "" || f.certificate != "" {
		if o.Verity, err = f.signer(); err != nil {
			return nil, err
		}
	}
	if o.TempDir, err = os.MkdirTemp("", "osmith-disk-*"); err != nil {
		return nil, err
	}
	var open []*os.File
	c.AtEnd(func() {
		var errs []error
		for _, file := range open {
			errs = append(errs, file.Close())
		}
		if err := errors.Join(append(errs, os.RemoveAll(o.TempDir))...); err != nil {
			fmt.Fprintf(c.Stderr, "warning: %v\n", err)
		}
	})
	o.Scratch = func() (build.Scratch, error) {
		file, err := os.CreateTemp(o.TempDir, "scratch-*")
		if err == nil {
			open = append(open, file)
		}
		return file, err
	}
	for _, s := range own.Partitions {
		if s.Fill != nil && s.Fill.Encrypt != nil {
			o.Volumes[cmp.Or(s.Definition, s.Name)] = build.Volume{Format: luks.FormatOptions{Rand: rand.Reader}}
		}
	}
	d, err := build.Disk(c, nil, o)
	if err != nil {
		return nil, f.advise(hint(l, err))
	}
	return d.Image, nil
}

// signer is who signs root hashes.
func (f *layoutFlags) signer() (pair secureboot.KeyPair, err error) {
	if f.privateKey == "" || f.certificate == "" {
		return pair, cli.Usagef("-private-key and -certificate go together")
	}
	if pair.Key, err = cli.ReadKey(f.privateKey); err != nil {
		return pair, err
	}
	certs, err := cli.ReadCertificates(f.certificate)
	if err != nil {
		return pair, err
	}
	pair.Cert = certs[0]
	return pair, nil
}

// absolute is the layout with the paths of files as they are from the root of this machine's disk
// on, or of the one that the files are on.
func (f *layoutFlags) absolute(l *partition.Layout, dir string) (own *partition.Layout, root string, err error) {
	here, err := filepath.Abs(dir)
	if err != nil {
		return nil, "", err
	}
	root = filepath.VolumeName(here) + string(filepath.Separator)
	from := func(name string, place func(string, string) string) string {
		abs, e := filepath.Abs(place(dir, name))
		if e != nil {
			err = e
			return name
		}
		rel, e := filepath.Rel(root, abs)
		if e != nil {
			err = fmt.Errorf("%s: all files of a layout are to be on one drive: %w", name, e)
			return name
		}
		out := "/" + filepath.ToSlash(rel)
		if strings.HasSuffix(name, "/") { // of an exclusion: what is in the directory
			out += "/"
		}
		return out
	}
	copies := func(list []partition.Copy) (out []partition.Copy) {
		for _, c := range list {
			if c.Source != "" {
				c.Source = from(c.Source, f.source)
			}
			out = append(out, c)
		}
		return out
	}
	names := func(list []string) (out []string) {
		for _, name := range list {
			out = append(out, from(name, f.source))
		}
		return out
	}
	changed := *l
	changed.Partitions = append([]partition.Spec(nil), l.Partitions...)
	for i := range changed.Partitions {
		s := &changed.Partitions[i]
		if s.Fill == nil {
			continue
		}
		fill := *s.Fill
		s.Fill = &fill
		if fill.File != "" {
			fill.File = from(fill.File, within)
		}
		if fill.FAT != nil {
			t := *fill.FAT
			t.Files, t.Exclude = copies(t.Files), names(t.Exclude)
			fill.FAT = &t
		}
		if fill.FileSystem != nil {
			t := *fill.FileSystem
			t.Files, t.Exclude = copies(t.Files), names(t.Exclude)
			fill.FileSystem = &t
		}
		if fill.Encrypt != nil {
			t := *fill.Encrypt
			if f.keyFile != "" {
				t.KeyFile = from(f.keyFile, func(_, name string) string { return name })
			} else if t.KeyFile != "" {
				t.KeyFile = from(t.KeyFile, within)
			}
			fill.Encrypt = &t
		}
	}
	return &changed, root, err
}
