package upgrade

import (
	"errors"
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
	"github.com/osmith-dev/osmith/uki"
)

// State is what a disk holds: slots, and the sets that boot from them.
type State struct {
	Slots   []*Slot
	Entries []*Entry // in the order of the loader's menu

	// Next is the entry that the loader starts when the machine is switched on, as far as the
	// loader's variables are known, and NextReason says why; nil if the loader starts none.
	Next       *Entry
	NextReason bootloader.Reason
	// Running is the entry of the set whose file system is mounted, and Started is the entry that
	// firmware has started; after kexec or a soft reboot they differ. Both are nil if the machine
	// is off, or if Machine does not say what runs.
	Running, Started *Entry

	// LastGood is the first entry in the menu that was found good, judged by the ESP and the
	// partition table alone: neither firmware's verdict nor the content of its slot is checked. Nil
	// if there is none.
	LastGood *Entry
	// FellBack says why the running set is older than the one installed last. Nil: it is not older,
	// or it is unknown what runs.
	FellBack *FellBack

	// Staged are the paths of files that an upgrade has put on the ESP and no boot has tried yet:
	// entries that have all their tries and do not run, and what an interrupted upgrade left.
	// [Cancel] removes them.
	Staged []string

	// Garbage are files that are no longer started or needed ([Collect]); GarbageErr says why the
	// list may be incomplete.
	Garbage    []Garbage
	GarbageErr error

	// Failed are the releases that have used up their tries on this machine, as recorded on the
	// ESP; FailedErr says why they are unknown.
	Failed    []FailedRelease
	FailedErr error

	// Volumes are the encrypted volumes on the disk, in the order of the table. The unlocks verdict
	// says for each volume whether a TPM opens it after an upgrade.
	Volumes []*Volume

	// Problems say why an upgrade cannot be planned on this disk; a disk without slots still
	// accepts a release that is a UKI alone. The other fields of the state are valid nevertheless.
	Problems []error

	table  *partition.Table
	slots  *partition.Slots
	esp    *bootFS
	menu   *bootloader.Menu
	loader osmith.Source // systemd-boot on the ESP, where firmware finds it without a variable
	staged []espFile

	machine *Machine
	loaders []espLoader
	espFree int64 // when it was read

	menuOptions bootloader.MenuOptions
	rules       []loaderRules
	examined    map[string]*image // by path without counter
	xbootldr    error             // why an extended boot loader partition cannot be read
	noSlots     error             // why there are no slots for an upgrade
	unreadable  error             // of a file that may be an entry: the menu is not known whole
	// why firmware has not started Running, or is not known to have; nil if it has
	notStarted error
}

// Entry is one entry of the loader's menu, and the set that it boots.
type Entry struct {
	*bootloader.Entry
	// root hash that the kernel receives from the UKI, add-ons and SMBIOS or from a Type #1 entry;
	// nil: none
	RootHash []byte
	Slot     *Slot // slot that holds that root hash; nil if there is none

	size   int64
	files  []espFile // beside its UKI: they go with it
	hashes [][]byte  // on its command line
	needs  []*Slot   // every slot that it may boot from, whichever of its add-ons are started
}

