package upgrade

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/verity"
)

// choose finds the target slot and what stands in its way.
func (p *Plan) choose(ctx context.Context) error {
	stem := p.identity.label()
	name, err := bootloader.CountedName(stem, p.tries)
	if err != nil {
		return err
	}
	p.Entry = entryDirOf(p.from.Path) + "/" + name
	if p.addons, err = p.addonFiles(); err != nil {
		return err
	}
	for _, e := range p.state.Entries {
		if p.alone() != p.state.isAlone(e) || !p.alone() && (e.Slot == nil || !slices.Equal(e.RootHash, p.release.RootHash)) {
			continue
		}
		if whole, err := p.isInstalled(ctx, e); err != nil {
			return err
		} else if whole {
			p.Installed, p.Target, p.Entry = true, e.Slot, e.Path
			return nil
		}
	}
	if err := p.findStaged(); err != nil {
		return err
	}
	if p.alone() {
		return p.makeRoom()
	}
	kept, err := p.state.kept()
	if err != nil {
		return err
	}
	if p.Target, err = p.target(kept); err != nil {
		return err
	}
	p.resumes = p.Target.State == partition.SlotPartial || slices.Equal(p.Target.RootHash, p.release.RootHash)
	p.labels = p.slotLabels()
	if err := p.state.slots.CheckLabels(p.Target.Slot, p.labels); err != nil {
		return err
	}
	goes := func(e *Entry) bool {
		return slices.Contains(e.needs, p.Target) || fat.SameName(uncounted(e.Path), uncounted(p.Entry))
	}
	for _, e := range p.state.Entries {
		if !goes(e) {
			continue
		}
		if i := slices.IndexFunc(e.needs, func(slot *Slot) bool { return slices.Contains(kept, slot) }); i >= 0 && e.Slot == e.needs[i] {
			return fmt.Errorf("%s must be kept, but has the name of the new version with different content", e.Path)
		}
		if err := p.removeEntry(e, goes); err != nil {
			return err
		}
	}
	return p.clear()
}

// clear removes what lies where the new entry comes, and what was staged.
func (p *Plan) clear() error {
	// Add-ons beside the new entry's name are of an earlier one. Credentials, and extensions that
	// the release does not have, are the machine's, and may wait for it.
	files, err := extraFiles(p.state.esp, p.Entry)
	if err != nil {
		return err
	}
	p.remove(slices.DeleteFunc(files, func(f espFile) bool { return !isAddon(f.path) && !isStagedName(f.path) && !p.isExtensionOf(f.path) }))
	p.remove(slices.DeleteFunc(slices.Clone(p.state.staged), p.keepsStaged))
	p.collectGarbage()
	// Staged files have names that a removal on a mounted volume uses. What entries need goes when
	// none needs it any more.
	slices.SortStableFunc(p.obsolete, func(a, b espFile) int {
		last := func(f espFile) int {
			switch {
			case isStagedName(f.path):
				return 0
			case f.remove == StepRemoveEntry:
				return 1
			}
			return 2
		}
		return last(a) - last(b)
	})
	return nil
}

// staged is the name of the UKI until it appears in the menu.
func (p *Plan) staged() string {
	return path.Join(path.Dir(p.Entry), p.identity.label()+stagedSuffix)
}

// findStaged looks whether the UKI is there already under its staged name, whole: then it is not
// written again.
func (p *Plan) findStaged() (err error) {
	if p.leftover.err != nil || p.leftover.discards() {
		return nil
	}
	info, err := p.state.esp.Stat(p.staged())
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() != p.release.UKI.Size() {
		return nil
	}
	if err == nil {
		p.isStaged, err = p.state.sameDigest(p.staged(), p.digests.uki)
	}
	return err
}

// keepsStaged reports whether a staged file is the UKI.
func (p *Plan) keepsStaged(f espFile) bool {
	return p.isStaged && fat.SameName(f.path, p.staged())
}

// removeEntry adds the files of an entry to what is removed first.
func (p *Plan) removeEntry(e *Entry, goes func(*Entry) bool) error {
	files, err := p.state.removed(e, goes)
	if err == nil {
		p.remove(files)
	}
	return err
}

// remove adds to what is removed first. The profiles of one UKI are entries with one path.
func (p *Plan) remove(files []espFile) {
	for _, f := range files {
		if !slices.ContainsFunc(p.obsolete, func(have espFile) bool { return have.path == f.path }) {
			p.obsolete = append(p.obsolete, f)
		}
	}
}

// keptEntries are those that have to stay: of what runs and what firmware has started, or, of a
// machine that is off, of every set that the loader may start by itself.
func (s *State) keptEntries() (list []*Entry, err error) {
	if s.Running == nil {
		list, err = s.mayStart()
	} else {
		list = []*Entry{s.Running, s.Started}
	}
	for _, e := range s.Entries {
		if s.keeps(e) && !slices.Contains(list, e) {
			list = append(list, e)
		}
	}
	return list, err
}

