package upgrade

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	bootslots "github.com/osmith-dev/osmith/bootloader/slots"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sparse"
	"github.com/osmith-dev/osmith/partition"
)

// A SlotStore is where a machine keeps the state of its slots, in place of the boot counters of an
// ESP: the data that [github.com/osmith-dev/osmith/bootloader/slots] reads and changes, and its
// place. [GPTSlots], [VariableSlots] and [CopySlots] are stores.
type SlotStore interface {
	// Slots reads the store as it is on the medium.
	Slots() (bootslots.Store, error)

	// Change makes the writes of a change in their order; each write is on the medium before the
	// next one begins. If the store differs from the state for which the change was made, the error
	// is a [*ChangedError].
	Change(c *bootslots.Change) error
}

// GPTSlots are the attributes of the entries of a disk's partition table: gptprio of ChromeOS,
// Flatcar and Bottlerocket. All writes of a change go into one update of the table.
type GPTSlots struct {
	Disk    osmith.Disk
	Profile bootslots.GPTProfile
}

// Slots implements [SlotStore].
func (g GPTSlots) Slots() (s bootslots.Store, err error) {
	defer prefix.Add("upgrade", &err)
	table, err := g.read()
	if err != nil {
		return nil, err
	}
	return g.store(table)
}

func (g GPTSlots) read() (*partition.Table, error) {
	if err := pastCache(g.Disk); err != nil {
		return nil, err
	}
	return partition.Read(g.Disk, partition.ReadOptions{})
}

func (g GPTSlots) store(table *partition.Table) (*bootslots.GPTPrio, error) {
	var all []bootslots.GPTPartition
	for _, p := range table.Partitions {
		all = append(all, bootslots.GPTPartition{Number: p.Number, Type: p.Type, Attributes: bootslots.GPTAttributes(p.Attributes)})
	}
	slices.SortFunc(all, func(a, b bootslots.GPTPartition) int { return a.Number - b.Number })
	return bootslots.NewGPTPrio(g.Profile, all)
}

// Change implements [SlotStore].
func (g GPTSlots) Change(c *bootslots.Change) (err error) {
	defer prefix.Add("upgrade", &err)
	if len(c.Writes) == 0 {
		return nil
	}
	table, err := g.read()
	if err != nil {
		return err
	}
	for _, w := range c.Writes {
		i := slices.IndexFunc(table.Partitions, func(p partition.Partition) bool { return p.Number == w.Number })
		if i < 0 || len(w.Before) != 8 || len(w.After) != 8 || table.Partitions[i].Attributes != binary.LittleEndian.Uint64(w.Before) {
			return &ChangedError{"the state of the slots in the partition table"}
		}
		table.Partitions[i].Attributes = binary.LittleEndian.Uint64(w.After)
	}
	disk := checked(g.Disk)
	if err := table.Write(disk); err != nil {
		return err
	}
	return toMedium(disk)
}

// VariableSlots are boot options of firmware, one for each slot: BootNext names the slot to try,
// and BootOrder the good ones (Azure Linux, Trident).
type VariableSlots struct {
	Store   bootloader.VariableStore
	Options []uint16 // numbers of the Boot#### of the slots
}

// Slots implements [SlotStore].
func (v VariableSlots) Slots() (s bootslots.Store, err error) {
	defer prefix.Add("upgrade", &err)
	b := bootslots.BootVariables{Active: map[uint16]bool{}}
	for name, to := range map[string]*[]byte{"BootOrder": &b.BootOrder, "BootNext": &b.BootNext, "BootCurrent": &b.BootCurrent} {
		switch found, err := bootloader.ReadVariable(v.Store, name, efi.GlobalVariable); {
		case err == nil:
			*to = append([]byte{}, found.Data...)
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	machine, err := bootloader.ReadVariables(v.Store)
	if err != nil {
		return nil, err
	}
	for _, n := range v.Options {
		b.Active[n] = false
	}
	for _, o := range machine.Options {
		b.Active[o.Number] = o.Active
	}
	return bootslots.NewBootOrder(b, v.Options...)
}

// Change implements [SlotStore].
func (v VariableSlots) Change(c *bootslots.Change) (err error) {
	defer prefix.Add("upgrade", &err)
	for _, w := range c.Writes {
		found, err := bootloader.ReadVariable(v.Store, w.Object, efi.GlobalVariable)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if (err == nil) != (w.Before != nil) || !bytes.Equal(found.Data, w.Before) {
			return &ChangedError{w.Object}
		}
		if w.After == nil {
			err = v.Store.Delete(w.Object, efi.GlobalVariable)
		} else {
			err = v.Store.Set(bootloader.EFIVariable{Name: w.Object, Vendor: efi.GlobalVariable, Attributes: bootloader.VariableKept, Data: w.After})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ErrNotWhole says that a change must be atomic, which a write to bytes on a medium is not: keep
// the data in a file that is replaced, or in two copies.
var ErrNotWhole = errors.New("the store must change atomically, which bytes on a medium do not")

// CopySlots are bytes on a medium: the copies of U-Boot's environment, or GRUB's environment block,
// at fixed places that a file system does not move, such as a window of a disk. Each must have a
// method Sync ([ErrNoSync]).
type CopySlots struct {
	Copies []osmith.Disk
	Parse  func(copies ...[]byte) (bootslots.Store, error)
}

// maxCopy bounds a copy, in bytes. Environments have up to 256 KiB.
const maxCopy = 4 << 20

// Slots implements [SlotStore].
func (s CopySlots) Slots() (store bootslots.Store, err error) {
	defer prefix.Add("upgrade", &err)
	var copies [][]byte
	for i, c := range s.Copies {
		if c.Size() > maxCopy {
			return nil, fmt.Errorf("copy %d of the state of the slots has %d bytes, want at most %d", i+1, c.Size(), maxCopy)
		}
		if err := pastCache(c); err != nil {
			return nil, err
		}
		b := make([]byte, c.Size())
		if err := sparse.ReadFull(c, b, 0); err != nil {
			return nil, err
		}
		copies = append(copies, b)
	}
	return s.Parse(copies...)
}

// Change implements [SlotStore]. For a change that must be atomic the error is [ErrNotWhole], and
// nothing is written.
func (s CopySlots) Change(c *bootslots.Change) (err error) {
	defer prefix.Add("upgrade", &err)
	if c.Needs == bootslots.NeedsWhole && len(c.Writes) > 0 {
		return ErrNotWhole
	}
	for _, w := range c.Writes {
		n := max(w.Number, 1) - 1
		if n >= len(s.Copies) {
			return fmt.Errorf("%s: there are %d copies", w.Object, len(s.Copies))
		}
		disk := checked(s.Copies[n])
		if _, ok := disk.Disk.(syncer); !ok {
			return ErrNoSync
		}
		have := make([]byte, len(w.Before))
		if _, err := disk.ReadAt(have, w.Offset); err != nil && err != io.EOF {
			return err
		}
		if !bytes.Equal(have, w.Before) || len(w.After) != len(w.Before) {
			return &ChangedError{w.Object + " of the state of the slots"}
		}
		if _, err := disk.WriteAt(w.After, w.Offset); err != nil {
			return err
		}
		if err := toMedium(disk); err != nil {
			return err
		}
	}
	return nil
}
