package sysupdate

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
)

// Places are where the targets of a machine are. What is not given is not known, and so is what is
// there.
type Places struct {
	// Disk is the one that Path=auto means.
	Disk osmith.Source
	// DiskPaths are further values of Path= that mean Disk. A partition target with another path is
	// one of another disk.
	DiskPaths []string

	// Root is the root file system.
	Root fs.FS
	// ESP and XBOOTLDR are the boot partitions, mounted or not; nil: those of Disk.
	ESP, XBOOTLDR fs.FS
	// ESPMount and XBOOTLDRMount are where they are mounted: "/efi", "/boot". A path of Root below
	// is one of theirs. "": that is not known, or they are not mounted.
	ESPMount, XBOOTLDRMount string
}

// ErrNotKnown: what is at a place is not known, since [Places] do not say it.
var ErrNotKnown = errors.New("not known")

// places are [Places] with what the disk has.
type places struct {
	Places
	table         *partition.Table
	noDisk        error // why there is no table
	noESP, noBoot error // why there is no ESP and no extended boot loader partition
}

// open reads the table of the disk, and its boot partitions where they are not given.
func (p Places) open() (*places, error) {
	for _, mount := range []string{p.ESPMount, p.XBOOTLDRMount} {
		if mount != "" && (!isAbsolute(mount) || mount == "/") {
			return nil, fmt.Errorf("mount point %q: want an absolute path without . and .., such as /efi", mount)
		}
	}
	o := &places{Places: p}
	if p.Disk == nil {
		o.noDisk = fmt.Errorf("the disk: %w", ErrNotKnown)
	} else if o.table, o.noDisk = partition.Read(p.Disk, partition.ReadOptions{}); o.noDisk != nil {
		return nil, o.noDisk
	}
	if o.ESP == nil {
		o.ESP, o.noESP = o.volume(partition.ESP)
	}
	if o.XBOOTLDR == nil {
		o.XBOOTLDR, o.noBoot = o.volume(partition.XBOOTLDR)
	}
	return o, nil
}

// volume opens the first partition of a type.
func (p *places) volume(t osmith.GUID) (fs.FS, error) {
	if p.table == nil {
		return nil, p.noDisk
	}
	i := slices.IndexFunc(p.table.Partitions, func(p partition.Partition) bool { return p.Type == t })
	if i < 0 {
		return nil, fmt.Errorf("no partition of type %s: %w", partition.TypeName(t), fs.ErrNotExist)
	}
	f, err := fat.OpenReader(p.table.Section(p.Disk, i))
	if err != nil {
		return nil, err
	}
	return f, nil
}

// place is a directory, or what is wrong with it.
type place struct {
	fsys fs.FS
	dir  string // in it
	// mounted is the path from the root directory, as systemd-sysupdate keeps it; "" if it is not
	// known.
	mounted string
}

// find is where a target is.
func (p *places) find(t *TransferTarget) (place, error) {
	switch t.Base {
	case BaseESP:
		return p.on(p.ESP, p.noESP, p.ESPMount, t.Path)
	case BaseXBOOTLDR:
		return p.on(p.XBOOTLDR, p.noBoot, p.XBOOTLDRMount, t.Path)
	case BaseBoot:
		if p.XBOOTLDR == nil && errors.Is(p.noBoot, fs.ErrNotExist) {
			return p.on(p.ESP, p.noESP, p.ESPMount, t.Path)
		}
		return p.on(p.XBOOTLDR, p.noBoot, p.XBOOTLDRMount, t.Path)
	}
	return p.absolute(t.Path)
}

func (p *places) on(fsys fs.FS, err error, mount, name string) (place, error) {
	if fsys == nil {
		return place{}, err
	}
	at := place{fsys: fsys, dir: relative(name)}
	if mount != "" {
		at.mounted = path.Join(mount, name)
	}
	return at, nil
}

// absolute is a path from the root directory.
func (p *places) absolute(name string) (place, error) {
	for _, v := range []struct {
		mount string
		fsys  fs.FS
		err   error
	}{{p.ESPMount, p.ESP, p.noESP}, {p.XBOOTLDRMount, p.XBOOTLDR, p.noBoot}} {
		if rest, ok := strings.CutPrefix(name, v.mount); ok && v.mount != "" && (rest == "" || rest[0] == '/') {
			return p.on(v.fsys, v.err, v.mount, path.Join("/", rest))
		}
	}
	if p.Root == nil {
		return place{}, fmt.Errorf("the root file system: %w", ErrNotKnown)
	}
	return place{fsys: p.Root, dir: relative(name), mounted: name}, nil
}

// relative is an absolute path as package fs has it.
func relative(name string) string {
	if name = strings.TrimPrefix(name, "/"); name == "" {
		return "."
	}
	return name
}

// isDisk says whether the path of a partition target means the disk.
func (p *places) isDisk(name string) bool {
	return name == "auto" || slices.Contains(p.DiskPaths, name)
}
