package upgrade

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	bootslots "github.com/osmith-dev/osmith/bootloader/slots"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sparse"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/verity"
)

// SlotImage is the content of one partition of a slot.
type SlotImage struct {
	Name    string // the partition's name within a slot, as in [SlotLayout]
	Content osmith.Source

	// Tree and RootHash are the dm-verity hash tree of Content and its root hash: each block is
	// checked against the tree before it is written. Without them Content is read once for its
	// SHA-256, when the plan is made, and must be unchanged when it is written.
	Tree     osmith.Source
	RootHash []byte
}

// SlotSet is a version of a system that lies completely in a slot.
type SlotSet struct {
	Version string
	Images  []SlotImage // in the order in which they are written
}

// SlotLayout has the unique IDs of the partitions of each slot, by the slot's name in the store and
// then by the name of the image.
type SlotLayout map[string]map[string]osmith.GUID

// SlotPlanOptions are the choices of [NewSlotPlan].
type SlotPlanOptions struct {
	// Running is the running slot, which the caller knows from the command line or from what is
	// mounted. The machine returns to this slot, and it is never written.
	Running string

	// Target is the slot to write. Empty: of the slots of the layout that do not run, the one that
	// the store would start last.
	Target string

	// Tries is how often the new version may fail; 0: [DefaultTries], or fewer if the store cannot
	// record as many.
	Tries int

	Override []Proof // as in [PlanOptions]
}

// SlotPlan is an upgrade, computed and judged but not yet written, of a system whose boot loader or
// firmware keeps the state of slots in a [SlotStore].
type SlotPlan struct {
	Version  string
	Target   string
	Verdicts []Verdict       // on fits, boots and returns
	Chain    bootslots.Chain // starts after the upgrade, if the new version always fails

	disk    *checkedDisk
	store   SlotStore
	options SlotPlanOptions
	table   *partition.Table
	images  []slotTarget
	applied bool
}

// slotTarget is an image with its partition.
type slotTarget struct {
	SlotImage
	index  int // in the table
	window *partition.Window
	digest [sha256.Size]byte // of what has no tree
}

// NewSlotPlan computes the upgrade of the slot that does not run. fits: the images fit their
// partitions. returns: by the boot rule of the store, the machine starts the new version as often
// as it has tries, and then the version that runs now. boots: this package does not know what the
// machine's boot loader accepts, which is a restriction. The disk has the partitions of the slots,
// and may also have the store.
func NewSlotPlan(ctx context.Context, disk osmith.Disk, store SlotStore, layout SlotLayout, set *SlotSet, o SlotPlanOptions) (plan *SlotPlan, err error) {
	defer prefix.Add("upgrade", &err)
	if err := checkProofs(o.Override); err != nil {
		return nil, err
	}
	p := &SlotPlan{Version: set.Version, disk: checked(disk), store: store, options: o}
	if err := toMedium(p.disk); err != nil {
		return nil, err
	}
	now, err := store.Slots()
	if err != nil {
		return nil, err
	}
	if layout[o.Running] == nil {
		return nil, fmt.Errorf("slot %q, which runs: %w in the layout", o.Running, bootslots.ErrSlot)
	}
	if p.Target = o.Target; p.Target == "" {
		p.Target = lastStarted(now, layout, o.Running)
	}
	if layout[p.Target] == nil || p.Target == o.Running {
		return nil, fmt.Errorf("slot %q cannot be written: want one of the layout that does not run (%q does)", p.Target, o.Running)
	}
	if p.options.Tries == 0 {
		p.options.Tries = min(DefaultTries, now.Properties().MaxTries)
	}
	if p.table, err = partition.Read(p.disk, partition.ReadOptions{}); err != nil {
		return nil, err
	}
	fits := p.judgeImages(layout, set)
	p.Verdicts = []Verdict{fits, p.judgeStarts(), p.judgeReturn(now)}
	override(p.Verdicts, o.Override)
	return p, ctx.Err()
}

// lastStarted is the slot that comes last, or never, in the chain of starts.
func lastStarted(store bootslots.Store, layout SlotLayout, running string) (target string) {
	chain, at := bootslots.Predict(store), -1
	for _, s := range store.Slots() {
		if s.Name == running || layout[s.Name] == nil {
			continue
		}
		i := slices.IndexFunc(chain.Starts, func(start bootslots.Start) bool { return start.Slot == s.Name })
		if i < 0 {
			i = len(chain.Starts)
		}
		if i > at {
			target, at = s.Name, i
		}
	}
	return target
}

// sameSlots compares tables but for the attributes, in which the store may be.
func sameSlots(a, b *partition.Table) bool {
	return a.DiskID == b.DiskID && a.SectorSize == b.SectorSize && slices.EqualFunc(a.Partitions, b.Partitions, func(x, y partition.Partition) bool {
		return x.Number == y.Number && x.Type == y.Type && x.ID == y.ID && x.Name == y.Name && x.FirstLBA == y.FirstLBA && x.LastLBA == y.LastLBA
	})
}

