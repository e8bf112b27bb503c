package upgrade

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/verity/dm"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
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
}

// Entry is one entry of the loader's menu.
type Entry struct {
	*bootloader.Entry
	RootHash []byte // from its command line; nil if it has none
	Slot     *Slot  // that holds that root hash; nil if none does
	size     int64
}

// espFile is a file on the ESP.
type espFile struct {
	path string
	size int64
}

// ErrNoESP is returned for a disk without an EFI system partition.
var ErrNoESP = errors.New("no EFI system partition")

// Inspect reads what a disk holds. It writes nothing.
func Inspect(disk osmith.Disk, m Machine) (*State, error) { return inspect(disk, m) }

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
	s.menuOptions = bootloader.MenuOptions{Architecture: machine.EFI}
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
	if s.loader, err = openFile(s.esp, machine.Loader()); err != nil {
		return nil, fmt.Errorf("upgrade: boot loader on the ESP: %w", err)
	}
	return s, s.findStaged()
}

// architecture is that of the machine whose slots these are.
func architecture(dataType osmith.GUID) (*arch.Architecture, error) {
	a, _, ok := arch.ByType(dataType)
	if !ok || a.EFI == "" {
		return nil, fmt.Errorf("upgrade: slots of type %s: EFI has no boot loader for this architecture", partition.TypeName(dataType))
	}
	return a, nil
}

// findESP is the one EFI system partition of the disk.
func findESP(disk osmith.Disk, t *partition.Table) (*partition.Window, error) {
	var found []int
	for i, p := range t.Partitions {
		if p.Type == partition.ESP {
			found = append(found, i)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("upgrade: %w in the partition table", ErrNoESP)
	case 1:
	default:
		return nil, fmt.Errorf("upgrade: %d EFI system partitions: which one the firmware starts is not to be told from the disk", len(found))
	}
	return t.Window(disk, found[0]), nil
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
		return fmt.Errorf("upgrade: the running UKI %s is not on the ESP: is this the disk the machine booted from?", m.Running)
	}
	return nil
}

// byPath finds an entry by its path, whatever its counter says now: the loader renames on boot.
func (s *State) byPath(name string) *Entry {
	for _, e := range s.Entries {
		if strings.EqualFold(uncounted(e.Path), uncounted(name)) {
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

// findStaged lists UKIs that an interrupted upgrade left.
func (s *State) findStaged() error {
	files, err := s.esp.ReadDir(entryDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, f := range files {
		if !strings.HasSuffix(strings.ToLower(f.Name()), stagedSuffix) {
			continue
		}
		info, err := f.Info()
		if err != nil {
			return err
		}
		s.staged = append(s.staged, espFile{path.Join(entryDir, f.Name()), info.Size()})
	}
	return nil
}

// openFile opens a file on the ESP for reading at any offset. FAT files hold no resources that closing would free.
func openFile(esp fs.FS, name string) (osmith.Source, error) {
	f, err := esp.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	r, ok := f.(io.ReaderAt)
	if !ok || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("upgrade: %s on the ESP is not a file that can be read at an offset", name)
	}
	return io.NewSectionReader(r, 0, info.Size()), nil
}

// sameContent compares a file on the ESP with src.
func sameContent(esp fs.FS, name string, src osmith.Source) (bool, error) {
	have, err := openFile(esp, name)
	if err != nil {
		return false, err
	}
	if have.Size() != src.Size() {
		return false, nil
	}
	a, err := digest(have)
	if err != nil {
		return false, err
	}
	b, err := digest(src)
	return a == b, err
}

func digest(src osmith.Source) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(src, 0, src.Size())); err != nil {
		return sum, err
	}
	h.Sum(sum[:0])
	return sum, nil
}
