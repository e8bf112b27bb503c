package fec

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/verity"
	"github.com/osmith-dev/osmith/verity/internal/hashtree"
)

// An Image is the input of Repair, which changes it only through the writers given to Repair.
type Image struct {
	// Data is the data, all of it: if the partition is larger, only the bytes up to the
	// superblock's DataSize.
	Data osmith.Source

	// Hash is the hash area, as HashArea returns it: the tree and the bytes after it that the code
	// covers. Nil is empty.
	Hash osmith.Source

	// Parity is the FEC area. It may be larger than Size.
	Parity osmith.Source

	// Params say how the tree was made. A superblock that was read gives them by its method Params;
	// since the code does not cover the superblock, they may have to come from elsewhere. UUID,
	// HashOffset and NoSuperblock are ignored.
	Params verity.Params

	// RootHash is the root hash by which everything is verified.
	RootHash []byte

	// Roots is the number of parity bytes of a codeword, 2 to 24; 0 means 2.
	Roots int
}

// Repair finds damaged blocks of data and hash area by the root hash, corrects them with the
// parity, and writes each to data or hash, at its offset in Image.Data or Image.Hash, once its
// digest is right. Writers for the same devices repair in place; writers for copies repair the
// copies; with nil writers, Repair only reports what could be repaired. Nothing else is written, so
// a repair that is interrupted can be started again.
//
// Up to Roots damaged blocks of a round can be corrected (see [Rounds]), more if they are damaged
// in different places: for each place, Roots/2 of the 255 bytes of a codeword may be wrong wherever
// they are, parity included. A damaged hash block is also rebuilt from the data under it, if that
// data is intact.
//
// The report lists what was repaired; without any damage it is empty. If damage is left the error
// is an *UnrepairedError, which holds the report; all other damage was repaired. If a hash block
// has the right digest, but bytes other than zero outside of its digests, the error is a
// *verity.SpareError: Data is shorter than the data of the tree, and nothing is written. A wrong
// root hash, a device that is too short (*verity.ShortError) and unsuitable parameters
// (*ParamError, *verity.AlignmentError, verity.ErrNotSupported) are errors too, as are those of the
// devices.
//
// Blocks after the tree have no digest, so damage in them is not found. Damage of the parity is not
// found either: [Check] finds it and [Encode] repairs it.
//
// It reads the image once, a second time if hash blocks were damaged, and the blocks of damaged
// rounds again, in parallel. It uses some 40 MiB of memory (255 blocks if that is more), plus
// memory that grows with the damage: 24 bytes for each run of damaged blocks, about as many for
// each that was repaired, and the content of repaired hash blocks.
func Repair(ctx context.Context, im Image, data, hash io.WriterAt) (report *Report, err error) {
	defer prefix.Add("fec", &err)
	r, err := newRepairer(im, data, hash)
	if err != nil {
		return nil, err
	}
	for {
		if err := r.scan(ctx); err != nil {
			return nil, err
		}
		if len(r.damage) == 0 {
			break
		}
		// Blocks under a hash block that was repaired are judged anew.
		again, err := r.repairAll(ctx)
		if err != nil {
			return nil, err
		}
		if !again {
			break
		}
	}
	report = r.report()
	if report.UnrepairedBlocks+report.UnprovenBlocks > 0 {
		return nil, &UnrepairedError{Report: *report, RootHash: r.consistent && len(r.fixed) == 0}
	}
	return report, nil
}

// A repairer is one Repair.
type repairer struct {
	*covered
	tree   *tree
	parity osmith.Source
	toData io.WriterAt
	toHash io.WriterAt

	mu     sync.Mutex
	damage damage
	fixed  map[int64][]byte // repaired blocks, with the content if they are hash blocks

	// consistent says that the parity agrees with a top block that does not have the
	// root hash.
	consistent bool
}

