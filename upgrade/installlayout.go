package upgrade

import (
	"errors"
	"fmt"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/partition/luks"
	"github.com/osmith-dev/osmith/verity"
)

// layOut makes the disk as it will be. What does not fit is in the verdict; nothing more is known
// of the disk then.
func (p *InstallPlan) layOut(fits *Verdict) error {
	l := p.options.Layout
	l.Size, l.SectorSize, l.Seed, l.LayoutOnly = p.disk.Size(), p.options.SectorSize, p.options.Seed, true
	l.Partitions = slices.Clone(l.Partitions)
	if err := p.checkSizes(l.Partitions); err != nil {
		return err
	}
	image, err := partition.Plan(l)
	if space, ok := errors.AsType[*partition.SpaceError](err); ok {
		fits.fail(space)
		return nil
	}
	if err != nil {
		return err
	}
	p.image, p.Table = image, image.Table
	p.claim = &partition.Table{DiskID: p.Table.DiskID, SectorSize: p.Table.SectorSize, Size: p.Table.Size}
	if err := p.fillSlots(fits); err != nil {
		return err
	}
	if p.espIndex = slices.IndexFunc(p.Table.Partitions, func(q partition.Partition) bool { return q.Type == partition.ESP }); p.espIndex < 0 {
		return fmt.Errorf("the layout: %w", ErrNoESP)
	}
	if err := p.Table.Check(); err != nil {
		return err
	}
	if err := p.makeESP(fits); err != nil {
		return err
	}
	if err := p.makeState(); err != nil {
		return err
	}
	if fits.Outcome == OutcomeFail {
		p.image = nil
		return nil
	}
	return p.assemble()
}

// checkSizes refuses what a layout for machines cannot have. Sizes that follow from the first
// release fit no later one.
func (p *InstallPlan) checkSizes(specs []partition.Spec) error {
	esps := 0
	for _, s := range specs {
		_, _, isSlot := arch.ByType(s.Type)
		switch {
		case s.Type == partition.XBOOTLDR:
			return fmt.Errorf("the layout has an extended boot loader partition (%q), which an installation does not fill", s.Name)
		case s.Type == partition.ESP:
			esps++
		case !isSlot:
			continue
		}
		if s.Content != nil {
			return fmt.Errorf("the layout has a content for %q, which is made by the installation", s.Name)
		}
		if s.Size == 0 && s.MinSize == 0 && !p.options.Layout.Repart {
			return fmt.Errorf("the layout gives no size for %q (%s): want a size large enough for all future releases", s.Name, partition.TypeName(s.Type))
		}
	}
	if esps != 1 {
		return fmt.Errorf("the layout has %d EFI system partitions: want one", esps)
	}
	return nil
}

// fillSlots gives the first slot the names and IDs of the release, and leaves the others empty.
func (p *InstallPlan) fillSlots(fits *Verdict) (err error) {
	set := p.set
	p.slots, err = partition.FindSlots(p.Table, partition.SlotOptions{})
	if set.alone() {
		return nil // and slots, if there are any, stay empty
	}
	if err != nil {
		return fmt.Errorf("the layout: %w", err)
	}
	first := p.slots.Slots[0]
	p.Slot = first.Name()
	if first.Tree < 0 {
		return fmt.Errorf("the layout: slot %s has no partition for the hash tree", first.Name())
	}
	for _, other := range p.slots.Slots[1:] {
		p.slots.Vacate(other)
	}
	labels := partition.Labels{Data: set.identity.label()}
	if set.patterns != (partition.Labels{}) {
		labels = set.slotLabels()
	}
	if err := p.slots.Install(first, labels, set.release.RootHash); err != nil {
		return err
	}
	_, list, _ := findSlots(p.Table)
	set.Target, set.state = list[0], &State{table: p.Table}
	set.judgeSlot(fits)
	if len(p.slots.Slots) < 2 {
		fits.warn("the layout has one slot: upgrades need two")
	}
	if set.signature != nil && first.Signature >= 0 && fits.Outcome != OutcomeFail {
		_, size := p.Table.Extent(first.Signature)
		if p.signature, err = set.signature.Partition(min(size, verity.MaxSignaturePartition)); err != nil {
			return err
		}
	}
	return nil
}

