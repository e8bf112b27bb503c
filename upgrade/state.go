package upgrade

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/verity/dm"
)

// State is what a disk holds: slots, and the entries that boot them.
type State struct {
	Slots   []*Slot
	Entries []*Entry // in the order of the loader's menu
	Running *Entry   // by Machine.Running, or the loader's choice; nil if nothing boots

	table  *partition.Table
	slots  *partition.Slots
	esp    *fat.FS
	menu   *bootloader.Menu
	loader osmith.Source // systemd-boot on the ESP
	staged []espFile

	espWindow   *partition.Window
	menuOptions bootloader.MenuOptions
	rules       loaderRules
}

// Entry is one entry of the loader's menu.
type Entry struct {
	*bootloader.Entry
	RootHash []byte // from its command line; nil if it has none
	Slot     *Slot  // that holds that root hash; nil if none does
	size     int64
}

// Inspect reads what a disk holds. It writes nothing.
func Inspect(disk osmith.Disk, m Machine) (*State, error) {
	s, err := inspect(disk, m)
	return s, prefix.Error("upgrade", err)
}

func inspect(disk osmith.Disk, m Machine) (*State, error) {
	s := &State{}
	var err error
	if s.table, err = partition.Read(disk, partition.ReadOptions{}); err != nil {
		return nil, err
	}
	if s.slots, s.Slots, err = findSlots(s.table); err != nil {
		return nil, err
	}
	if s.espWindow, err = findESP(disk, s.table); err != nil {
		return nil, err
	}
	if s.esp, err = fat.Open(s.espWindow); err != nil {
		return nil, err
	}
	machine, err := architecture(s.Slots[0].DataType)
	if err != nil {
		return nil, err
	}
	if s.loader, err = openFile(s.esp, machine.Loader()); err != nil {
		return nil, fmt.Errorf("boot loader on the ESP: %w", err)
	}
	s.menuOptions = bootloader.MenuOptions{Architecture: machine.EFI}
	if s.rules = rulesOf(s.loader, m.AssumeLoader); s.rules.err == nil {
		s.menuOptions.LoaderVersion, s.menuOptions.AssumeLoader = s.rules.version, m.AssumeLoader
	}
	if s.menu, err = bootloader.ReadMenu(s.esp, s.menuOptions); err != nil {
		return nil, err
	}
	for i := range s.menu.Entries {
		e, err := s.entry(s.menu.Entries[i])
		if err != nil {
			return nil, err
		}
		s.Entries = append(s.Entries, e)
	}
	if err := s.running(m); err != nil {
		return nil, err
	}
	return s, s.findStaged()
}

// architecture is that of the machine whose slots these are.
func architecture(dataType osmith.GUID) (*arch.Architecture, error) {
	a, _, ok := arch.ByType(dataType)
	if !ok || a.EFI == "" {
		return nil, fmt.Errorf("slots of type %s: EFI has no boot loader for this architecture", partition.TypeName(dataType))
	}
	return a, nil
}

// entry reads what binds a menu entry to a slot: the root hash on its command line, which a UKI carries and a Type #1
// entry names. One without stays in the list, bound to nothing.
func (s *State) entry(b *bootloader.Entry) (*Entry, error) {
	e := &Entry{Entry: b}
	info, err := fs.Stat(s.esp, b.Path)
	if err != nil {
		return nil, err
	}
	e.size = info.Size()
	// Whether it boots verified is asked of a release, not here: an entry that switches verity off needs its slot as well.
	c, err := dm.ParseCmdline(b.Options)
	if err != nil {
		return e, nil
	}
	for _, v := range []dm.Volume{c.Usr, c.Root} {
		if v.RootHash == nil {
			continue
		}
		e.RootHash = v.RootHash
		if i := slices.IndexFunc(s.Slots, func(slot *Slot) bool { return slices.Equal(slot.RootHash, v.RootHash) }); i >= 0 {
			e.Slot = s.Slots[i]
			break
		}
	}
	return e, nil
}

func (s *State) running(m Machine) error {
	if m.Running == "" {
		d, _ := s.menu.Default(m.Loader)
		if d == nil {
			return nil
		}
		s.Running = s.byPath(d.Path)
		return nil
	}
	name := strings.TrimPrefix(strings.ReplaceAll(m.Running, `\`, "/"), "/")
	if s.Running = s.byPath(name); s.Running == nil {
		return fmt.Errorf("the running UKI %s is not on the ESP: is this the disk the machine booted from?", m.Running)
	}
	return nil
}

// byPath finds an entry by its path, whatever its counter says now: the loader renames on boot.
func (s *State) byPath(name string) *Entry {
	for _, e := range s.Entries {
		if fat.SameName(uncounted(e.Path), uncounted(name)) {
			return e
		}
	}
	return nil
}

// uncounted is a path without its boot counter.
func uncounted(name string) string {
	stem, _, ok := bootloader.ParseName(path.Base(name), ".efi")
	if !ok {
		return name
	}
	return path.Join(path.Dir(name), stem+".efi")
}

// Slot is one place for a root file system and its hash tree: the n-th root partition of the table together with the
// n-th root-verity partition of the same architecture ([partition.FindSlots]).
type Slot struct {
	*partition.Slot
	RootHash []byte // of an installed slot: both partition IDs, one behind the other

	rootSize, treeSize int64
}

// findSlots is the A/B view of a table: two slots or more, each with a hash tree.
func findSlots(t *partition.Table) (*partition.Slots, []*Slot, error) {
	found, err := partition.FindSlots(t, partition.SlotOptions{})
	if err != nil {
		return nil, nil, err
	}
	if len(found.Slots) < 2 {
		return nil, nil, fmt.Errorf("%w: the table has one, an upgrade needs another", partition.ErrNoSlots)
	}
	var slots []*Slot
	for _, s := range found.Slots {
		if s.Tree < 0 {
			return nil, nil, fmt.Errorf("slot %s has no hash tree partition: its content could not be verified", s.Name())
		}
		if s.Signature >= 0 {
			return nil, nil, fmt.Errorf("slot %s has a signature partition, which a release cannot fill yet", s.Name())
		}
		slot := &Slot{Slot: s, RootHash: found.RootHash(s)}
		_, slot.rootSize = t.Extent(s.Data)
		_, slot.treeSize = t.Extent(s.Tree)
		slots = append(slots, slot)
	}
	return found, slots, nil
}
