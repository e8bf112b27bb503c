package upgrade

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sparse"
	"github.com/osmith-dev/osmith/internal/superblock"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/verity"
)

// The kinds of steps of an installation, in their order; [StepWriteRoot], [StepWriteTree],
// [StepWriteSignature] and [StepVerifySlot] come after StepWipeSignatures.
const (
	// of the contents to be lost: on a disk that grew, the backup table is not where firmware looks
	// for it
	StepRepairTable StepKind = "repair-table"
	// a table without partitions, with the disk ID of the installation: the point of no return
	StepClaimDisk StepKind = "claim-disk"
	// by which file systems, volumes and members of RAIDs would be recognised
	StepWipeSignatures StepKind = "wipe-signatures"
	StepWriteState     StepKind = "write-state" // into partitions that are neither ESP nor slot
	StepWriteESP       StepKind = "write-esp"   // its whole file system
	// the table with the partitions: from here on the disk boots
	StepActivateDisk StepKind = "activate-disk"
	StepBootOption   StepKind = "boot-option" // in the variables of firmware
)

// InstallResult is the result of an installation whose disk is written.
type InstallResult struct {
	// BootOption are the changes of variables. BootOptionErr says why firmware refused them, or why
	// they were not made: the disk is installed nevertheless, and firmware finds the loader in
	// EFI/BOOT.
	BootOption    []bootloader.ChangeResult
	BootOptionErr error
}

// steps works out what is to be done, in its order, and what a power cut leaves.
func (p *InstallPlan) steps() {
	const nothingBoots = "nothing boots from the disk; the same installation goes on with it"
	add := func(kind StepKind, target string, n int64, cut string) {
		p.Steps = append(p.Steps, Step{Kind: kind, Target: target, Bytes: n, Cut: cut})
	}
	if p.Installed {
		if t := p.seen.table; t.UsedBackup || t.PrimaryErr != nil || t.BackupErr != nil {
			add(StepActivateDisk, "the partition table", 0, "the disk boots")
		}
	} else {
		if p.repairs {
			add(StepRepairTable, "the old partition table", 0, "what was on the disk is there")
		}
		add(StepClaimDisk, "the disk", 0, nothingBoots)
		if p.Erases != nil {
			s := &p.Steps[len(p.Steps)-1]
			s.Cut, s.OneWay = "what was on the disk is there, or nothing boots from it and the same installation goes on with it", true
		}
		if p.wipes = p.findWipes(); !p.seen.Empty() {
			n := int64(0)
			for _, e := range p.wipes {
				n += e.size
			}
			add(StepWipeSignatures, "the disk", n, nothingBoots)
		}
		if set := p.set; !set.alone() {
			slot, root, tree := "slot "+p.Slot, set.dataSize(), set.release.Tree.Size()
			add(StepWriteRoot, slot, root, nothingBoots)
			add(StepWriteTree, slot, tree, nothingBoots)
			if p.signature != nil {
				add(StepWriteSignature, slot, int64(len(p.signature)), nothingBoots)
			}
			add(StepVerifySlot, slot, root+tree, nothingBoots)
		}
		for _, s := range p.state {
			add(StepWriteState, p.Table.Partitions[s.index].Name, s.bytes(), nothingBoots)
		}
		add(StepWriteESP, "ESP", 2*p.esp.Size(), nothingBoots)
		add(StepActivateDisk, "the partition table", 0, fmt.Sprintf("nothing boots from the disk, and the same installation goes on with it; or %s boots", p.Entry))
	}
	if p.BootOption != nil && len(p.BootOption.Changes) > 0 {
		add(StepBootOption, fmt.Sprintf("Boot%04X", p.BootOption.Number), 0, fmt.Sprintf("%s boots, by the boot option or by EFI/BOOT; the same installation makes the boot option", p.Entry))
	}
}

// bytes are those that are written.
func (s *stateContent) bytes() (n int64) {
	if s.volume == nil {
		return s.content.Size()
	}
	for _, e := range s.volume.extents() {
		n += e.size
	}
	return n
}

