package verity

import (
	"bytes"
	"context"
)

// state is what is known of a hash block.
type state int

const (
	intact   state = iota // its digest is the expected one
	inferred              // it is damaged, but the blocks under it give its true content
	doubtful              // it is damaged, and its content is all there is to go by
)

// A path is the way from the root hash to one hash block of level 1, kept from one
// block to the next.
type path struct {
	*verifier
	hash    *hasher
	levels  []pathBlock // by level
	numbers []int64     // of the blocks on the way, by level
}

type pathBlock struct {
	number int64 // which block of its level this is; -1 for none
	state  state
	block  []byte // content to judge the blocks below by
	stored []byte // digest of the block as it is stored
}

func (v *verifier) newPath(hash *hasher) *path {
	p := &path{verifier: v, hash: hash, levels: make([]pathBlock, len(v.blocks)), numbers: make([]int64, len(v.blocks))}
	for i := 1; i < len(p.levels); i++ {
		p.levels[i] = pathBlock{number: -1, block: make([]byte, v.HashBlockSize)}
	}
	return p
}

// follow loads the path to a block of level 1, from the top down to a level.
func (p *path) follow(ctx context.Context, leaf int64, down int) error {
	n := leaf
	for level := 1; level <= p.top(); level++ {
		p.numbers[level] = n
		n /= p.perBlock
	}
	for level := p.top(); level >= down; level-- {
		if p.levels[level].number == p.numbers[level] {
			continue
		}
		if err := p.load(ctx, level, p.numbers[level], p.want(level)); err != nil {
			return err
		}
	}
	return nil
}

// want returns the digest that the block of a level must have by those above it.
func (p *path) want(level int) []byte {
	if level == p.top() {
		return p.root
	}
	return p.digest(p.levels[level+1].block, int(p.numbers[level]%p.perBlock))
}

// take takes a block of level 1 that was read and hashed elsewhere. The slots are
// those of the data blocks under it.
func (p *path) take(leaf int64, block, stored, slots []byte) {
	b := &p.levels[1]
	b.number = leaf
	copy(b.block, block)
	b.stored = append(b.stored[:0], stored...)
	b.state = intact
	if want := p.want(1); !bytes.Equal(stored, want) {
		b.state = doubtful
		p.infer(1, slots, want)
	}
}

// load reads a hash block and, if it is damaged, tries to infer its content from the
// blocks below.
func (p *path) load(ctx context.Context, level int, number int64, want []byte) error {
	b := &p.levels[level]
	b.number = -1
	if err := readFull(p.hashes, b.block, p.offset(level, number), "tree"); err != nil {
		return err
	}
	b.number = number
	b.stored = append(b.stored[:0], p.digest(p.hash.appendTree(nil, b.block), 0)...)
	b.state = intact
	if bytes.Equal(b.stored, want) {
		return nil
	}
	b.state = doubtful
	slots, err := p.below(ctx, level, number)
	if err != nil {
		b.number = -1
		return err
	}
	p.infer(level, slots, want)
	return nil
}

// below returns the slots of the blocks under a hash block.
func (p *path) below(ctx context.Context, level int, number int64) ([]byte, error) {
	size, device := p.HashBlockSize, "tree"
	if level == 1 {
		size, device = p.DataBlockSize, "data"
	}
	child := make([]byte, size)
	var slots []byte
	for i := range p.children(level, number) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n := number*p.perBlock + int64(i)
		if level == 1 {
			if err := readFull(p.data.src, child, n*int64(size), device); err != nil {
				return nil, err
			}
			slots = p.hash.appendData(slots, child)
			continue
		}
		if err := readFull(p.hashes, child, p.offset(level-1, n), device); err != nil {
			return nil, err
		}
		slots = p.hash.appendTree(slots, child)
	}
	return slots, nil
}

// infer puts the digests of the blocks below in place of a damaged hash block if
// they are what it must have been.
func (p *path) infer(level int, slots, want []byte) {
	block := p.appendBlocks(nil, slots)
	if bytes.Equal(p.digest(p.hash.appendTree(nil, block), 0), want) {
		b := &p.levels[level]
		copy(b.block, block)
		b.state = inferred
	}
}

// report adds the damaged hash blocks of the path whose first data block this is.
func (p *path) report(first int64, to *findings) {
	for level := 1; level <= p.top(); level++ {
		if first%p.perBlock != 0 {
			return
		}
		first /= p.perBlock
		if p.levels[level].state != intact {
			to.levels[level].add(p.levels[level].number, 1)
		}
	}
}