// makeESP makes the whole file system of the ESP.
func (p *InstallPlan) makeESP(fits *Verdict) error {
	off, size := p.Table.Extent(p.espIndex)
	sector := p.Table.SectorSize
	o := fat.BuildOptions{Size: size, SectorSize: sector, Label: "ESP", Time: p.options.Time, HiddenSectors: uint32(off / int64(sector)),
		VolumeID: partition.FATVolumeID(p.Table.Partitions[p.espIndex].ID)}
	none, err := fat.Plan(nil, o)
	if err != nil {
		return fmt.Errorf("the ESP: %w", err)
	}
	empty, err := fat.OpenReader(none)
	if err != nil {
		return err
	}
	installation, err := bootloader.PlanInstallation(empty, p.options.Loader, bootloader.InstallationOptions{RandomSeed: p.options.RandomSeed})
	if err != nil {
		return err
	}
	var files []osmith.ESPFile
	for _, c := range installation.Changes {
		files = append(files, osmith.ESPFile{Path: c.Path, Content: c.Content})
	}
	r := &p.set.release
	p.set.Entry = p.Entry
	if p.set.addons, err = p.set.addonFiles(); err != nil {
		return err
	}
	for _, a := range p.set.addons {
		files = append(files, osmith.ESPFile{Path: a.path, Content: a.src})
	}
	files = append(files, osmith.ESPFile{Path: p.Entry, Content: r.UKI})
	if p.options.Recovery != nil {
		files = append(files, osmith.ESPFile{Path: p.recoveryPath(), Content: p.options.Recovery.UKI})
	}
	made, err := fat.Plan(files, o)
	if space, ok := errors.AsType[*fat.SpaceError](err); ok {
		fits.fail(fmt.Errorf("the ESP: %w", space))
		return nil
	}
	if err != nil {
		return fmt.Errorf("the ESP: %w", err)
	}
	p.esp = made
	volume, err := fat.OpenReader(made)
	if err != nil {
		return err
	}
	cluster := volume.ClusterSize()
	if need, have := (r.UKI.Size()+cluster-1)/cluster*cluster+cluster, volume.Free(); need > have {
		fits.warn("%d bytes of the ESP are left, and a UKI of this size needs %d: no release can be installed beside this one", have, need)
	} else {
		fits.pass("ESP: %d of %d bytes are left, %d releases of this size", have, size, have/need)
	}
	return nil
}

// makeState opens what the layout has for other partitions, and formats encrypted volumes in
// memory.
func (p *InstallPlan) makeState() error {
	used := map[int]bool{p.espIndex: true}
	if p.slots != nil {
		for _, s := range p.slots.Slots {
			used[s.Data], used[s.Tree], used[s.Signature] = true, true, true
		}
	}
	for i, q := range p.Table.Partitions {
		if content := p.image.Content(i); !used[i] && content != nil {
			p.state = append(p.state, stateContent{index: i, content: pin(content, "the content of "+q.Name)})
			used[i] = true
		}
	}
	for _, v := range p.options.Volumes {
		i := slices.IndexFunc(p.Table.Partitions, func(q partition.Partition) bool { return q.Name == v.Partition })
		switch {
		case i < 0:
			return fmt.Errorf("the encrypted volume %q: the layout has no such partition", v.Partition)
		case used[i]:
			return fmt.Errorf("the encrypted volume %q: the partition already has other content", v.Partition)
		}
		used[i] = true
		made, err := p.makeVolume(i, v)
		if err != nil {
			return fmt.Errorf("the encrypted volume %q: %w", v.Partition, err)
		}
		p.state = append(p.state, stateContent{index: i, volume: made})
	}
	slices.SortFunc(p.state, func(a, b stateContent) int { return a.index - b.index })
	return nil
}

// makeVolume formats a volume on a partition in memory.
func (p *InstallPlan) makeVolume(i int, v NewVolume) (*scratch, error) {
	_, size := p.Table.Extent(i)
	on := &scratch{&plannedDisk{size: size}, map[int64][scratchSector]byte{}}
	o := v.Format
	o.TargetIsZero = true
	if o.UUID.IsZero() {
		o.UUID = partition.LUKSID(p.Table.Partitions[i].ID)
	}
	if v.Passphrase == nil && v.Keys == nil {
		return nil, errors.New("neither a passphrase nor keys, so nothing could unlock the volume")
	}
	made, key, err := luks.Format(on, v.Passphrase, o)
	if err != nil {
		return nil, err
	}
	defer key.Clear()
	if v.Keys != nil {
		if err := v.Keys(made, key); err != nil {
			return nil, err
		}
	}
	h, err := luks.Read(on)
	if err != nil {
		return nil, err
	}
	if len(h.Slots) == 0 {
		return nil, errors.New("no key slot, so nothing could unlock the volume")
	}
	return on, nil
}

// assemble puts the disk together in memory, its table with it.
func (p *InstallPlan) assemble() error {
	whole := &plannedDisk{size: p.disk.Size()}
	at := func(i int, src osmith.Source) {
		off, _ := p.Table.Extent(i)
		whole.put(off, src)
	}
	at(p.espIndex, p.esp)
	if set := p.set; !set.alone() {
		t := set.Target
		at(t.Data, set.release.Root)
		at(t.Tree, set.release.Tree)
		if p.signature != nil {
			at(t.Signature, bytesSource(p.signature))
		}
	}
	for _, s := range p.state {
		if s.volume != nil {
			at(s.index, s.volume)
		} else {
			at(s.index, s.content)
		}
	}
	p.planned = &scratch{whole, map[int64][scratchSector]byte{}}
	if err := p.claim.Write(p.planned); err != nil {
		return err
	}
	return p.putTable(p.planned)
}

// putTable writes the table with the partitions over the one without. That is one that is in force:
// firmware and kernel find the one or the other at any time, whereas a table that is written anew
// has a moment in which firmware goes by the backup, and the kernel, which looks for none, finds no
// partitions.
func (p *InstallPlan) putTable(disk osmith.Disk) error {
	t, err := partition.Read(disk, partition.ReadOptions{SectorSize: p.Table.SectorSize})
	if err != nil {
		return err
	}
	if t.DiskID != p.Table.DiskID {
		return fmt.Errorf("the table has the disk ID %s: want %s, as it was claimed", t.DiskID, p.Table.DiskID)
	}
	t.Partitions = slices.Clone(p.Table.Partitions)
	return t.Write(disk)
}
