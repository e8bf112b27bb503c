package upgrade

import (
	"context"
	"errors"

	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/verity"
)

// deltaGap joins ranges of the release that lie no further apart, in bytes: over a network a
// request costs as much (docs/verity-diff.md).
const deltaGap = 64 << 10

// diff finds what the running set has of the release's root file system, from the hash trees alone.
func (p *Plan) diff(ctx context.Context) (*verity.Delta, error) {
	if p.from.Slot == nil {
		return nil, errors.New("the running set has no slot to copy from")
	}
	old := verity.Tree{Source: p.state.table.Section(p.disk, p.from.Slot.Tree), RootHash: p.from.RootHash}
	if t := p.Target; t.State == partition.SlotInstalled {
		// What the slot holds is overwritten, but for what stays where it is. A tree that is
		// damaged says nothing.
		o := verity.DiffOptions{Target: verity.Tree{Source: p.state.table.Section(p.disk, t.Tree), RootHash: t.RootHash}}
		if d, err := verity.Diff(ctx, old, p.releaseTree(), o); err == nil {
			return d, nil
		}
	}
	return verity.Diff(ctx, old, p.releaseTree(), verity.DiffOptions{})
}

func (p *Plan) releaseTree() verity.Tree {
	return verity.Tree{Source: p.release.Tree, RootHash: p.release.RootHash}
}

// fetched is how much of the root file system comes from the release; 0 without a delta.
func (p *Plan) fetched(root int64) int64 {
	if p.delta == nil {
		return 0
	}
	return min(p.delta.Total(verity.OriginFetch)*int64(p.delta.BlockSize), root)
}

// fetchedUKI is how much of the UKI comes from the release's server; 0 if nothing of it comes from
// an older one.
func (p *Plan) fetchedUKI() int64 {
	if p.release.UKIPatch == nil {
		return 0
	}
	return p.release.UKIPatch.Fetched
}

// judgeDelta says where the root file system comes from, if that was asked.
func (p *Plan) judgeDelta(j *Verdict) {
	switch {
	case p.delta != nil:
		j.pass("root file system: %d of %d bytes are read from the release, the others from slot %s", p.fetched(p.dataSize()), p.dataSize(), p.from.Slot.Name())
	case p.deltaErr != nil:
		j.warn("all of the root file system is read from the release, because it cannot be compared with the running one: %v", p.deltaErr)
	}
}

// patch fills the slot from the running set and the release. Every block is checked against the
// release's tree before it is written.
func (a *applier) patch() error {
	p := a.plan
	var before int64
	_, err := verity.Patch(a.ctx, p.root(), p.state.table.Section(p.disk, p.from.Slot.Data), p.release.Root, p.releaseTree(), p.delta, verity.PatchOptions{
		Resume: p.resumes,
		MaxGap: deltaGap,
		Progress: func(done, _ int64) {
			a.report(done - before)
			before = done
		},
	})
	return err
}
