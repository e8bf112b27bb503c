package squashfs

import "sync"

// storedBlock marks the size of a data block that is not compressed.
const storedBlock = 1 << 24

// A block is one block of data on its way from a file to the image.
type block struct {
	in         []byte // has room for a whole block
	n          int    // bytes of in
	space      []byte
	stored     []byte
	compressed bool
	err        error
	done       chan struct{}
	placed     func(start int64, size uint32)
}

// blocks compresses several blocks at a time and writes them in the order in which they came.
type blocks struct {
	out     *output
	size    int
	work    chan *block
	queue   []*block // in work or compressed, the oldest first
	free    []*block
	left    int // how many blocks more may be made
	workers sync.WaitGroup
}

// newBlocks starts the workers, which end with close.
func newBlocks(out *output, size int, encoders []encoder) *blocks {
	n := 2*len(encoders) + 2 // two for each worker, one that is read and one that takes fragments
	b := &blocks{out: out, size: size, work: make(chan *block, n), left: n}
	for _, e := range encoders {
		b.workers.Go(func() {
			for t := range b.work {
				t.stored, t.compressed, t.err = shrink(e, t.space, t.in[:t.n])
				t.done <- struct{}{}
			}
		})
	}
	return b
}

func (b *blocks) close() {
	close(b.work)
	b.workers.Wait()
}

// take returns a block to be filled, and waits for one if all are in use.
func (b *blocks) take() (*block, error) {
	if len(b.free) == 0 && b.left > 0 {
		b.left--
		// What does not shrink may grow a little before it is found out.
		return &block{in: make([]byte, b.size), space: make([]byte, 0, b.size+b.size/64), done: make(chan struct{}, 1)}, nil
	}
	for len(b.free) == 0 {
		if err := b.finish(); err != nil {
			return nil, err
		}
	}
	t := b.free[len(b.free)-1]
	b.free = b.free[:len(b.free)-1]
	return t, nil
}

// release gives back a block that is not to be written.
func (b *blocks) release(t *block) {
	t.n, t.placed = 0, nil
	b.free = append(b.free, t)
}

// submit has the first n bytes of a block compressed and written; placed then learns where they are
// and how large, as inodes and fragments have it.
func (b *blocks) submit(t *block, n int, placed func(start int64, size uint32)) {
	t.n, t.placed = n, placed
	b.queue = append(b.queue, t)
	b.work <- t
}

// finish writes the oldest block.
func (b *blocks) finish() error {
	t := b.queue[0]
	b.queue = b.queue[1:]
	<-t.done
	if t.err != nil {
		return t.err
	}
	size := uint32(len(t.stored))
	if !t.compressed {
		size |= storedBlock
	}
	t.placed(b.out.at, size)
	err := b.out.write(t.stored)
	b.release(t)
	return err
}

// flush writes all blocks.
func (b *blocks) flush() error {
	for len(b.queue) > 0 {
		if err := b.finish(); err != nil {
			return err
		}
	}
	return nil
}
