package upgrade

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/verity"
)

// StepKind names what a step does.
type StepKind string

// The kinds of steps, in the order in which a plan has them.
const (
	StepRepairESP    StepKind = "repair-esp"    // what a power cut left in its file system
	StepRemoveEntry  StepKind = "remove-entry"  // the boot entry that needs the target slot
	StepRemoveStaged StepKind = "remove-staged" // what an interrupted upgrade left on the ESP
	StepMarkPartial  StepKind = "mark-partial"
	StepWriteRoot    StepKind = "write-root"
	StepWriteTree    StepKind = "write-tree"
	StepVerifySlot   StepKind = "verify-slot"
	StepActivateSlot StepKind = "activate-slot" // final types, labels and IDs
	StepStageUKI     StepKind = "stage-uki"     // under a name the loader does not look at
	StepAddEntry     StepKind = "add-entry"     // rename it: from here on it boots
)

// Step is one part of an upgrade. A power cut within or behind any but the last leaves the old set booting.
type Step struct {
	Kind   StepKind `json:"kind"`
	Target string   `json:"target"` // path on the ESP, or partition
	Bytes  int64    `json:"bytes"`  // that are written or read
	to     string   // of a rename
}

// String is the step in a few words.
func (s Step) String() string {
	switch {
	case s.to != "":
		return fmt.Sprintf("%s %s -> %s", s.Kind, s.Target, path.Base(s.to))
	case s.Bytes > 0:
		return fmt.Sprintf("%s %s (%d bytes)", s.Kind, s.Target, s.Bytes)
	}
	return fmt.Sprintf("%s %s", s.Kind, s.Target)
}

// choose finds the target slot and what stands in its way.
func (p *Plan) choose(ctx context.Context) error {
	stem := p.identity.label()
	name, err := bootloader.CountedName(stem, p.tries)
	if err != nil {
		return err
	}
	p.Entry = entryDir + "/" + name
	for _, e := range p.state.Entries {
		if e.Slot == nil || !slices.Equal(e.RootHash, p.release.RootHash) {
			continue
		}
		if whole, err := p.isInstalled(ctx, e); err != nil {
			return err
		} else if whole {
			p.Installed, p.Target, p.Entry = true, e.Slot, e.Path
			return nil
		}
	}
	running := p.state.Running
	if running.Slot == nil {
		return fmt.Errorf("upgrade: %s names the root hash %s, which no slot holds: there is no telling which slot is safe to write",
			running.Path, hash(running.RootHash))
	}
	if p.Target, err = p.target(running); err != nil {
		return err
	}
	for _, e := range p.state.Entries {
		if e.Slot == p.Target || strings.EqualFold(uncounted(e.Path), entryDir+"/"+stem+".efi") {
			if e == running {
				return fmt.Errorf("upgrade: the running %s has the name of the new version and another content", e.Path)
			}
			// The profiles of one UKI are entries with one path.
			if !slices.ContainsFunc(p.obsolete, func(f espFile) bool { return f.path == e.Path }) {
				p.obsolete = append(p.obsolete, espFile{e.Path, e.size})
			}
		}
	}
	p.obsolete = append(p.obsolete, p.state.staged...)
	return nil
}

// target chooses the slot to write: a free one, or the one whose entry the loader likes least. When the release fits none
// of them, the smallest that may be written is the target, and the fits verdict says what is missing.
func (p *Plan) target(running *Entry) (*Slot, error) {
	rank := func(s *partition.Slot) int {
		if s.State != partition.SlotInstalled {
			return -1
		}
		at := slices.IndexFunc(p.state.Entries, func(e *Entry) bool { return e.Slot != nil && e.Slot.Slot == s })
		if at < 0 {
			return 0
		}
		return 1 + len(p.state.Entries) - at
	}
	o := partition.TargetOptions{
		Running:  running.RootHash,
		DataSize: p.release.Root.Size(), TreeSize: p.release.Tree.Size(),
		Compare: func(a, b *partition.Slot) int { return cmp.Compare(rank(a), rank(b)) },
	}
	target, err := p.state.slots.Target(o)
	var space *partition.SpaceError
	if errors.As(err, &space) {
		o.DataSize, o.TreeSize = 0, 0
		target, err = p.state.slots.Target(o)
	}
	if err != nil {
		return nil, fmt.Errorf("upgrade: %w", err)
	}
	return p.state.Slots[target.Slot.Index], nil
}

// isInstalled reports whether an entry and its slot hold the release whole, so that there is nothing to write. A slot that
// was damaged since is written anew, unless it is the running one.
func (p *Plan) isInstalled(ctx context.Context, e *Entry) (bool, error) {
	if e.Bad() {
		return false, nil
	}
	same, err := sameContent(p.state.esp, e.Path, p.release.UKI)
	if err != nil || !same || e == p.state.Running {
		return same, err
	}
	t := p.state.table
	err = verity.Verify(ctx, t.Section(p.disk, e.Slot.Data), t.Section(p.disk, e.Slot.Tree), p.release.RootHash)
	return err == nil, ctx.Err()
}

// entryDir is where the loader looks for UKIs (UAPI.1, "Type #2 EFI Unified Kernel Images").
const entryDir = "EFI/Linux"

// stagedSuffix ends names of UKIs that are not yet to be booted: the loader looks at *.efi only.
const stagedSuffix = ".staged"

func (p *Plan) steps() {
	t := p.Target
	// Damage that cannot be repaired is in the fits verdict.
	if p.leftover.any() {
		p.Steps = append(p.Steps, Step{Kind: StepRepairESP, Target: "ESP"})
	}
	for _, f := range p.obsolete {
		kind := StepRemoveEntry
		if strings.HasSuffix(f.path, stagedSuffix) {
			kind = StepRemoveStaged
		}
		p.Steps = append(p.Steps, Step{Kind: kind, Target: f.path})
	}
	root, tree := p.release.Root.Size(), p.release.Tree.Size()
	staged := path.Join(path.Dir(p.Entry), p.identity.label()+stagedSuffix)
	p.Steps = append(p.Steps,
		Step{Kind: StepMarkPartial, Target: "slot " + t.Name()},
		Step{Kind: StepWriteRoot, Target: "slot " + t.Name(), Bytes: root},
		Step{Kind: StepWriteTree, Target: "slot " + t.Name(), Bytes: tree},
		Step{Kind: StepVerifySlot, Target: "slot " + t.Name(), Bytes: root + tree},
		Step{Kind: StepActivateSlot, Target: "slot " + t.Name()},
		Step{Kind: StepStageUKI, Target: staged, Bytes: p.release.UKI.Size()},
		Step{Kind: StepAddEntry, Target: staged, to: p.Entry},
	)
}