func newRepairer(im Image, data, hash io.WriterAt) (*repairer, error) {
	switch {
	case im.Data == nil:
		return nil, errNone("data")
	case im.Parity == nil:
		return nil, errNone("parity")
	}
	p := im.Params
	p.HashOffset, p.NoSuperblock = 0, true
	treeSize, err := verity.TreeSize(im.Data.Size(), p)
	if err != nil {
		return nil, prefix.Bare(err)
	}
	c, err := newCovered(im.Data, im.Hash, Params{Roots: im.Roots, BlockSize: p.DataBlockSize})
	if err != nil {
		return nil, err
	}
	if n := cmp.Or(p.HashBlockSize, defaultBlockSize); n != c.BlockSize {
		return nil, &ParamError{Param: "hash block size", Value: int64(n), Want: fmt.Sprintf("%d, the data block size", c.BlockSize)}
	}
	if c.hash < treeSize {
		return nil, &verity.ShortError{Device: "hash area", Want: treeSize, Got: c.hash}
	}
	if have := im.Parity.Size(); have < c.size() {
		return nil, &verity.ShortError{Device: "parity", Want: c.size(), Got: have}
	}
	t, err := newTree(p, c.data/int64(c.BlockSize), c.BlockSize, im.RootHash)
	if err != nil {
		return nil, err
	}
	return &repairer{covered: c, tree: t, parity: im.Parity, toData: data, toHash: hash, fixed: map[int64][]byte{}}, nil
}

// state returns what is known of a block.
func (r *repairer) state(block int64) state {
	if _, fixed := r.fixed[block]; fixed {
		return good
	}
	return r.damage.at(block)
}

// block reads a hash block as it is or as it was repaired.
func (r *repairer) block(b []byte, block int64) error {
	if content := r.fixed[block]; content != nil {
		copy(b, content)
		return nil
	}
	return r.read(b, block*int64(r.BlockSize))
}

// walker returns what reads digests from hash blocks, as they are or as they were repaired. It
// looks only into those that are asked for, and does not judge them.
func (r *repairer) walker() *hashtree.Walker {
	return &hashtree.Walker{
		Layout: r.tree.Layout, Root: r.tree.root, Trusted: true,
		Read: func(b []byte, level int, number int64) error { return r.block(b, r.tree.start[level]+number) },
	}
}

// expected returns the digest that a block must have, or nil if that is not known. It is valid
// until the next call.
func (r *repairer) expected(w *hashtree.Walker, block int64) ([]byte, error) {
	level, number, ok := r.tree.position(block)
	if !ok || level < r.tree.Top() && r.state(r.tree.parent(level, number)) != good {
		return nil, nil
	}
	return w.Want(level, number)
}

// repairAll tries to repair every damaged block, from the top of the tree down and the
// data last. It tells whether another scan may find more to repair.
func (r *repairer) repairAll(ctx context.Context) (again bool, err error) {
	rs, err := newEncoder(r.Roots)
	if err != nil {
		return false, err
	}
	// The data lies in front of the tree, but comes last here.
	hashRuns, dataRuns := r.damage.split(r.tree.Blocks[0])
	tried := make([]bool, r.rounds)
	w := r.newRound(rs)
	for _, n := range r.roundsOf(hashRuns, tried) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if err := w.repair(n); err != nil {
			return false, err
		}
	}
	r.note(w)
	// In the other rounds only data is damaged, so that they do not depend on each other.
	rest := r.roundsOf(dataRuns, tried)
	var group []*round
	err = parallel(ctx, r.roundWorkers(), int64(len(rest)), func() func(int64) error {
		w := r.newRound(rs)
		r.mu.Lock()
		group = append(group, w)
		r.mu.Unlock()
		return func(i int64) error { return w.repair(rest[i]) }
	})
	dataRepaired := len(w.repaired) > 0
	for _, w := range group {
		r.note(w)
		dataRepaired = dataRepaired || len(w.repaired) > 0
	}
	if err != nil {
		return false, err
	}
	left, err := w.rebuildAll(ctx, hashRuns)
	if err != nil {
		return false, err
	}
	return w.hashes || left && dataRepaired, nil
}

