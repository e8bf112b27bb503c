package upgrade

import (
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/uki"
)

// State is what a disk holds: slots, and the sets that boot from them.
type State struct {
	Slots   []*Slot
	Entries []*Entry // in the order of the loader's menu

	// Next is the entry that the loader starts when the machine is switched on, as far as its variables are known; nil if none.
	Next *Entry
	// Running is the entry of the set whose file system is mounted, and Started the one that firmware has started; after kexec or a soft
	// reboot they differ. Both are nil if the machine is off, or if it is not said what it runs.
	Running, Started *Entry

	table  *partition.Table
	slots  *partition.Slots
	esp    *fat.FS
	menu   *bootloader.Menu
	loader osmith.Source // systemd-boot on the ESP, where firmware finds it without a variable
	staged []espFile

	machine     *Machine
	loaders     []espLoader
	espWindow   *partition.Window
	menuOptions bootloader.MenuOptions
	rules       []loaderRules
	examined    map[string]*image // by path without counter
	xbootldr    error             // why an extended boot loader partition matters
	notStarted  error             // why firmware has not started Running, or is not known to have; nil if it has
}

// Entry is one entry of the loader's menu, and the set that it boots.
type Entry struct {
	*bootloader.Entry
	RootHash []byte // that the kernel gets, of the UKI, add-ons and SMBIOS or of a Type #1 entry; nil: none
	Slot     *Slot  // that holds that root hash; nil if none does

	size  int64
	files []espFile // beside its UKI: they go with it
	needs []*Slot   // every slot that it may boot from, whichever of its add-ons are started
}

// Inspect reads what a disk holds. It writes nothing.
func Inspect(disk osmith.Disk, m Machine) (*State, error) {
	s, err := inspect(disk, &m)
	return s, prefix.Error("upgrade", err)
}

func inspect(disk osmith.Disk, m *Machine) (*State, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	s := &State{machine: m, examined: map[string]*image{}}
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
	if err := s.findLoaders(machine); err != nil {
		return nil, err
	}
	s.menuOptions = bootloader.MenuOptions{Architecture: machine.EFI}
	if first := &s.rules[0]; first.err == nil {
		s.menuOptions.LoaderVersion, s.menuOptions.AssumeLoader = first.version, m.AssumeLoader
	}
	if s.menu, err = bootloader.ReadMenu(s.esp, s.menuOptions); err != nil {
		return nil, err
	}
	s.xbootldr = s.findXBOOTLDR(disk)
	for _, b := range s.menu.Entries {
		e, err := s.entry(b)
		if err != nil {
			return nil, err
		}
		s.Entries = append(s.Entries, e)
	}
	if d, _ := s.menu.Default(m.loader()); d != nil {
		i := slices.IndexFunc(s.Entries, func(e *Entry) bool { return e.Entry == d })
		s.Next = s.Entries[i]
	}
	if err := s.findRunning(); err != nil {
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

// entry reads what binds a menu entry to a slot: the root hash on the command line that its kernel gets. One without stays in the list, bound to nothing.
func (s *State) entry(b *bootloader.Entry) (*Entry, error) {
	e := &Entry{Entry: b}
	info, err := fs.Stat(s.esp, b.Path)
	if err != nil {
		return nil, err
	}
	e.size = info.Size()
	// Whether it boots verified is asked of a release, not here: an entry that switches verity off needs its slot as well.
	own := rootHashes(b.Options)
	effective, perhaps := own, own
	if b.Type == bootloader.EntryType2 || b.Type == bootloader.EntryType1UKI {
		if e.files, err = extraFiles(s.esp, b.Loader); err != nil {
			return nil, err
		}
		joined, known, all, err := s.joined(b)
		if err != nil {
			return nil, err
		}
		if known {
			effective = joined
		}
		perhaps = append(perhaps, all...)
	}
	for _, hash := range effective {
		if e.RootHash == nil {
			e.RootHash = hash
		}
		if e.Slot = s.holding(hash); e.Slot != nil {
			e.RootHash = hash
			break
		}
	}
	for _, hash := range slices.Concat(effective, perhaps) {
		if slot := s.holding(hash); slot != nil && !slices.Contains(e.needs, slot) {
			e.needs = append(e.needs, slot)
		}
	}
	return e, nil
}

// holding is the slot of a root hash; nil if there is none.
func (s *State) holding(hash []byte) *Slot {
	i := slices.IndexFunc(s.Slots, func(slot *Slot) bool { return slices.Equal(slot.RootHash, hash) })
	if i < 0 {
		return nil
	}
	return s.Slots[i]
}

// joined are the root hashes on the command line that the stub joins for an entry, if that is known, and those of every add-on by itself, also of one that firmware is known to
// refuse. A file that is no UKI, or whose stub is not known, has none.
func (s *State) joined(b *bootloader.Entry) (joined [][]byte, known bool, all [][]byte, err error) {
	src, err := openFile(s.esp, b.Loader)
	if err != nil {
		return nil, false, nil, nil // the menu has it as damaged
	}
	f, err := uki.Open(src)
	if err != nil {
		return nil, false, nil, nil
	}
	beside, err := uki.ReadCompanions(s.esp, b.Loader)
	if err != nil {
		return nil, false, nil, err
	}
	e := s.machine.effectiveCmdline(f, b.Profile, passed(b), beside)
	if e.err == nil {
		joined, known = rootHashes(e.handover.Cmdline), true
	}
	for _, a := range slices.Concat(beside.GlobalAddons, beside.Addons) {
		if f, err := uki.OpenAddon(a.Content); err == nil {
			text, _ := f.Cmdline()
			all = append(all, rootHashes(text)...)
		}
	}
	return joined, known, all, nil
}

// passed is the command line that the loader passes to the stub of an entry.
func passed(b *bootloader.Entry) string {
	if b.Type == bootloader.EntryType2 {
		return ""
	}
	return b.Options
}

// uncounted is a path without its boot counter, of a UKI or of a Type #1 entry.
func uncounted(name string) string {
	for _, suffix := range []string{".efi", ".conf"} {
		if stem, _, ok := bootloader.ParseName(path.Base(name), suffix); ok {
			return path.Join(path.Dir(name), stem+suffix)
		}
	}
	return name
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