// How many bytes of both ends of a new partition are zeroed: a LUKS2 volume has up to two headers
// of 4 MiB.
const (
	wipedFront = 8<<20 + 4096
	wipedBack  = 1 << 20
)

// findWipes are the places by which something old would be recognised: both ends of the new
// partitions, what is in front of the first and behind the last, and every place of a signature of
// the disk as a whole.
func (p *InstallPlan) findWipes() (list []extent) {
	ss := int64(p.Table.SectorSize)
	first, end := int64(p.Table.FirstUsableLBA)*ss, int64(p.Table.LastUsableLBA+1)*ss
	free := extent{int64(p.Table.FirstUsableLBA) * ss, end - first}
	add := func(e extent) {
		const block = 4096
		from, to := max(e.off/block*block, free.off), min((e.end()+block-1)/block*block, free.end())
		if from < to {
			list = append(list, extent{from, to - from})
		}
	}
	add(extent{first, min(probedOfDisk, end-first)})
	add(extent{max(end-probedOfDisk, first), min(probedOfDisk, end-first)})
	within := func(e extent) {
		for _, s := range superblock.Rows() {
			if off, ok := s.At(e.size); ok {
				add(extent{e.off + off, int64(len(s.Magic))})
			}
		}
	}
	within(extent{0, p.disk.Size()})
	for i := range p.Table.Partitions {
		off, size := p.Table.Extent(i)
		e := extent{off, size}
		add(extent{e.off, min(wipedFront, size)})
		add(extent{max(e.end()-wipedBack, e.off), min(wipedBack, size)})
		within(e)
	}
	slices.SortFunc(list, func(a, b extent) int { return int(min(max(a.off-b.off, -1), 1)) })
	merged := list[:0]
	for _, e := range list {
		if n := len(merged); n > 0 && e.off <= merged[n-1].end() {
			merged[n-1].size = max(merged[n-1].size, e.end()-merged[n-1].off)
		} else {
			merged = append(merged, e)
		}
	}
	return merged
}

// Apply carries the plan out. Without the verdicts, and without an override that names each failed
// one, it is a [*RefusedError] and nothing is written. The disk must have a method Sync
// ([ErrNoSync]) and must not be in use ([*InUseError]); it is locked meanwhile. If its contents
// have changed since the plan was made, the error is a [*ChangedError], and nothing is written.
//
// Until [StepClaimDisk] the disk is as it was; from there to the end of [StepActivateDisk] it has a
// table without partitions, so that firmware finds no file system and no loader on it. After an
// error or a power cut, the same call with the same seed continues. All data is read back, from the
// medium if the disk supports that, before the table names its partition. If firmware refuses the
// boot option, the result says so, without an error.
//
// The kernel of the machine that runs the installer still has the old partitions: call
// [partition.UpdateKernel], or restart.
func (p *InstallPlan) Apply(ctx context.Context, progress Progress) (result *InstallResult, err error) {
	defer prefix.Add("upgrade", &err)
	if err := p.Refused(); err != nil {
		return nil, err
	}
	if p.applied {
		return nil, ErrApplied
	}
	result = &InstallResult{BootOptionErr: p.BootOptionErr}
	if len(p.Steps) == 0 {
		p.applied = true
		return result, nil
	}
	if err := alone(p.disk, func() error { return p.apply(ctx, progress, result) }); err != nil {
		return nil, err
	}
	return result, nil
}