// Inspect reads what a disk holds, from the medium if the disk supports that. It writes nothing. It
// is an error if there is no partition table, no EFI system partition or no FAT file system on that
// partition, or if Machine.Running is not on the disk; all other obstacles to an upgrade are in
// State.Problems.
func Inspect(disk osmith.Disk, m Machine) (s *State, err error) {
	defer prefix.Add("upgrade", &err)
	if err := pastCache(disk); err != nil {
		return nil, err
	}
	return inspect(disk, &m)
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
	if err := s.checkMounted(); err != nil {
		return nil, err
	}
	if s.esp, s.xbootldr, err = m.openBoot(disk, s.table); err != nil {
		return nil, err
	}
	s.espFree = s.esp.esp.Free()
	if s.slots, s.Slots, s.noSlots = findSlots(s.table); s.noSlots != nil {
		s.problem(s.noSlots)
	}
	machine, err := s.architecture()
	if err != nil {
		s.problem(err)
	}
	if err := s.findLoaders(machine); err != nil {
		s.problem(err)
	}
	s.menuOptions = bootloader.MenuOptions{Architecture: machine.EFI, KeepGoing: true}
	if len(s.rules) > 0 && s.rules[0].err == nil {
		s.menuOptions.LoaderVersion, s.menuOptions.AssumeLoader = s.rules[0].version, m.AssumeLoader
	}
	if s.menu, err = readMenu(s.esp, s.esp.xbootldr != nil, s.menuOptions); err != nil {
		return nil, err
	}
	for _, f := range s.menu.Findings {
		if errors.Is(f.Err, bootloader.ErrUnreadable) {
			s.unreadable = fmt.Errorf("%s: %w", f.Path, f.Err)
			s.problem(s.unreadable)
		}
	}
	for _, b := range s.menu.Entries {
		e := &Entry{Entry: b}
		if err := s.bind(e); err != nil {
			s.problem(fmt.Errorf("%s: %w", b.Path, err))
		}
		s.Entries = append(s.Entries, e)
	}
	d, reason := s.menu.Default(m.loader())
	if s.NextReason = reason; d != nil {
		i := slices.IndexFunc(s.Entries, func(e *Entry) bool { return e.Entry == d })
		s.Next = s.Entries[i]
	}
	if err := s.findRunning(); err != nil {
		return nil, err
	}
	if err := s.findStaged(); err != nil {
		s.problem(err)
	}
	s.Failed, s.FailedErr = readFailed(s.esp)
	s.Volumes = findVolumes(disk, s.table)
	s.LastGood, s.FellBack = s.findLastGood(), s.findFellBack()
	s.GarbageErr = s.findGarbage()
	return s, nil
}

func (s *State) problem(err error) { s.Problems = append(s.Problems, err) }

// unfit is why no upgrade can be planned; nil if one can. Whether there are slots matters only to a
// release that needs one.
func (s *State) unfit(needsSlots bool) error {
	list := s.Problems
	if !needsSlots {
		list = slices.DeleteFunc(slices.Clone(list), func(err error) bool { return err == s.noSlots })
	}
	return errors.Join(list...)
}

// architecture is that of the machine: of its slots, or else of the boot loader where firmware
// looks for one without a variable.
func (s *State) architecture() (*arch.Architecture, error) {
	if len(s.Slots) > 0 {
		dataType := s.Slots[0].DataType
		a, _, ok := arch.ByType(dataType)
		if ok && a.EFI != "" {
			return a, nil
		}
		return arch.X8664, fmt.Errorf("slots of type %s: EFI has no boot loader for this architecture", partition.TypeName(dataType))
	}
	for i := range arch.Table {
		if a := &arch.Table[i]; a.EFI != "" {
			if _, err := fs.Stat(s.esp, a.Loader()); err == nil {
				return a, nil
			}
		}
	}
	return arch.X8664, nil
}

// bind reads what binds a menu entry to a slot: the root hash on the command line that its kernel
// gets. One without stays in the list, bound to nothing.
func (s *State) bind(e *Entry) error {
	b := e.Entry
	info, err := fs.Stat(s.esp, b.Path)
	if err != nil {
		return err
	}
	e.size = info.Size()
	// Whether it boots verified is asked of a release, not here: an entry that switches verity off
	// needs its slot as well.
	own := rootHashes(b.Options)
	effective, perhaps := own, own
	if b.Type == bootloader.EntryType2 || b.Type == bootloader.EntryType1UKI {
		if e.files, err = extraFiles(s.esp, b.Loader); err != nil {
			return err
		}
		joined, known, all, err := s.joined(b)
		if err != nil {
			return err
		}
		if known {
			effective = joined
		}
		perhaps = append(perhaps, all...)
	}
	e.hashes = effective
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
	return nil
}

