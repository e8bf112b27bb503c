// Package espvolume opens the boot file systems that a flag names, a mounted ESP, a directory, or a
// FAT in an image or a device, and changes files in them so that a power cut leaves what was there
// or what is wanted.
package espvolume

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

// Place are the flags that say which boot file systems it is about.
type Place struct{ ESP, XBOOTLDR string }

// Flags declares them.
func (p *Place) Flags(set *flag.FlagSet) {
	set.StringVar(&p.ESP, "esp", "", "`directory` of an ESP, or image or device, or a partition in it (IMG:PART)")
	set.StringVar(&p.XBOOTLDR, "xbootldr", "", "the extended boot loader partition in the same `form` (default: the one beside the ESP of an image)")
}

// Volumes are the boot file systems of a machine.
type Volumes struct {
	ESP, XBOOTLDR Volume // xbootldr is nil if there is none

	// Where the ESP is, if it is in a partition table.
	Table     *partition.Table
	Partition int

	disks map[string]*cli.Input
	boot  map[string]*upgrade.BootVolume // that are mounted, by their disks
	write bool
}

// Open opens them, for changes or only for reading, until the call ends.
func (p *Place) Open(c *cli.Call, write bool) (*Volumes, error) {
	if err := cli.Required("esp", p.ESP); err != nil {
		return nil, err
	}
	v := &Volumes{Partition: -1, disks: map[string]*cli.Input{}, boot: map[string]*upgrade.BootVolume{}, write: write}
	esp, table, i, err := v.openOne(c, p.ESP, partition.ESP)
	if err != nil {
		return nil, err
	}
	v.ESP, v.Table, v.Partition = esp, table, i
	extended := p.XBOOTLDR
	if extended == "" && table != nil && slices.ContainsFunc(table.Partitions, func(q partition.Partition) bool { return q.Type == partition.XBOOTLDR }) {
		extended, _ = CutPart(p.ESP)
	}
	if extended != "" {
		if v.XBOOTLDR, _, _, err = v.openOne(c, extended, partition.XBOOTLDR); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// Each are the file systems, the ESP first.
func (v *Volumes) Each() []Volume {
	if v.XBOOTLDR == nil {
		return []Volume{v.ESP}
	}
	return []Volume{v.ESP, v.XBOOTLDR}
}

// Of is the file system of an entry.
func (v *Volumes) Of(xbootldr bool) Volume {
	if xbootldr {
		return v.XBOOTLDR
	}
	return v.ESP
}

// CutPart takes IMG:PART apart, unless something has the whole name.
func CutPart(operand string) (file, part string) {
	at := strings.LastIndexByte(operand, ':')
	if _, err := os.Stat(operand); err == nil || at < 2 { // C:\disk.img
		return operand, ""
	}
	return operand[:at], operand[at+1:]
}

// openOne opens a directory, or a partition of that type or name, and says where it is.
func (v *Volumes) openOne(c *cli.Call, operand string, kind osmith.GUID) (Volume, *partition.Table, int, error) {
	file, part := CutPart(operand)
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
		return &Directory{root.FS(), root}, nil, -1, nil
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
	i, err := Choose(table, part, kind)
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
func (v *Volumes) openMounted(c *cli.Call, dir string) (Volume, error) {
	m, err := FindMounted(c, dir)
	if err != nil {
		return nil, err
	}
	facts, device := upgrade.Machine{Mounted: m.Mounted}, m.Disk.File().Name()
	var boot *upgrade.BootVolume
	if first := v.boot[device]; first != nil {
		boot, err = first.OpenBeside(m.ID, facts)
	} else if boot, err = upgrade.OpenBootVolume(m.Disk, m.ID, facts); err == nil {
		v.boot[device] = boot
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	c.AtEnd(func() { _ = boot.Close() }) // each change was synced
	return &mountedVolume{boot}, nil
}

// Choose is the partition that is named, or else the only one of a type.
func Choose(t *partition.Table, part string, kind osmith.GUID) (int, error) {
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
func (v *Volumes) openDisk(c *cli.Call, file string) (*cli.Input, error) {
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
func (v *Volumes) openFAT(c *cli.Call, disk *cli.Input, window osmith.Disk, offset int64, sector int) (*fatVolume, error) {
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
