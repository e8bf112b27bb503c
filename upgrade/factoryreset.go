package upgrade

import (
	"errors"
	"fmt"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/internal/blockdev"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sparse"
	"github.com/osmith-dev/osmith/internal/superblock"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/luks"
)

// StatePartition declares a partition that holds only state, which a factory reset erases: by its
// ID, or by type and label.
type StatePartition struct {
	ID   osmith.GUID // PARTUUID; zero: the partition is found by Type and Name
	Type osmith.GUID // type; with an ID, either zero or the type that the partition must have
	Name string      // label; with an ID, either "" or the label that the partition must have
}

// String is the declaration as text.
func (s StatePartition) String() string {
	if s.Type.IsZero() {
		return fmt.Sprintf("the partition %s", s.ID)
	}
	return fmt.Sprintf("the partition %q of type %s", s.Name, partition.TypeName(s.Type))
}

// ResetPartition is a partition that was reset.
type ResetPartition struct {
	Number int // in the table
	ID     osmith.GUID
	Name   string
	Held   string // what was recognised in it: "a LUKS volume"; "": nothing was
}

// NotStateError says why a partition that is declared as state is not reset.
type NotStateError struct {
	Declared StatePartition
	Reason   string
}

func (e *NotStateError) Error() string {
	return fmt.Sprintf("%s cannot be reset, so nothing is reset: %s", e.Declared, e.Reason)
}

// FactoryReset erases the state in the declared partitions. It does not write to the ESP, the slots
// or the table, so the machine boots as before. It returns what was reset, in the order in which it
// was done. Each declaration must name one partition of the disk that is in no slot, is not an ESP
// and has no type that systems boot from; otherwise the error is a [*NotStateError], and nothing is
// written. If the kernel uses the partition, the error is an [*InUseError].
//
// Of a LUKS2 volume, the key slots are erased first, so that the volume cannot be opened any more,
// even with a copy of its header; then both headers. Of any other content, the sector by which it
// is recognised is erased first. Then both ends of the partition are zeroed, and every place where
// something would be recognised. After a power cut, each partition is as it was (a volume perhaps
// with fewer keys) or has nothing that could be opened or mounted; repeat the same call to finish.
// Unencrypted contents of a partition stay on the medium, and can be found there: keep state that
// must be erased with certainty in an encrypted volume.
//
// The partition is then empty, and formatted at the next boot by systemd-repart (FactoryReset=,
// Format=) or systemd-makefs, or another program. FactoryReset does not read systemd's request:
// call [ReadResetRequest] before it, and [CompleteReset] after it. The disk must have a method Sync
// and is locked, as by [Plan.Apply].
func FactoryReset(disk osmith.Disk, m Machine, declared []StatePartition) (reset []ResetPartition, err error) {
	defer prefix.Add("upgrade", &err)
	if len(declared) == 0 {
		return nil, errors.New("factory reset: no partition is declared to be state")
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("factory reset: %w", err)
	}
	on := checked(disk)
	err = alone(on, func() (err error) {
		t, err := partition.Read(on, partition.ReadOptions{})
		if err != nil {
			return err
		}
		var which []int
		for _, d := range declared {
			i, err := findState(t, &m, d)
			if err != nil {
				return err
			}
			if !slices.Contains(which, i) {
				which = append(which, i)
			}
		}
		var held []func() error
		defer func() {
			for _, release := range held {
				err = errors.Join(err, release())
			}
		}()
		for _, i := range which {
			off, size := t.Extent(i)
			release, err := blockdev.Exclusive(on.Disk, off, size)
			if used, ok := errors.AsType[*blockdev.InUseError](err); ok {
				return &InUseError{used.Name, used.MountPoint, used.Holders}
			}
			if err != nil {
				return err
			}
			held = append(held, release)
		}
		for _, i := range which {
			what, err := resetPartition(on, t.Window(on, i))
			if err != nil {
				return fmt.Errorf("partition %d (%q): %w", t.Partitions[i].Number, t.Partitions[i].Name, err)
			}
			reset = append(reset, ResetPartition{t.Partitions[i].Number, t.Partitions[i].ID, t.Partitions[i].Name, what})
		}
		return nil
	})
	if err != nil {
		return reset, fmt.Errorf("factory reset: %w", err)
	}
	return reset, nil
}