// judgeImages finds the partitions of the images, and asks whether they fit.
func (p *SlotPlan) judgeImages(layout SlotLayout, set *SlotSet) Verdict {
	j := Verdict{Proof: ProofFits}
	used := map[osmith.GUID]string{}
	for _, parts := range layout[p.options.Running] {
		used[parts] = "slot " + p.options.Running + ", which runs"
	}
	if len(set.Images) == 0 {
		j.fail(errors.New("the version has no images"))
	}
	for _, im := range set.Images {
		id, there := layout[p.Target][im.Name]
		i := p.table.Find(id)
		switch {
		case !there || i < 0:
			j.fail(fmt.Errorf("%s: slot %s has no such partition on the disk", im.Name, p.Target))
			continue
		case used[id] != "":
			j.fail(fmt.Errorf("%s: partition %s belongs to %s", im.Name, id, used[id]))
			continue
		}
		used[id] = im.Name
		target := slotTarget{SlotImage: im, index: i, window: p.table.Window(p.disk, i)}
		if size := target.window.Size(); im.Content.Size() > size {
			j.fail(&SlotSpaceError{p.Target, im.Name, im.Content.Size(), size})
			continue
		}
		if err := target.judge(); err != nil {
			j.fail(fmt.Errorf("%s: %w", im.Name, err))
			continue
		}
		j.pass("%s: %d of %d bytes of its partition in slot %s", im.Name, im.Content.Size(), target.window.Size(), p.Target)
		p.images = append(p.images, target)
	}
	if release, err := p.exclusively(); err != nil {
		j.fail(err)
	} else if err := release(); err != nil {
		j.fail(err)
	}
	return j
}

// judge reads what says whether the image is the one that is meant.
func (t *slotTarget) judge() (err error) {
	if t.Tree == nil {
		t.Content = pin(t.Content, t.Name)
		t.digest, err = digest(t.Content)
		return err
	}
	t.Tree = pin(t.Tree, "hash tree of "+t.Name)
	_, err = verity.NewReader(t.image(), verity.ReaderOptions{})
	return err
}

func (t *slotTarget) image() verity.Image {
	return verity.Image{Data: t.Content, Tree: t.Tree, RootHash: t.RootHash}
}

// exclusively keeps the kernel from using what is written.
func (p *SlotPlan) exclusively() (release func() error, err error) {
	var parts []int
	for _, t := range p.images {
		parts = append(parts, t.index)
	}
	return hold(p.disk, p.table, parts...)
}

// judgeStarts says what is not known.
func (p *SlotPlan) judgeStarts() Verdict {
	j := Verdict{Proof: ProofBoots}
	j.warn("whether the boot loader of this machine accepts the new content of slot %s is unknown: sign it as that loader requires, and test it before the fleet gets it", p.Target)
	return j
}

// judgeReturn works the marks out on the store as it is, and follows its boot rule.
func (p *SlotPlan) judgeReturn(now bootslots.Store) Verdict {
	j := Verdict{Proof: ProofReturns}
	_, trying, err := p.marks(now)
	if err != nil {
		j.fail(err)
		return j
	}
	p.Chain = bootslots.Predict(trying.After)
	properties := now.Properties()
	if properties.Evidence != bootslots.EvidenceTool {
		j.warn("%s: how it treats the state of its slots is known only by evidence %q", properties.Name, properties.Evidence)
	}
	if properties.FallsBack != bootslots.AnswerYes {
		j.warn("%s: whether it falls back by itself: %s", properties.Name, properties.FallsBack)
	}
	if trying.Needs == bootslots.NeedsWhole {
		j.pass("%s changes as a whole, or not at all", properties.Name)
	}
	switch reaches := p.Chain.Reaches(p.options.Running); reaches {
	case bootslots.AnswerYes:
		j.pass("slot %s is tried %d times, then slot %s returns", p.Target, p.options.Tries, p.options.Running)
	case bootslots.AnswerNo:
		j.fail(fmt.Errorf("slot %s: %w", p.options.Running, bootslots.ErrNoFallback))
	default:
		j.warn("whether slot %s returns is unknown: %v", p.options.Running, p.Chain.Starts[len(p.Chain.Starts)-1])
	}
	return j
}

// marks are what is written before the images, and behind them.
func (p *SlotPlan) marks(now bootslots.Store) (bad, trying *bootslots.Change, err error) {
	if bad, err = now.Mark(bootslots.Mark{Slot: p.Target, As: bootslots.AsBad, Fallback: p.options.Running}); err != nil {
		return nil, nil, err
	}
	trying, err = bad.After.Mark(bootslots.Mark{Slot: p.Target, As: bootslots.AsTrying, Tries: p.options.Tries, Fallback: p.options.Running})
	return bad, trying, err
}

// Refused returns the verdicts that keep [SlotPlan.Apply] from writing, as a [*RefusedError]; nil
// means that Apply will write.
func (p *SlotPlan) Refused() error { return refused(p.Verdicts) }

