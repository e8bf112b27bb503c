package verity

import (
	"bytes"
	"context"
	"fmt"
)

// Verify checks a whole image: every data block and every hash block against the
// root hash, by the superblock at the start of the tree. It returns nil only if all
// of them are what the root hash stands for.
//
// A *MismatchError tells what is wrong and where. The data may be larger than the
// superblock says, as a partition usually is; what lies behind is not looked at, and
// neither are bytes behind the tree. A device that is too small is a *ShortError, a
// superblock that is none a *FormatError. Parameters other than those of Format are
// ErrNotSupported. The superblock is not protected by the root hash; only its block
// count, sizes and salt, which determine it, are.
func Verify(ctx context.Context, data, tree Source, root []byte) error {
	sb, err := ReadSuperblock(tree, 0)
	if err != nil {
		return err
	}
	if sb.HashType != 1 || sb.Algorithm != algorithm || sb.DataBlockSize != blockSize || sb.HashBlockSize != blockSize {
		return fmt.Errorf("verity: superblock: hash format %d, %s, blocks of %d and %d bytes: %w: want format 1, %s, %d, %d",
			sb.HashType, sb.Algorithm, sb.DataBlockSize, sb.HashBlockSize, ErrNotSupported, algorithm, blockSize, blockSize)
	}
	if len(root) != digestSize {
		return fmt.Errorf("verity: root hash: %d bytes, want %d for %s", len(root), digestSize, algorithm)
	}
	t := newTree(sb)
	if have := data.Size(); have < sb.DataSize() {
		return &ShortError{Device: "data", Need: sb.DataSize(), Have: have}
	}
	if have := tree.Size(); have < t.size() {
		return &ShortError{Device: "tree", Need: t.size(), Have: have}
	}
	v := &verifier{tree: t, sb: sb, data: data, hashes: tree, root: root}
	if t.top() == 0 {
		return v.single(ctx)
	}
	return v.image(ctx)
}

type verifier struct {
	tree
	sb     *Superblock
	data   Source
	hashes Source
	root   []byte
}

// single verifies an image of one data block. There is no tree that could tell a
// damaged block from a wrong root hash.
func (v *verifier) single(ctx context.Context) error {
	got, err := build(ctx, nil, v.data, v.sb)
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
	top := v.newPath(newHasher(v.sb.Salt))
	if err := top.load(ctx, v.top(), 0, v.root); err != nil {
		return err
	}
	found := &findings{levels: make([]ranges, len(v.blocks))}
	jobs := (v.sb.DataBlocks-1)/jobBlocks + 1
	err := inOrder(ctx, jobs, func() func(int64, *findings) error {
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
		rebuilt, err := build(ctx, nil, v.data, v.sb)
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
	hash, buf := newHasher(v.sb.Salt), make([]byte, readSize)
	path := v.newPath(hash)
	digests := make([]byte, 0, jobHashBlocks*blockSize)
	return func(job int64, out *findings) error {
		out.reset(len(v.blocks))
		var err error
		if digests, err = hashData(ctx, v.data, v.sb, job, hash, buf, digests[:0]); err != nil {
			return err
		}
		first := job * jobHashBlocks
		for rest := digests; len(rest) > 0; first++ {
			n := min(len(rest), blockSize)
			if err := path.follow(ctx, first, rest[:n]); err != nil {
				return err
			}
			path.report(first, out)
			reportChildren(path.levels[1].block, rest[:n], first*perBlock, &out.levels[0])
			rest = rest[n:]
		}
		return nil
	}
}

// reportChildren adds the blocks whose digest is not the one their hash block has.
func reportChildren(block, digests []byte, first int64, to *ranges) {
	if bytes.Equal(block[:len(digests)], digests) {
		return
	}
	for i := 0; i < len(digests); i += digestSize {
		if !bytes.Equal(block[i:i+digestSize], digests[i:i+digestSize]) {
			to.add(first+int64(i/digestSize), 1)
		}
	}
}

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
	hash   *hasher
	levels []pathBlock // by level
}

type pathBlock struct {
	number int64 // which block of its level this is; -1 for none
	state  state
	block  []byte // content to judge the blocks below by
	stored []byte // digest of the block as it is stored
}

func (v *verifier) newPath(hash *hasher) *path {
	p := &path{verifier: v, hash: hash, levels: make([]pathBlock, len(v.blocks))}
	for i := range p.levels {
		p.levels[i] = pathBlock{number: -1, block: make([]byte, blockSize)}
	}
	return p
}

// follow loads the path to a block of level 1. The digests are those of the data
// blocks under it.
func (p *path) follow(ctx context.Context, leaf int64, digests []byte) error {
	shift := int64(1)
	numbers := make([]int64, len(p.levels))
	for level := 1; level < len(p.levels); level++ {
		numbers[level] = leaf / shift
		shift *= perBlock
	}
	for level := p.top(); level > 0; level-- {
		if p.levels[level].number == numbers[level] {
			continue
		}
		want := p.root
		if level < p.top() {
			slot := numbers[level] % perBlock * digestSize
			want = p.levels[level+1].block[slot : slot+digestSize]
		}
		if level > 1 {
			if err := p.load(ctx, level, numbers[level], want); err != nil {
				return err
			}
			continue
		}
		if err := p.read(1, numbers[1], want); err != nil {
			return err
		}
		if p.levels[1].state != intact {
			p.infer(1, append([]byte(nil), digests...), want)
		}
	}
	return nil
}

// load reads a hash block and, if it is damaged, tries to infer its content.
func (p *path) load(ctx context.Context, level int, number int64, want []byte) error {
	if err := p.read(level, number, want); err != nil || p.levels[level].state == intact {
		return err
	}
	n := p.children(level, number)
	digests := make([]byte, 0, blockSize)
	child := make([]byte, blockSize)
	for i := range n {
		if err := ctx.Err(); err != nil {
			return err
		}
		below := number*perBlock + int64(i)
		var err error
		if level > 1 {
			err = readFull(p.hashes, child, p.offset(level-1, below), "tree")
		} else {
			err = readFull(p.data, child, below*blockSize, "data")
		}
		if err != nil {
			return err
		}
		digests = p.hash.append(digests, child)
	}
	p.infer(level, digests, want)
	return nil
}

// read reads a hash block and compares its digest.
func (p *path) read(level int, number int64, want []byte) error {
	b := &p.levels[level]
	b.number = -1
	if err := readFull(p.hashes, b.block, p.offset(level, number), "tree"); err != nil {
		return err
	}
	b.number = number
	b.stored = p.hash.append(b.stored[:0], b.block)
	b.state = intact
	if !bytes.Equal(b.stored, want) {
		b.state = doubtful
	}
	return nil
}

// infer puts the digests of the blocks below in place of a damaged hash block if
// they are what it must have been.
func (p *path) infer(level int, digests, want []byte) {
	block := padBlock(digests)
	if bytes.Equal(p.hash.append(nil, block), want) {
		b := &p.levels[level]
		copy(b.block, block)
		b.state = inferred
	}
}

// report adds the damaged hash blocks of the path whose first leaf this is.
func (p *path) report(leaf int64, to *findings) {
	for level := 1; level < len(p.levels); level++ {
		if p.levels[level].state != intact {
			to.levels[level].add(p.levels[level].number, 1)
		}
		if leaf%perBlock != 0 {
			return
		}
		leaf /= perBlock
	}
}
