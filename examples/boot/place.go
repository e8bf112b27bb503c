package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/internal/blockdev"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/upgrade"
)

// place are the flags that say which boot file systems it is about.
type place struct{ esp, xbootldr string }

func (p *place) flags(set *flag.FlagSet) {
	set.StringVar(&p.esp, "esp", "", "`directory` of an ESP, or image or device, or a partition in it (IMG:PART)")
	set.StringVar(&p.xbootldr, "xbootldr", "", "the extended boot loader partition in the same `form` (default: the one beside the ESP of an image)")
}

// Volumes are the boot file systems of a machine.
type volumes struct {
	esp, xbootldr volume // xbootldr is nil if there is none

	// Where the ESP is, if it is in a partition table.
	table     *partition.Table
	partition int

	disks map[string]*cli.Input
	boot  map[string]*upgrade.BootVolume // that are mounted, by their disks
	write bool
}

// open opens them, for changes or only for reading, until the call ends.
func (p *place) open(c *cli.Call, write bool) (*volumes, error) {
	if err := cli.Required("esp", p.esp); err != nil {
		return nil, err
	}
	v := &volumes{partition: -1, disks: map[string]*cli.Input{}, boot: map[string]*upgrade.BootVolume{}, write: write}
	esp, table, i, err := v.openOne(c, p.esp, partition.ESP)
	if err != nil {
		return nil, err
	}
	v.esp, v.table, v.partition = esp, table, i
	extended := p.xbootldr
	if extended == "" && table != nil && slices.ContainsFunc(table.Partitions, func(q partition.Partition) bool { return q.Type == partition.XBOOTLDR }) {
		extended, _ = cutPart(p.esp)
	}
	if extended != "" {
		if v.xbootldr, _, _, err = v.openOne(c, extended, partition.XBOOTLDR); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// each are the file systems, the ESP first.
func (v *volumes) each() []volume {
	if v.xbootldr == nil {
		return []volume{v.esp}
	}
	return []volume{v.esp, v.xbootldr}
}

// of is the file system of an entry.
func (v *volumes) of(xbootldr bool) volume {
	if xbootldr {
		return v.xbootldr
	}
	return v.esp
}

// cutPart takes IMG:PART apart, unless something has the whole name.
func cutPart(operand string) (file, part string) {
	at := strings.LastIndexByte(operand, ':')
	if _, err := os.Stat(operand); err == nil || at < 2 { // C:\disk.img
		return operand, ""
	}
	return operand[:at], operand[at+1:]
}

// openOne opens a directory, or a partition of that type or name, and says where it is.
func (v *volumes) openOne(c *cli.Call, operand string, kind osmith.GUID) (volume, *partition.Table, int, error) {
	file, part := cutPart(operand)
	info, err := os.Stat(file)
	if err != nil {
		return nil, nil, -1, err
	}
	if info.IsDir() && part != "" {
		return nil, nil, -1, cli.Usagef("%s: %s is a directory, which has no partitions", operand, file)
	}
	if info.IsDir() {
		mounted, err := isMountedFAT(file)
		if err != nil {
			return nil, nil, -1, err
		}
		if mounted && v.write {
			boot, err := v.openMounted(c, file)
			return boot, nil, -1, err
		}
		root, err := os.OpenRoot(file)
		if err != nil {
			return nil, nil, -1, err
		}
		c.AtEnd(func() { _ = root.Close() }) // what was written was synced
		return &dirVolume{root.FS(), root}, nil, -1, nil
	}
	disk, err := v.openDisk(c, file)
	if err != nil {
		return nil, nil, -1, err
	}
	table, err := partition.Read(disk, partition.ReadOptions{})
	if err != nil {
		bare, notFAT := v.openFAT(c, disk, disk, 0, disk.SectorSize())
		switch {
		case part == "" && notFAT == nil:
			return bare, nil, -1, nil
		case part == "" && errors.Is(err, partition.ErrNoTable):
			err = notFAT
		}
		return nil, nil, -1, fmt.Errorf("%s: %w", file, err)
	}
	i, err := choose(table, part, kind)
	if err != nil {
		return nil, nil, -1, cli.No{Err: fmt.Errorf("%s: %w", file, err)}
	}
	offset, _ := table.Extent(i)
	found, err := v.openFAT(c, disk, table.Window(disk, i), offset, table.SectorSize)
	if err != nil {
		return nil, nil, -1, fmt.Errorf("%s, partition %d: %w", file, table.Partitions[i].Number, err)
	}
	return found, table, i, nil
}

// openMounted opens a boot partition at its mount point.
func (v *volumes) openMounted(c *cli.Call, dir string) (volume, error) {
	m, err := findMounted(c, dir)
	if err != nil {
		return nil, err
	}
	facts, device := upgrade.Machine{Mounted: m.mounted}, m.disk.File().Name()
	var boot *upgrade.BootVolume
	if first := v.boot[device]; first != nil {
		boot, err = first.OpenBeside(m.id, facts)
	} else if boot, err = upgrade.OpenBootVolume(m.disk, m.id, facts); err == nil {
		v.boot[device] = boot
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	c.AtEnd(func() { _ = boot.Close() }) // each change was synced
	return &mountedVolume{boot}, nil
}

// choose is the partition that is named, or else the only one of a type.
func choose(t *partition.Table, part string, kind osmith.GUID) (int, error) {
	what := fmt.Sprintf("called %q, by number, name or PARTUUID", part)
	is := func(p partition.Partition) bool {
		return part == strconv.Itoa(p.Number) || part == p.Name || strings.EqualFold(part, p.ID.String())
	}
	if part == "" {
		what = "an EFI system partition"
		if kind == partition.XBOOTLDR {
			what = "an extended boot loader partition"
		}
		is = func(p partition.Partition) bool { return p.Type == kind }
	}
	found := -1
	for i, p := range t.Partitions {
		switch {
		case !is(p):
		case found >= 0:
			return -1, fmt.Errorf("partitions %d and %d are both %s: name one by its number, as in IMG:%d", t.Partitions[found].Number, p.Number, what, p.Number)
		default:
			found = i
		}
	}
	if found < 0 {
		return -1, fmt.Errorf("no partition is %s", what)
	}
	return found, nil
}

// openDisk opens a file or device once, and has it alone if it is to be changed.
func (v *volumes) openDisk(c *cli.Call, file string) (*cli.Input, error) {
	if d := v.disks[file]; d != nil {
		return d, nil
	}
	use := os.O_RDONLY
	if v.write {
		use = os.O_RDWR
	}
	d, err := c.OpenFile(file, use)
	if err != nil {
		return nil, err
	}
	if v.write {
		unlock, err := d.Lock()
		if err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if err == nil {
			c.AtEnd(func() { _ = unlock() }) // the file is closed next, which unlocks it too
		}
	}
	v.disks[file] = d
	return d, nil
}

// openFAT opens a FAT at an offset of a disk.
func (v *volumes) openFAT(c *cli.Call, disk *cli.Input, window osmith.Disk, offset int64, sector int) (*fatVolume, error) {
	if !v.write {
		f, err := fat.OpenReader(window)
		return &fatVolume{FS: f}, err
	}
	release, err := blockdev.Exclusive(disk.Device, offset, window.Size())
	if err != nil {
		return nil, err
	}
	c.AtEnd(func() { _ = release() }) // opened for reading
	f, err := fat.OpenWith(window, fat.OpenOptions{SectorSize: sector})
	if err != nil {
		return nil, err
	}
	f.Time, err = cli.SourceDate(time.Now())
	return &fatVolume{f, disk.Sync}, err
}