// holding is the slot of a root hash; nil if there is none.
func (s *State) holding(hash []byte) *Slot {
	i := slices.IndexFunc(s.Slots, func(slot *Slot) bool { return slices.Equal(slot.RootHash, hash) })
	if i < 0 {
		return nil
	}
	return s.Slots[i]
}

// joined are the root hashes on the command line that the stub joins for an entry, if that is
// known, and those of every add-on by itself, also of one that firmware is known to refuse. A file
// that is no UKI, or whose stub is not known, has none.
func (s *State) joined(b *bootloader.Entry) (joined [][]byte, known bool, all [][]byte, err error) {
	src, err := openFile(s.esp, b.Loader)
	if err != nil {
		return nil, false, nil, nil // the menu has it as damaged
	}
	f, err := uki.Open(src)
	if err != nil {
		return nil, false, nil, nil
	}
	volume, rest := splitVolume(b.Loader)
	beside, err := uki.ReadCompanions(volumeFS{s.esp, volume}, rest)
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

// Slot is one place for a root file system and its hash tree: the n-th root partition of the table
// together with the n-th root-verity partition of the same architecture ([partition.FindSlots]).
type Slot struct {
	*partition.Slot
	RootHash []byte // of an installed slot: both partition IDs, one after the other

	rootSize, treeSize, signatureSize int64 // of the partitions; 0: there is none
}

// findSlots is the A/B view of a table. The error says why it is none that can be upgraded: that
// takes two slots or more, each with a hash tree.
func findSlots(t *partition.Table) (*partition.Slots, []*Slot, error) {
	found, err := partition.FindSlots(t, partition.SlotOptions{})
	if err != nil {
		if other := otherLayout(t); other != nil {
			return nil, nil, fmt.Errorf("%w: %w", err, other)
		}
		return nil, nil, err
	}
	var slots []*Slot
	for _, s := range found.Slots {
		slot := &Slot{Slot: s, RootHash: found.RootHash(s)}
		_, slot.rootSize = t.Extent(s.Data)
		if s.Tree >= 0 {
			_, slot.treeSize = t.Extent(s.Tree)
		}
		if s.Signature >= 0 {
			_, slot.signatureSize = t.Extent(s.Signature)
		}
		slots = append(slots, slot)
	}
	if len(found.Slots) < 2 {
		return found, slots, fmt.Errorf("%w: the table has one slot, an upgrade needs two", partition.ErrNoSlots)
	}
	for _, s := range found.Slots {
		if s.Tree < 0 {
			return found, slots, fmt.Errorf("slot %s has no hash tree partition: its content could not be verified", s.Name())
		}
	}
	return found, slots, nil
}

// LayoutError says that the disk has the layout of a system that does not choose its version by the
// entries of systemd-boot.
type LayoutError struct {
	System string // "Flatcar"
	Chosen string // how the system chooses its version
}

func (e *LayoutError) Error() string {
	return fmt.Sprintf("the disk is laid out as by %s, where %s: that is not supported", e.System, e.Chosen)
}

// otherLayout recognises a layout by the types that only its system uses.
func otherLayout(t *partition.Table) error {
	for _, p := range t.Partitions {
		switch name := partition.TypeName(p.Type); {
		case name == "flatcar-usr":
			return &LayoutError{"Flatcar", "GRUB chooses the version by the priority in the attributes of USR-A and USR-B (gptprio)"}
		case name == "chromeos-kernel":
			return &LayoutError{"ChromeOS", "firmware chooses the kernel by the priority in the attributes of its partition (gptprio)"}
		case name == "bottlerocket-boot" || name == "bottlerocket-root":
			return &LayoutError{"Bottlerocket", "GRUB chooses the set by the priority in the attributes of its partitions (gptprio)"}
		case strings.HasPrefix(name, "android-"):
			return &LayoutError{"Android", "the boot loader chooses the slot by its own record"}
		case name == "linux-generic" && (p.Name == "COS_ACTIVE" || p.Name == "COS_STATE"):
			return &LayoutError{"Kairos before its UKIs", "GRUB chooses an image file on COS_STATE"}
		}
	}
	return nil
}
