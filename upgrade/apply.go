package upgrade

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"strings"

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
	StepRepairESP StepKind = "repair-esp" // repair damage that a power cut left in its file system
	// record that the set in the target slot has used up its tries
	StepRememberFailed StepKind = "remember-failed"
	// remove what an interrupted upgrade left on the ESP
	StepRemoveStaged StepKind = "remove-staged"
	StepRemoveEntry  StepKind = "remove-entry" // the boot entry that needs the target slot
	StepRemoveAddon  StepKind = "remove-addon" // files beside the entry
	// a file that a Type #1 entry starts, if no other entry needs it
	StepRemoveFile     StepKind = "remove-file"
	StepMarkPartial    StepKind = "mark-partial"
	StepWriteRoot      StepKind = "write-root"
	StepWriteTree      StepKind = "write-tree"
	StepWriteSignature StepKind = "write-signature" // signature of the root hash
	StepVerifySlot     StepKind = "verify-slot"
	StepActivateSlot   StepKind = "activate-slot" // final types, labels and IDs
	StepAddAddon       StepKind = "add-addon"     // where the stub of the new entry looks
	StepAddExtension   StepKind = "add-extension" // where the stub of the new entry looks
	StepStageUKI       StepKind = "stage-uki"     // under a name that the loader ignores
	// rename it: from here on it boots, or, before prefer-entry, is in the menu
	StepAddEntry StepKind = "add-entry"
	// loader.conf, of a downgrade or after one: from here on it boots
	StepPreferEntry StepKind = "prefer-entry"
)

// Step is one part of an upgrade. After a power cut during or after any step but the last, the old
// set still boots.
type Step struct {
	Kind   StepKind `json:"kind"`
	Target string   `json:"target"`       // path on the ESP, or partition
	To     string   `json:"to,omitempty"` // path that a file gets
	Bytes  int64    `json:"bytes"`        // bytes that are written or read
	// how many of these bytes are read from the release, if the others come from the disk
	// (PlanOptions.Delta, release.PullOptions.OldUKI); 0 for any other step
	Fetched int64  `json:"fetched,omitempty"`
	Cut     string `json:"cut"` // text: what a power cut during the step leaves
	// removes something that neither a later step nor Cancel restores
	OneWay bool `json:"oneWay"`

	source  osmith.Source // of a file
	want    [sha256.Size]byte
	content []byte // of a small file
}

// String is the step in a few words.
func (s Step) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", s.Kind, s.Target)
	if s.To != "" {
		fmt.Fprintf(&b, " -> %s", path.Base(s.To))
	}
	if s.Bytes > 0 {
		fmt.Fprintf(&b, " (%d bytes", s.Bytes)
		if s.Fetched > 0 {
			fmt.Fprintf(&b, ", %d from the release", s.Fetched)
		}
		b.WriteString(")")
	}
	return b.String()
}

// Progress is called while a plan is applied: before each step with its number, and during steps
// that write or read much. Done and total are bytes of all steps together.
type Progress func(step int, done, total int64)

// ErrApplied is returned when a plan is applied for the second time: the disk has changed since the
// plan was made, so make a new plan.
var ErrApplied = errors.New("this plan was already applied, fully or partly: make a new plan")

// Apply carries the plan out. Without the verdicts, and without an override that names each failed
// one, it is a [*RefusedError] and nothing is written. After any other error, or a power cut, the
// old set still boots and the upgrade is planned again from what is on the disk; planning and
// applying a release that is installed changes nothing. A plan can be applied only once
// ([ErrApplied]). The boot loader is written first, if it is a part of the plan; progress does not
// report that.
//
// The disk must have a method Sync ([ErrNoSync]). A disk with a method Lock is locked meanwhile; if
// another program has locked it, the error is a [*osmith.LockedError]. If the disk has changed
// since the plan was made, the error is a [*ChangedError] and nothing is written. The disk is also
// read again before each step: if another program has written to it in between, the upgrade ends
// with the same error. A UKI or add-on of the release that has changed since is a [*ChangedError],
// too, before anything boots it. Every block of the root file system is checked against the tree
// before it is written, so that a damaged or different block ends the upgrade with an error of
// package verity. Data is read back from the medium if the disk supports that (DropCache of
// [osmith.Disk]).
func (p *Plan) Apply(ctx context.Context, progress Progress) (err error) {
	defer prefix.Add("upgrade", &err)
	if err := p.Refused(); err != nil {
		return err
	}
	if p.applied {
		return ErrApplied
	}
	if p.Loader != nil {
		if err := p.Loader.Apply(ctx, nil); err != nil {
			return fmt.Errorf("boot loader: %w", prefix.Bare(err))
		}
	}
	if len(p.Steps) == 0 {
		p.applied = true
		return nil
	}
	return alone(p.disk, func() error { return p.apply(ctx, progress) })
}