// String is the plan for a person.
func (p *SlotPlan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "upgrade to version %s in slot %s, from slot %s\n", p.Version, p.Target, p.options.Running)
	writeVerdicts(&b, p.Verdicts)
	for i, s := range p.Chain.Starts {
		fmt.Fprintf(&b, "  start %d: %v\n", i+1, s)
	}
	return b.String()
}

// Apply marks the slot as bad, writes the images, verifies them on the medium, and marks the slot
// to be tried. Without the verdicts the error is a [*RefusedError] and nothing is written. After a
// power cut the machine starts the present version, or the new version with its tries; plan an
// interrupted upgrade again. The disk must have a method Sync and is locked, as by [Plan.Apply].
// Progress, if it is not nil, is called with the bytes written and verified, and the number of the
// image.
func (p *SlotPlan) Apply(ctx context.Context, progress Progress) (err error) {
	defer prefix.Add("upgrade", &err)
	if err := p.Refused(); err != nil {
		return err
	}
	if p.applied {
		return ErrApplied
	}
	return alone(p.disk, func() (err error) {
		if err := p.unchanged(); err != nil {
			return err
		}
		release, err := p.exclusively()
		if err == nil {
			p.applied = true
			err = errors.Join(p.apply(ctx, progress), release())
		}
		return err
	})
}

func (p *SlotPlan) apply(ctx context.Context, progress Progress) error {
	if err := p.mark(bootslots.Mark{Slot: p.Target, As: bootslots.AsBad, Fallback: p.options.Running}); err != nil {
		return fmt.Errorf("mark slot %s as bad: %w", p.Target, err)
	}
	a := applier{ctx: ctx, progress: progress}
	for _, t := range p.images {
		a.total += 2 * t.Content.Size()
	}
	for i := range p.images {
		a.step = i
		t := &p.images[i]
		if err := t.write(&a); err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
		if err := toMedium(p.disk); err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
		if err := t.verify(&a); err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
	}
	if err := p.unchanged(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := p.mark(bootslots.Mark{Slot: p.Target, As: bootslots.AsTrying, Tries: p.options.Tries, Fallback: p.options.Running}); err != nil {
		return fmt.Errorf("have slot %s tried: %w", p.Target, err)
	}
	return nil
}

// unchanged compares the table with what was judged.
func (p *SlotPlan) unchanged() error {
	table, err := partition.Read(p.disk, partition.ReadOptions{})
	if err != nil {
		return err
	}
	if !sameSlots(table, p.table) {
		return &ChangedError{"the partition table"}
	}
	return nil
}

// mark changes the store as it is now: the boot rule is asked anew.
func (p *SlotPlan) mark(m bootslots.Mark) error { return markSlot(p.store, m) }

func markSlot(store SlotStore, m bootslots.Mark) error {
	now, err := store.Slots()
	if err != nil {
		return err
	}
	change, err := now.Mark(m)
	if err != nil {
		return err
	}
	return store.Change(change)
}

// write fills the partition. Each block is checked against the tree first, or each piece against
// what was read when the plan was made.
func (t *slotTarget) write(a *applier) error {
	if t.Tree != nil {
		return a.copyVerified(t.window, t.Content, t.image(), false)
	}
	target := sparse.Target{W: t.window, Progress: a.report, Sync: true}
	return target.Copy(0, cancelSource{t.Content, a.ctx}, t.Content.Size())
}

// verify reads it back from the medium.
func (t *slotTarget) verify(a *applier) error {
	defer a.report(t.Content.Size())
	if t.Tree != nil {
		return verity.Verify(a.ctx, t.window, t.Tree, t.RootHash)
	}
	got, err := digest(cancelSource{io.NewSectionReader(t.window, 0, t.Content.Size()), a.ctx})
	if err == nil && got != t.digest {
		err = &ReadBackError{Path: t.Name, Want: t.digest}
	}
	return err
}

// CommitSlot marks the running slot as good: from now on it is started first.
func CommitSlot(store SlotStore, running string) (err error) {
	defer prefix.Add("upgrade", &err)
	if err := markSlot(store, bootslots.Mark{Slot: running, As: bootslots.AsGood}); err != nil {
		return fmt.Errorf("commit slot %s: %w", running, err)
	}
	return nil
}

// RollBackSlot marks a slot as bad: the machine then starts a different slot, which must be known
// to be good.
func RollBackSlot(store SlotStore, slot, fallback string) (err error) {
	defer prefix.Add("upgrade", &err)
	if err := markSlot(store, bootslots.Mark{Slot: slot, As: bootslots.AsBad, Fallback: fallback}); err != nil {
		return fmt.Errorf("roll back slot %s: %w", slot, err)
	}
	return nil
}

// CancelSlot cancels an upgrade that no boot has started yet. The slot keeps its contents, if the
// store can express that.
func CancelSlot(store SlotStore, slot, running string) (err error) {
	defer prefix.Add("upgrade", &err)
	if err := markSlot(store, bootslots.Mark{Slot: slot, As: bootslots.AsCancelled, Fallback: running}); err != nil {
		return fmt.Errorf("cancel slot %s: %w", slot, err)
	}
	return nil
}