// findState finds the one partition that is declared, and refuses it unless it can be state.
func findState(t *partition.Table, m *Machine, d StatePartition) (int, error) {
	refuse := func(format string, args ...any) (int, error) {
		return 0, &NotStateError{d, fmt.Sprintf(format, args...)}
	}
	if d.ID.IsZero() && (d.Type.IsZero() || d.Name == "") {
		return refuse("want its ID, or its type and its label")
	}
	var found []int
	for i, p := range t.Partitions {
		if (d.ID.IsZero() || p.ID == d.ID) && (d.Type.IsZero() || p.Type == d.Type) && (d.Name == "" || p.Name == d.Name) {
			found = append(found, i)
		}
	}
	if len(found) != 1 {
		return refuse("the disk has %d such partitions: want one", len(found))
	}
	i := found[0]
	p := t.Partitions[i]
	switch {
	case boots(t, i):
		return refuse("it is of the type %s, from which a system boots", partition.TypeName(p.Type))
	case p.Name == partition.EmptyName:
		return refuse("it is labelled %q, as an empty slot", p.Name)
	case m.Mounted[p.ID] != nil:
		return refuse("Machine.Mounted has it, as a boot partition")
	}
	off, size := t.Extent(i)
	for k := range t.Partitions {
		if other, n := t.Extent(k); k != i && other < off+size && off < other+n {
			return refuse("it overlaps with partition %d", t.Partitions[k].Number)
		}
	}
	if size > t.Size-off {
		return refuse("it ends beyond the disk")
	}
	return i, nil
}

// boots reports whether firmware, loaders or slots may need a partition, by its type. A root or usr
// partition without a hash tree is state where the slots are of the other kind, as on systems that
// have all of themselves in usr.
func boots(t *partition.Table, i int) bool {
	is := t.Partitions[i].Type
	if slices.Contains([]osmith.GUID{partition.ESP, partition.XBOOTLDR, partition.BIOSBoot}, is) {
		return true
	}
	slots, _, _ := findSlots(t)
	for k := range arch.Table {
		for role, id := range arch.Table[k].Types {
			switch {
			case id.IsZero() || is != id && is != partition.PartialType(id) && is != partition.PendingType(id):
			case arch.Role(role) != arch.Root && arch.Role(role) != arch.Usr || slots == nil || slots.Slots[0].Tree < 0 || is != id:
				return true
			default:
				return slices.ContainsFunc(slots.Slots, func(s *partition.Slot) bool { return s.Data == i })
			}
		}
	}
	return false
}

// resetPartition takes away what is in a partition, in an order in which a power cut leaves it or
// nothing.
func resetPartition(disk *checkedDisk, on *partition.Window) (what string, err error) {
	found, err := superblock.Find(on, 0, on.Size())
	if err != nil {
		return "", err
	}
	if len(found) > 0 {
		what = found[0].What
	}
	zero := func(list ...extent) error {
		target := sparse.Target{W: on}
		for _, e := range list {
			from, to := max(e.off, 0), min(e.end(), on.Size())
			if from >= to {
				continue
			}
			if err := target.Zeros(from, to-from); err != nil {
				return err
			}
		}
		return toMedium(disk)
	}
	for _, e := range keyAreas(on) {
		if err := zero(e); err != nil {
			return "", err
		}
	}
	// Headers that are copies before those that they are copies of: what reads one that is gone
	// would take the other.
	slices.SortStableFunc(found, func(a, b superblock.Found) int {
		rank := map[bool]int{true: 0, false: 1}
		return rank[a.Copy] - rank[b.Copy]
	})
	sector := int64(max(disk.SectorSize(), 512))
	for _, f := range found {
		from := f.At / sector * sector
		if err := zero(extent{from, (f.At+int64(len(f.Magic))+sector-1)/sector*sector - from}); err != nil {
			return "", err
		}
	}
	// What is behind it: more headers than one, the structures of file systems, and room for what a
	// later one may take for its own.
	ends := []extent{{0, wipedReset}, {on.Size() - wipedBack, wipedBack}}
	for _, s := range superblock.Rows() {
		if off, ok := s.At(on.Size()); ok {
			from := off / sector * sector
			ends = append(ends, extent{from, (off+int64(len(s.Magic))+sector-1)/sector*sector - from})
		}
	}
	if err := zero(ends...); err != nil {
		return "", err
	}
	left, err := superblock.Find(on, 0, on.Size())
	if err == nil && len(left) > 0 {
		err = &LostWriteError{Offset: left[0].At, Size: int64(len(left[0].Magic))}
	}
	return what, err
}

// wipedReset is how much of the front of a partition becomes zero: all of the header and the key
// slots of a LUKS2 volume as cryptsetup makes it, of 16 MiB, and with the largest header.
const wipedReset = 32 << 20

// keyAreas are where the key slots of a LUKS2 volume lie. Of a header that cannot be read they are
// within the front that is made zero.
func keyAreas(on osmith.Source) (list []extent) {
	h, err := luks.Read(on)
	if err != nil {
		return nil
	}
	for _, s := range h.Slots {
		if s.Area.Size > 0 {
			list = append(list, extent{s.Area.Offset, s.Area.Size})
		}
	}
	if h.KeyslotsSize > 0 {
		list = append(list, extent{2 * h.Size, h.KeyslotsSize})
	}
	return list
}