func (p *Plan) apply(ctx context.Context, progress Progress) (err error) {
	a := applier{plan: p, ctx: ctx, progress: progress, expect: p.before.clone()}
	if err := a.look(math.MaxInt64); err != nil {
		return err
	}
	held, err := p.exclusively()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held()) }()
	p.applied = true
	a.total = totalBytes(p.Steps)
	for i, s := range p.Steps {
		a.step = i
		a.report(0)
		if err := ctx.Err(); err != nil {
			return err
		}
		// Nothing of this disk is changed by what was known of it before.
		limit := int64(smallFile)
		if s.Kind == StepAddEntry || s.Kind == StepPreferEntry {
			limit = math.MaxInt64
		}
		if err := a.look(limit); err != nil {
			return fmt.Errorf("before %s: %w", s, err)
		}
		if err := a.do(s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
		if err := toMedium(p.disk); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	if err := a.look(smallFile); err != nil {
		return fmt.Errorf("after the last step: %w", err)
	}
	return nil
}

// totalBytes are those of all steps together.
func totalBytes(steps []Step) (n int64) {
	for _, s := range steps {
		n += s.Bytes
	}
	return n
}

// exclusively keeps the kernel from using what the plan writes.
func (p *Plan) exclusively() (release func() error, err error) {
	if p.Target == nil {
		return p.state.esp.exclusively(p.disk)
	}
	return p.state.esp.exclusively(p.disk, p.Target.Data, p.Target.Tree, p.Target.Signature)
}

type applier struct {
	plan        *Plan
	ctx         context.Context
	progress    Progress
	step        int
	done, total int64

	expect snapshot // of the disk as it should be
	esp    *bootFS  // as it was before this step
}

// look reads the disk anew and checks it against what it should be, with the contents of files that
// were judged of up to limit bytes.
func (a *applier) look(limit int64) error {
	now, esp, err := a.plan.machine.takeSnapshot(a.plan.disk, a.plan.judged, limit)
	if err == nil {
		err = now.changed(a.expect)
	}
	a.esp = esp
	return err
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
		if p.leftover.discards() {
			a.expect.removeFunc(isStagedName)
		}
		return a.esp.Repair()
	case StepRememberFailed, StepPreferEntry:
		a.report(s.Bytes)
		a.expect.put(fileState{s.Target, s.Bytes, sha256.Sum256(s.content)})
		a.expect.remove(s.Target + stagedSuffix) // of a cut
		return writeWhole(a.esp, s.Target, s.content)
	case StepRemoveEntry, StepRemoveAddon, StepRemoveFile, StepRemoveStaged:
		a.expect.remove(s.Target)
		return a.esp.Remove(s.Target)
	case StepMarkPartial:
		return a.mark(p.state.slots.Begin(p.Target.Slot, p.labels))
	case StepWriteRoot:
		if p.delta != nil {
			return a.patch()
		}
		return a.copyVerified(p.root(), p.release.Root, p.image(), p.resumes)
	case StepWriteTree:
		return a.copy(p.tree(), p.release.Tree)
	case StepWriteSignature:
		a.report(s.Bytes)
		return a.sign()
	case StepVerifySlot:
		err := verity.Verify(a.ctx, p.root(), p.tree(), p.release.RootHash)
		a.report(s.Bytes)
		return err
	case StepActivateSlot:
		if p.Target.Signature >= 0 {
			p.ownSignatureID()
		}
		return a.mark(p.state.slots.Install(p.Target.Slot, p.labels, p.release.RootHash))
	case StepAddAddon, StepAddExtension, StepStageUKI:
		return a.put(s)
	case StepAddEntry:
		a.expect.rename(s.Target, s.To)
		return a.esp.Rename(s.Target, s.To)
	}
	return fmt.Errorf("no step of the kind %q", s.Kind)
}

// mark writes the table, unless the change of it was an error.
func (a *applier) mark(err error) error {
	if err != nil {
		return err
	}
	if err := a.plan.state.table.Write(a.plan.disk); err != nil {
		return err
	}
	a.expect.table, err = tableDigest(a.plan.state.table)
	return err
}

// image is the release's file system with its tree.
func (p *Plan) image() verity.Image {
	return verity.Image{Data: p.release.Root, Tree: p.release.Tree, RootHash: p.release.RootHash}
}

func (p *Plan) root() *partition.Window { return p.state.table.Window(p.disk, p.Target.Data) }
func (p *Plan) tree() *partition.Window { return p.state.table.Window(p.disk, p.Target.Tree) }

// sign writes the partition for the signature of the root hash, and reads it back.
func (a *applier) sign() error {
	p := a.plan
	want, err := p.signatureContent()
	if err != nil {
		return err
	}
	to := p.signaturePartition()
	if _, err := to.WriteAt(want, 0); err != nil {
		return err
	}
	if err := toMedium(p.disk); err != nil {
		return err
	}
	got := make([]byte, len(want))
	if err := sparse.ReadFull(to, got, 0); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return &ReadBackError{Path: "the signature of the root hash in slot " + p.Target.Name(), Want: sha256.Sum256(want)}
	}
	return nil
}

// copy writes an image to the start of a partition.
func (a *applier) copy(dst io.WriterAt, src osmith.Source) error {
	target := sparse.Target{W: dst, Progress: a.report, Sync: true} // the step ends with a sync
	return target.Copy(0, cancelSource{src, a.ctx}, src.Size())
}

// put writes a file and reads it back from the medium before anything can boot it: it is what the
// plan was made for, or it is not used.
func (a *applier) put(s Step) error {
	if err := a.esp.MkdirAll(path.Dir(s.Target)); err != nil {
		return err
	}
	if err := a.esp.WriteFile(s.Target, s.source); err != nil {
		return err
	}
	a.report(s.Bytes)
	a.expect.put(fileState{s.Target, s.Bytes, s.want})
	if err := toMedium(a.plan.disk); err != nil {
		return err
	}
	src, err := openFile(a.esp, s.Target)
	if err != nil {
		return err
	}
	got, err := digest(src)
	if err != nil || got == s.want {
		return err
	}
	// Either the source has changed, or the medium does not keep what is written.
	if now, err := digest(s.source); err != nil || now != s.want {
		return errors.Join(&ChangedError{s.Target + " of the release"}, err)
	}
	return &ReadBackError{Path: s.Target, Want: s.want}
}

// ReadBackError says that the disk did not keep what was written to it.
type ReadBackError struct {
	Path string // path of a file on the ESP, or the partition
	Want [sha256.Size]byte
}

func (e *ReadBackError) Error() string {
	return fmt.Sprintf("%s read back differs from what was written (SHA-256 %x): the medium may be failing", e.Path, e.Want)
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