func (p *InstallPlan) apply(ctx context.Context, progress Progress, result *InstallResult) (err error) {
	held, err := p.exclusively()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held()) }()
	now, err := readContents(p.disk, p.places())
	if err != nil {
		return err
	}
	if now.Digest != p.seen.Digest {
		return &ChangedError{"what is on the disk"}
	}
	p.applied = true
	a := applier{plan: p.set, ctx: ctx, progress: progress, total: totalBytes(p.Steps)}
	for i, s := range p.Steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		a.step = i
		a.report(0)
		if s.Kind == StepBootOption {
			result.BootOption, result.BootOptionErr = p.BootOption.Apply(p.options.Variables)
			continue
		}
		err := p.do(&a, s)
		if err == nil {
			err = toMedium(p.disk)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

func (p *InstallPlan) do(a *applier, s Step) error {
	set := p.set
	window := func(i int) *partition.Window { return p.Table.Window(p.disk, i) }
	switch s.Kind {
	case StepRepairTable:
		return p.repairTable()
	case StepClaimDisk:
		return p.claimDisk()
	case StepWipeSignatures:
		return p.wipe(a)
	case StepWriteRoot:
		return a.copyVerified(window(set.Target.Data), set.release.Root, set.image(), p.Resumes)
	case StepWriteTree:
		return a.copy(window(set.Target.Tree), set.release.Tree)
	case StepWriteSignature:
		a.report(s.Bytes)
		return p.writePiece(window(set.Target.Signature), 0, bytesSource(p.signature), s.Target)
	case StepVerifySlot:
		err := verity.Verify(a.ctx, window(set.Target.Data), window(set.Target.Tree), set.release.RootHash)
		a.report(s.Bytes)
		return err
	case StepWriteState:
		i := slices.IndexFunc(p.state, func(c stateContent) bool { return p.Table.Partitions[c.index].Name == s.Target })
		return p.writeState(a, &p.state[i])
	case StepWriteESP:
		return p.writeWhole(a, window(p.espIndex), p.esp, s.Target)
	case StepActivateDisk:
		return p.activate()
	}
	return fmt.Errorf("no step of the kind %q", s.Kind)
}

// repairTable makes the table of before whole, so that a power cut while it is replaced leaves it
// or nothing. Where it had its backup before the disk grew is made zero then.
func (p *InstallPlan) repairTable() error {
	ss := int64(p.seen.table.SectorSize)
	done, err := partition.Repair(p.disk, partition.RepairOptions{SectorSize: int(ss)})
	if err != nil || done.MovedFrom == done.MovedTo || done.MovedFrom == 0 {
		return err
	}
	if err := toMedium(p.disk); err != nil {
		return err
	}
	entries := int64(p.seen.table.Entries) * 128
	from := max(int64(done.MovedFrom)*ss-(entries+ss-1)/ss*ss, 0)
	old := extent{from, int64(done.MovedFrom+1)*ss - from}
	// A partition may have it by now.
	for i := range p.seen.table.Partitions {
		if off, size := p.seen.table.Extent(i); off < old.end() && old.off < off+size {
			return nil
		}
	}
	target := sparse.Target{W: p.disk}
	return target.Zeros(old.off, old.size)
}

// claimDisk writes a table without partitions. Sector 0 goes first where it is something else than
// the protective MBR, since it may be a file system with a loader, or list partitions; behind it
// firmware finds a GPT or nothing.
func (p *InstallPlan) claimDisk() error {
	on := &scratch{&plannedDisk{size: p.disk.Size()}, map[int64][scratchSector]byte{}}
	if err := p.claim.Write(on); err != nil {
		return err
	}
	want, have := make([]byte, p.claim.SectorSize), make([]byte, p.claim.SectorSize)
	if err := sparse.ReadFull(on, want, 0); err != nil {
		return err
	}
	if err := sparse.ReadFull(p.disk, have, 0); err != nil {
		return err
	}
	if !bytes.Equal(have, want) {
		if _, err := p.disk.WriteAt(want, 0); err != nil {
			return err
		}
		if err := toMedium(p.disk); err != nil {
			return err
		}
	}
	return p.claim.Write(p.disk)
}

// wipe makes the places zero by which something old would be recognised.
func (p *InstallPlan) wipe(a *applier) error {
	for _, e := range p.wipes {
		if err := a.ctx.Err(); err != nil {
			return err
		}
		target := sparse.Target{W: p.disk, Sync: true}
		if err := target.Zeros(e.off, e.size); err != nil {
			return err
		}
		a.report(e.size)
	}
	return nil
}

// writeState fills a partition that is neither ESP nor slot.
func (p *InstallPlan) writeState(a *applier, s *stateContent) error {
	to, name := p.Table.Window(p.disk, s.index), p.Table.Partitions[s.index].Name
	if s.volume == nil {
		if err := a.copy(to, s.content); err != nil {
			return err
		}
		return p.compare(a, to, 0, s.content, name)
	}
	for _, e := range s.volume.extents() {
		b := make([]byte, e.size)
		if err := sparse.ReadFull(s.volume, b, e.off); err != nil {
			return err
		}
		if err := p.writePiece(to, e.off, bytesSource(b), name); err != nil {
			return err
		}
		a.report(e.size)
	}
	return nil
}

// writeWhole writes all of a partition, and reads it back.
func (p *InstallPlan) writeWhole(a *applier, to *partition.Window, content osmith.Source, name string) error {
	if err := a.copy(to, content); err != nil {
		return err
	}
	return p.compare(a, to, 0, content, name)
}

// writePiece writes a piece of a partition, and reads it back.
func (p *InstallPlan) writePiece(to *partition.Window, off int64, content osmith.Source, name string) error {
	target := sparse.Target{W: to}
	if err := target.Copy(off, content, content.Size()); err != nil {
		return err
	}
	return p.compare(nil, to, off, content, name)
}

// compare reads back from the medium what was written. What is read of the release or the options
// again is the same, or an error ([pinned]).
func (p *InstallPlan) compare(a *applier, on osmith.Source, off int64, want osmith.Source, name string) error {
	if err := toMedium(p.disk); err != nil {
		return err
	}
	have, expect := make([]byte, copyChunk), make([]byte, copyChunk)
	for at := int64(0); at < want.Size(); at += copyChunk {
		h := have[:min(copyChunk, want.Size()-at)]
		w := expect[:len(h)]
		if err := errors.Join(sparse.ReadFull(on, h, off+at), sparse.ReadFull(want, w, at)); err != nil {
			return err
		}
		if !bytes.Equal(h, w) {
			sum, err := digest(want)
			return errors.Join(&ReadBackError{Path: name, Want: sum}, err)
		}
		if a == nil {
			continue
		}
		if err := a.ctx.Err(); err != nil {
			return err
		}
		a.report(int64(len(h)))
	}
	return nil
}

// activate writes the table with the partitions, and reads it back.
func (p *InstallPlan) activate() error {
	if p.Installed {
		return p.putTableRight()
	}
	if err := p.putTable(p.disk); err != nil {
		return err
	}
	if err := toMedium(p.disk); err != nil {
		return err
	}
	for _, e := range p.planned.extents() { // where the table was written on the planned disk
		have, want := make([]byte, e.size), make([]byte, e.size)
		if err := errors.Join(sparse.ReadFull(p.disk, have, e.off), sparse.ReadFull(p.planned, want, e.off)); err != nil {
			return err
		}
		if !bytes.Equal(have, want) {
			return &LostWriteError{Offset: e.off, Size: e.size}
		}
	}
	return nil
}

// putTableRight makes both copies of a table whole that has all partitions already.
func (p *InstallPlan) putTableRight() error {
	if _, err := partition.Repair(p.disk, partition.RepairOptions{SectorSize: p.Table.SectorSize}); err != nil {
		return err
	}
	if err := toMedium(p.disk); err != nil {
		return err
	}
	t, err := partition.Read(p.disk, partition.ReadOptions{SectorSize: p.Table.SectorSize})
	if err == nil && (!p.sameTable(t) || t.UsedBackup || t.BackupErr != nil) {
		err = errors.Join(errors.New("the partition table differs from what was written: the medium may be failing"), t.PrimaryErr, t.BackupErr)
	}
	return err
}
