package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/uki"
)

// layoutFlags are the flags of the verbs that read a layout.
type layoutFlags struct {
	size                     int64
	sectorSize, fsSectorSize int
	seed                     string
	layoutOnly               bool

	// For definitions of repart.d.
	specifiers          cli.List
	osRelease           string
	architecture, force string
	copySource          string

	keyFile, privateKey, certificate string // for what build makes
}

func (f *layoutFlags) declare(flags *flag.FlagSet) {
	flags.Int64Var(&f.size, "size", 0, "size of the disk in `bytes`; 0: that of the layout, or as small as possible")
	flags.IntVar(&f.sectorSize, "sector-size", 0, "512 or 4096 `bytes`; 0: that of the layout, or 512")
	flags.StringVar(&f.seed, "seed", "", "`UUID` to derive IDs from that the layout does not give")
	flags.BoolVar(&f.layoutOnly, "layout-only", false, "place partitions, and leave it to somebody else to make file systems, hash trees and encryption")
	flags.IntVar(&f.fsSectorSize, "fs-sector-size", 0, "sector size of file systems in `bytes`; 0: that of the disk, 4096: as systemd-repart without --sector-size")
	flags.Var(&f.specifiers, "specifier", "`LETTER=TEXT` for a specifier of definition files, as in M=acmeos for %M; may be given several times")
	flags.StringVar(&f.osRelease, "os-release", "", "`file` to take the specifiers A, B, M, o, w and W from")
	flags.StringVar(&f.architecture, "architecture", "", "`architecture` that is meant by types such as root; x86-64 by default")
	flags.StringVar(&f.force, "force-architecture", "", "`architecture` of all types, as --architecture of systemd-repart")
	flags.StringVar(&f.keyFile, "key-file", "", "`file` with the key of encrypted partitions (Encrypt=key-file)")
	flags.StringVar(&f.privateKey, "private-key", "", "key in `PEM` that signs root hashes (Verity=signature)")
	flags.StringVar(&f.certificate, "certificate", "", "its certificate in `PEM` or DER")
	flags.StringVar(&f.copySource, "copy-source", "", "`directory` that paths of definition files are relative to")
}

// read reads a layout file or a directory of definition files. Paths in it are relative to dir.
func (f *layoutFlags) read(c *cli.Call, name string) (l partition.Layout, dir string, warnings []string, err error) {
	in, err := os.Open(name)
	if err != nil {
		return l, "", nil, err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return l, "", nil, err
	}
	if info.IsDir() {
		if l, warnings, err = f.readRepart(c, name); err != nil {
			return l, "", nil, fmt.Errorf("%s: %w", name, err)
		}
		dir = name
	} else {
		if l, err = partition.ReadLayout(in); err != nil {
			return l, "", nil, fmt.Errorf("%s: %w", name, err)
		}
		dir = filepath.Dir(name)
	}
	if f.size != 0 {
		l.Size = f.size
	}
	if f.sectorSize != 0 {
		l.SectorSize = f.sectorSize
	}
	if f.fsSectorSize != 0 {
		l.FileSystemSectorSize = f.fsSectorSize
	}
	if f.seed != "" {
		if l.Seed, err = osmith.ParseGUID(f.seed); err != nil {
			return l, "", nil, cli.Usagef("-seed: %v", err)
		}
	}
	l.LayoutOnly = f.layoutOnly
	return l, dir, warnings, nil
}

func (f *layoutFlags) readRepart(c *cli.Call, name string) (l partition.Layout, warnings []string, err error) {
	o := partition.RepartOptions{Architecture: f.architecture, ForceArchitecture: f.force, Specifiers: map[byte]string{}}
	if f.osRelease != "" {
		text, err := os.ReadFile(f.osRelease)
		if err != nil {
			return l, nil, err
		}
		release, err := uki.ParseOSRelease(text)
		if err != nil {
			return l, nil, fmt.Errorf("%s: %w", f.osRelease, err)
		}
		for letter, key := range map[byte]string{'A': "IMAGE_VERSION", 'B': "BUILD_ID", 'M': "IMAGE_ID", 'o': "ID", 'w': "VERSION_ID", 'W': "VARIANT_ID"} {
			o.Specifiers[letter] = release[key] // empty where it has none, as for systemd-repart
		}
	}
	for _, s := range f.specifiers {
		letter, text, ok := strings.Cut(s, "=")
		if letter = strings.TrimPrefix(letter, "%"); !ok || len(letter) != 1 {
			return l, nil, cli.Usagef("-specifier %s: want LETTER=TEXT, as in M=acmeos", s)
		}
		o.Specifiers[letter[0]] = text
	}
	r, err := partition.ReadRepart(os.DirFS(name), o)
	if err != nil {
		return l, nil, f.advise(err)
	}
	for _, w := range r.Warnings {
		warnings = append(warnings, w.Error())
		fmt.Fprintf(c.Stderr, "warning: %s\n", w)
	}
	return r.Layout, warnings, nil
}

// advise tells a user of this program what the library tells a programmer.
func (f *layoutFlags) advise(err error) error {
	unmade, isUnmade := errors.AsType[*build.UnmadeError](err)
	switch {
	case isUnmade:
		return fmt.Errorf("partition %q is to have %s: %s; -layout-only leaves out the rest", unmade.Partition, unmade.What, unmade.Reason)
	case errors.Is(err, build.ErrNoVerityKey):
		return fmt.Errorf("%w; as flags: -private-key and -certificate", err)
	case errors.Is(err, build.ErrNoVolumeKey):
		return fmt.Errorf("%w; as flags: -key-file", err)
	case errors.Is(err, partition.ErrUnfilled):
		return fmt.Errorf("%w; -layout-only leaves it out", err)
	case errors.Is(err, partition.ErrSpecifier):
		return fmt.Errorf("%w; give it by -specifier, or -os-release", err)
	}
	return err
}

// within is a path of a layout on this machine.
func within(dir, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, filepath.FromSlash(name))
}

// source is a path of a layout on this machine, in the directory that -copy-source names.
func (f *layoutFlags) source(dir, name string) string {
	if f.copySource != "" {
		return filepath.Join(f.copySource, filepath.FromSlash(name))
	}
	return within(dir, name)
}

// missingFile says that a file is not there, or not for us.
func missingFile(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)
}