// kept are the slots of those entries, which must not be written.
func (s *State) kept() (slots []*Slot, err error) {
	keep, err := s.keptEntries()
	if err != nil {
		return nil, err
	}
	for _, e := range keep {
		if e.Slot == nil && e == s.Running {
			return nil, fmt.Errorf("%w: which slot is safe to write is unknown", &UnboundError{e.Path, e.RootHash})
		}
		slots = append(slots, e.needs...)
	}
	return slots, nil
}

// NoTargetError says that every slot holds a set that has to stay.
type NoTargetError struct {
	Slots   []string // names
	Offline bool
}

func (e *NoTargetError) Error() string {
	s := fmt.Sprintf("no slot may be overwritten: %s must be kept", strings.Join(e.Slots, " and "))
	if e.Offline {
		s += ", because the loader may start each of them and which of them is good is unknown: commit or roll back the newest, or set Machine.Running"
	}
	return s
}

// SameRootError says that a slot which has to stay holds the same root file system as the release,
// so that the old and the new partitions would have the same IDs.
type SameRootError struct {
	Slot     string
	RootHash []byte
}

func (e *SameRootError) Error() string {
	return fmt.Sprintf("slot %s, which must be kept, already has the root file system of the release, with the root hash %s: use a different verity salt for each release", e.Slot, hash(e.RootHash))
}

// target chooses the slot to write: a free one, then one of a set that has failed, then of one that
// was never found good, then the one whose entry the loader likes least. When the release fits none
// of them, the smallest that may be written is the target, and the fits verdict says what is
// missing.
func (p *Plan) target(kept []*Slot) (*Slot, error) {
	rank := func(s *partition.Slot) int {
		slot := p.state.Slots[s.Index]
		const class = 1 << 20
		switch {
		case slices.Contains(kept, slot):
			return 3 * class
		case s.State != partition.SlotInstalled:
			return -1
		}
		worst := 0
		for i, e := range p.state.Entries {
			if !slices.Contains(e.needs, slot) {
				continue
			}
			// The menu has those without tries left behind all others.
			at := class + len(p.state.Entries) - i
			if !e.Counted {
				at += class
			}
			worst = max(worst, at)
		}
		return worst
	}
	o := partition.TargetOptions{
		DataSize: p.dataSize(), TreeSize: p.release.Tree.Size(),
		Compare: func(a, b *partition.Slot) int { return cmp.Compare(rank(a), rank(b)) },
	}
	may := func(s *partition.Slot) bool { return !slices.Contains(kept, p.state.Slots[s.Index]) }
	// The IDs of the release's partitions may be on the disk only once. What an interrupted upgrade
	// has written is written again.
	if slot := p.state.holding(p.release.RootHash); slot != nil {
		if !may(slot.Slot) {
			return nil, &SameRootError{Slot: slot.Name(), RootHash: p.release.RootHash}
		}
		return slot, nil
	}
	target, err := p.state.slots.Target(o)
	var space *partition.SpaceError
	if errors.As(err, &space) || err == nil && !may(target.Slot) {
		o.DataSize, o.TreeSize = 0, 0
		target, err = p.state.slots.Target(o)
	}
	if err != nil {
		return nil, err
	}
	if !may(target.Slot) {
		e := &NoTargetError{Offline: p.machine.Offline}
		for _, s := range p.state.Slots {
			e.Slots = append(e.Slots, s.Name())
		}
		return nil, e
	}
	return p.state.Slots[target.Slot.Index], nil
}

// isInstalled reports whether an entry and its slot hold the release whole, and it runs or is what
// the loader starts next, so that there is nothing to write. A slot that was damaged since is
// written anew, unless it is the running one.
func (p *Plan) isInstalled(ctx context.Context, e *Entry) (bool, error) {
	if e != p.state.Running && (e.Bad() || e != p.state.Next) {
		return false, nil
	}
	same, err := p.state.sameDigest(e.Path, p.digests.uki)
	if err != nil || !same {
		return false, err
	}
	addons := 0
	for _, f := range e.files {
		if isAddon(f.path) {
			addons++
		}
	}
	if addons != len(p.release.Addons) {
		return false, nil
	}
	for _, a := range p.release.Addons {
		same, err := p.state.sameDigest(path.Join(extraDir(e.Path), a.Name), p.digests.addons[a.Name])
		if err != nil || !same {
			return false, err
		}
	}
	if has, err := p.hasExtensions(e); err != nil || !has {
		return false, err
	}
	if e == p.state.Running || e.Slot == nil {
		return true, nil
	}
	t := p.state.table
	err = verity.Verify(ctx, t.Section(p.disk, e.Slot.Data), t.Section(p.disk, e.Slot.Tree), p.release.RootHash)
	return err == nil, ctx.Err()
}
