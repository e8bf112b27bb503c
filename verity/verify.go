package verity

import (
	"bytes"
	"context"

	"github.com/osmith-dev/osmith"
)

// Verify checks a whole image, in parallel: every data block and every hash block
// against the root hash. It returns nil only if all of them are what the root hash
// stands for.
//
// A *MismatchError tells what is wrong and where. A device that is too small is a
// *ShortError; a superblock that is none, or is of another UUID than expected, a
// *FormatError. The superblock is not protected by the root hash; only its block
// count, sizes and salt, which determine it, are.
func (im Image) Verify(ctx context.Context) error {
	l, err := im.layout()
	if err != nil {
		return err
	}
	v := &verifier{layout: l, data: &dataReader{layout: l, src: im.Data}, hashes: im.Tree, root: im.RootHash}
	if l.top() == 0 {
		return v.single(ctx)
	}
	return v.image(ctx)
}

type verifier struct {
	*layout
	data   *dataReader
	hashes osmith.Source
	root   []byte
}

// single verifies an image of one data block. There is no tree that could tell a
// damaged block from a wrong root hash.
func (v *verifier) single(ctx context.Context) error {
	got, err := build(ctx, nil, v.data.src, v.layout)
	if err != nil {
		return err
	}
	if bytes.Equal(got, v.root) {
		return nil
	}
	return &MismatchError{Want: v.root, Got: got, root: true}
}

// image verifies an image that has a tree.
func (v *verifier) image(ctx context.Context) error {
	top := v.newPath(newHasher(v.layout))
	if err := top.load(ctx, v.top(), 0, v.root); err != nil {
		return err
	}
	found := &findings{levels: make([]ranges, len(v.blocks))}
	err := inOrder(ctx, v.jobs(), func() func(int64, *findings) error {
		return v.newWorker(ctx)
	}, func(_ int64, out *findings) error {
		found.merge(out)
		return nil
	})
	if err != nil {
		return err
	}
	e := found.mismatch()
	e.Want, e.Got = v.root, top.levels[v.top()].stored
	if top.levels[v.top()].state == doubtful {
		// The top block neither has the root hash nor can be inferred. Either the
		// root hash is another image's, or more than the top block is damaged.
		if e.TreeBlocks == 1 && e.DataBlocks == 0 {
			e.TreeBlocks, e.Ranges, e.root = 0, nil, true
			return e
		}
		rebuilt, err := build(ctx, nil, v.data.src, v.layout)
		if err != nil {
			return err
		}
		if !bytes.Equal(rebuilt, v.root) {
			e.root = true
			return e
		}
		found.levels[0] = ranges{} // the data is intact after all
		e = found.mismatch()
		e.Want, e.Got = v.root, top.levels[v.top()].stored
	}
	if e.TreeBlocks == 0 && e.DataBlocks == 0 {
		return nil
	}
	return e
}

// newWorker returns the function of one goroutine. It checks the data blocks of a
// job, and every hash block whose first data block is among them.
func (v *verifier) newWorker(ctx context.Context) func(int64, *findings) error {
	hash, buf := newHasher(v.layout), v.newBuffer()
	path := v.newPath(hash)
	var slots, leaves, leafSlots []byte
	return func(job int64, out *findings) error {
		out.reset(len(v.blocks))
		var err error
		if slots, err = v.data.appendSlots(ctx, slots[:0], job, hash, buf); err != nil {
			return err
		}
		first := job * v.jobBlocks()
		if v.wide() {
			if err := path.follow(ctx, first/v.perBlock, 1); err != nil {
				return err
			}
			path.report(first, out)
			v.compare(path.levels[1].block[int(first%v.perBlock)*v.slot:], slots, first, &out.levels[0])
			return nil
		}
		leaf := first / v.perBlock
		n := (len(slots)/v.slot-1)/int(v.perBlock) + 1
		leaves = appendZeros(leaves[:0], n*v.HashBlockSize)
		if err := readFull(v.hashes, leaves, v.offset(1, leaf), "tree"); err != nil {
			return err
		}
		leafSlots = hash.appendTree(leafSlots[:0], leaves)
		for i := range n {
			under := slots[:min(len(slots), int(v.perBlock)*v.slot)]
			slots = slots[len(under):]
			block := leaves[i*v.HashBlockSize:][:v.HashBlockSize]
			if err := path.follow(ctx, leaf, 2); err != nil {
				return err
			}
			path.take(leaf, block, v.digest(leafSlots, i), under)
			path.report(first, out)
			v.compare(path.levels[1].block, under, first, &out.levels[0])
			first += v.perBlock
			leaf++
		}
		return nil
	}
}

// compare adds the blocks whose digest is not the one their hash block has.
func (v *verifier) compare(block, slots []byte, first int64, to *ranges) {
	if bytes.Equal(block[:len(slots)], slots) {
		return
	}
	for i := range len(slots) / v.slot {
		if !bytes.Equal(v.digest(block, i), v.digest(slots, i)) {
			to.add(first+int64(i), 1)
		}
	}
}
