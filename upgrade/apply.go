package upgrade

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sparse"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/verity"
)

// StepKind names what a step does.
type StepKind string

// The kinds of steps, in the order in which a plan has them.
const (
	StepRepairESP      StepKind = "repair-esp"      // what a power cut left in its file system
	StepRememberFailed StepKind = "remember-failed" // that the set in the target slot has used up its tries
	StepRemoveEntry    StepKind = "remove-entry"    // the boot entry that needs the target slot
	StepRemoveAddon    StepKind = "remove-addon"    // what lies beside it
	StepRemoveStaged   StepKind = "remove-staged"   // what an interrupted upgrade left on the ESP
	StepMarkPartial    StepKind = "mark-partial"
	StepWriteRoot      StepKind = "write-root"
	StepWriteTree      StepKind = "write-tree"
	StepVerifySlot     StepKind = "verify-slot"
	StepActivateSlot   StepKind = "activate-slot" // final types, labels and IDs
	StepAddAddon       StepKind = "add-addon"     // where the stub of the new entry looks
	StepStageUKI       StepKind = "stage-uki"     // under a name the loader does not look at
	StepAddEntry       StepKind = "add-entry"     // rename it: from here on it boots, or, before prefer-entry, is in the menu
	StepPreferEntry    StepKind = "prefer-entry"  // loader.conf, of a downgrade or after one: from here on it boots
)

// Step is one part of an upgrade. A power cut within or behind any but the last leaves the old set booting.
type Step struct {
	Kind   StepKind `json:"kind"`
	Target string   `json:"target"` // path on the ESP, or partition
	Bytes  int64    `json:"bytes"`  // that are written or read
	to     string   // of a rename

	source  osmith.Source // of a file
	want    [sha256.Size]byte
	content []byte // of a small file
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

// Progress is called while a plan is applied: before each step with its number, and within the steps that write or read
// much. Done and total are bytes of all steps together.
type Progress func(step int, done, total int64)

// ErrApplied is returned when a plan is applied for the second time: the disk is not what it was when the plan was made.
var ErrApplied = errors.New("this plan was applied already, whole or in part: make a new one")

// Apply carries the plan out. Without the verdicts, and without an override that names each failed one, it is a
// [*RefusedError] and nothing is written. After any other error, or a power cut, the old set still boots and the
// upgrade is planned again from what is on the disk; planning and applying a release that is installed changes nothing.
// A plan is applied once ([ErrApplied]).
//
// The disk must be as it was when the plan was made, else it is a [*ChangedError] and nothing is written. Nothing else may write to it while the plan is applied. A UKI or add-on of
// the release that is another one by now is a [*ChangedError], too, before anything boots it; a root file system that is another one does not verify.
func (p *Plan) Apply(ctx context.Context, progress Progress) (err error) {
	defer prefix.Add("upgrade", &err)
	if err := p.Refused(); err != nil {
		return err
	}
	if p.applied {
		return ErrApplied
	}
	if len(p.Steps) > 0 {
		now, err := takeSnapshot(p.disk, p.judged)
		if err == nil {
			err = now.changed(p.before)
		}
		if err != nil {
			return err
		}
	}
	p.applied = true
	a := applier{plan: p, ctx: ctx, progress: progress}
	for _, s := range p.Steps {
		a.total += s.Bytes
	}
	for i, s := range p.Steps {
		a.step = i
		a.report(0)
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := a.do(s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
		if err := syncDisk(p.disk); err != nil {
			return fmt.Errorf("%s: sync: %w", s, err)
		}
	}
	return nil
}

type applier struct {
	plan        *Plan
	ctx         context.Context
	progress    Progress
	step        int
	done, total int64
}

func (a *applier) report(n int64) {
	a.done += n
	if a.progress != nil {
		a.progress(a.step, a.done, a.total)
	}
}

func (a *applier) do(s Step) error {
	p := a.plan
	switch s.Kind {
	case StepRepairESP:
		_, err := p.state.esp.Repair()
		return err
	case StepRememberFailed, StepPreferEntry:
		a.report(s.Bytes)
		return writeWhole(p.state.esp, s.Target, s.content)
	case StepRemoveEntry, StepRemoveAddon, StepRemoveStaged:
		return p.state.esp.Remove(s.Target)
	case StepMarkPartial:
		if err := p.state.slots.Begin(p.Target.Slot, p.identity.label()); err != nil {
			return err
		}
		return p.state.table.Write(p.disk)
	case StepWriteRoot:
		return a.copy(p.root(), p.release.Root)
	case StepWriteTree:
		return a.copy(p.tree(), p.release.Tree)
	case StepVerifySlot:
		err := verity.Verify(a.ctx, p.root(), p.tree(), p.release.RootHash)
		a.report(s.Bytes)
		return err
	case StepActivateSlot:
		if err := p.state.slots.Install(p.Target.Slot, p.identity.label(), p.release.RootHash); err != nil {
			return err
		}
		return p.state.table.Write(p.disk)
	case StepAddAddon, StepStageUKI:
		return a.put(s)
	case StepAddEntry:
		return p.state.esp.Rename(s.Target, s.to)
	}
	return fmt.Errorf("no step of the kind %q", s.Kind)
}

func (p *Plan) root() *partition.Window { return p.state.table.Window(p.disk, p.Target.Data) }
func (p *Plan) tree() *partition.Window { return p.state.table.Window(p.disk, p.Target.Tree) }

// copy writes an image to the start of a partition.
func (a *applier) copy(dst io.WriterAt, src osmith.Source) error {
	target := sparse.Target{W: dst, Progress: a.report, Sync: true} // the step ends with a sync
	return target.Copy(0, cancelSource{src, a.ctx}, src.Size())
}

// put writes a file and reads it back before anything can boot it: it is what the plan was made for, or it is not used.
func (a *applier) put(s Step) error {
	esp := a.plan.state.esp
	if err := esp.MkdirAll(path.Dir(s.Target)); err != nil {
		return err
	}
	if err := esp.WriteFile(s.Target, s.source); err != nil {
		return err
	}
	a.report(s.Bytes)
	same, err := a.plan.state.sameDigest(s.Target, s.want)
	if err != nil || same {
		return err
	}
	// Either the source is another one by now, or the medium does not keep what is written.
	if now, err := digest(s.source); err != nil || now != s.want {
		return errors.Join(&ChangedError{s.Target + " of the release"}, err)
	}
	return &ReadBackError{Path: s.Target, Want: s.want}
}

// ReadBackError says that the ESP did not keep what was written to it.
type ReadBackError struct {
	Path string
	Want [sha256.Size]byte
}

func (e *ReadBackError) Error() string {
	return fmt.Sprintf("%s read back is not what was written (SHA-256 %x): is the medium failing?", e.Path, e.Want)
}

type syncer interface{ Sync() error }

func syncDisk(d any) error {
	if s, ok := d.(syncer); ok {
		return s.Sync()
	}
	return nil
}

// cancelSource ends a long copy when the context does.
type cancelSource struct {
	osmith.Source
	ctx context.Context
}

func (c cancelSource) ReadAt(b []byte, off int64) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.Source.ReadAt(b, off)
}

// NextData knows the holes of the source.
func (c cancelSource) NextData(off int64) (start, end int64, err error) {
	return sparse.NextData(c.Source, off)
}