// roundsOf returns the rounds in which runs have blocks to repair, in the order of the
// blocks, without those that have been tried.
func (r *repairer) roundsOf(runs damage, tried []bool) []int64 {
	var rounds []int64
	for _, d := range runs {
		if d.state == unproven {
			continue
		}
		for block := d.first; block < d.first+min(d.count, r.rounds); block++ {
			if n := block % r.rounds; !tried[n] {
				tried[n] = true
				rounds = append(rounds, n)
			}
		}
	}
	return rounds
}

// roundWorkers is how many rounds are worked on at once: each takes the memory of 255
// blocks and more, of whatever size they are.
func (r *repairer) roundWorkers() int {
	return max(1, min(workers(), memory/((codeword+r.Roots)*r.BlockSize)))
}

// note takes over what a round found out.
func (r *repairer) note(w *round) {
	for _, block := range w.repaired {
		r.fixed[block] = nil
	}
	r.consistent = r.consistent || w.agrees
}

// write stores a repaired block on its device.
func (r *repairer) write(block int64, content []byte) error {
	off := block * int64(r.BlockSize)
	to, device := r.toData, "data"
	if off >= r.data {
		to, device, off = r.toHash, "hash area", off-r.data
	}
	if to == nil {
		return nil
	}
	return writeFull(to, content, off, device)
}

// report sums up.
func (r *repairer) report() *Report {
	report := new(Report)
	blocks := make(damage, 0, len(r.fixed))
	for block := range r.fixed {
		blocks = append(blocks, run{block, 1, good})
	}
	r.tree.list(blocks.sorted(), &report.Repaired, &report.RepairedBlocks)
	var damaged, doubted damage
	for _, d := range r.damage {
		for block := d.first; block < d.first+d.count; block++ {
			switch {
			case r.state(block) == good: // repaired
			case d.state == unproven:
				doubted.add(run{block, 1, unproven})
			default:
				damaged.add(run{block, 1, bad})
			}
		}
	}
	r.tree.list(damaged, &report.Unrepaired, &report.UnrepairedBlocks)
	r.tree.list(doubted, &report.Unproven, &report.UnprovenBlocks)
	return report
}

// rebuildAll makes damaged hash blocks anew from the blocks under them, where that has
// the digest it should. It tells whether damaged hash blocks are left.
func (w *round) rebuildAll(ctx context.Context, runs damage) (left bool, err error) {
	for _, d := range runs {
		if d.state == unproven {
			continue
		}
		for block := d.first; block < d.first+d.count; block++ {
			if w.state(block) == good {
				continue
			}
			digest, err := w.expected(w.walker, block)
			if err != nil {
				return false, err
			}
			if digest == nil {
				left = true
				continue // nothing to compare with
			}
			// It may be undamaged, if it was doubted only for a damaged block above.
			stored := make([]byte, w.BlockSize)
			if err := w.block(stored, block); err != nil {
				return false, err
			}
			if bytes.Equal(w.hash.Sum(stored), digest) {
				continue
			}
			level, number, _ := w.tree.position(block)
			done := false
			// First from the blocks right under it, which are read soon; then from the
			// data, in case hash blocks under it are damaged too.
			for _, deep := range []bool{false, true} {
				if deep && level == 1 {
					break
				}
				content, err := w.rebuild(ctx, level, number, deep)
				if err != nil {
					return false, err
				}
				if done, err = w.verified(block, content); err != nil {
					return false, err
				}
				if done {
					break
				}
			}
			left = left || !done
		}
	}
	return left, nil
}

// rebuild returns the hash block that the blocks under it call for: those right under
// it, or down to the data.
func (w *round) rebuild(ctx context.Context, level int, number int64, deep bool) ([]byte, error) {
	content, child := make([]byte, w.BlockSize), make([]byte, w.BlockSize)
	first := number * w.tree.PerBlock
	for i := range min(w.tree.PerBlock, w.tree.Blocks[level-1]-first) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var err error
		if deep && level > 1 {
			child, err = w.rebuild(ctx, level-1, first+i, deep)
		} else {
			err = w.block(child, w.tree.start[level-1]+first+i)
		}
		if err != nil {
			return nil, err
		}
		copy(w.tree.Digest(content, int(i)), w.hash.Sum(child))
	}
	return content, nil
}
