package fec

import (
	"context"
	"sync"
)

// scanSize is how much is read at once, in bytes, if it is more than a block.
const scanSize = 256 << 10

// scan verifies all blocks from the top of the tree down, with the repaired blocks in
// place of those on the devices.
func (r *repairer) scan(ctx context.Context) error {
	r.damage = nil
	for level := r.tree.top(); level >= 0; level-- {
		var mu sync.Mutex
		var found damage
		jobs := int64(1)
		if level < r.tree.top() {
			jobs = r.tree.blocks[level+1]
		}
		err := parallel(ctx, workers(), jobs, func() func(int64) error {
			s := &scanner{
				repairer: r,
				hash:     r.tree.newHasher(),
				parent:   make([]byte, r.BlockSize),
				children: make([]byte, max(scanSize, r.BlockSize)),
			}
			return func(job int64) error {
				runs, err := s.under(ctx, level, job)
				if len(runs) > 0 {
					mu.Lock()
					found = append(found, runs...)
					mu.Unlock()
				}
				return err
			}
		})
		if err != nil {
			return err
		}
		// Levels lie in the hash area from the top down, but the data is in front.
		r.damage = append(r.damage, found...).sorted()
	}
	return nil
}

// A scanner is the buffers of one goroutine.
type scanner struct {
	*repairer
	hash     *hasher
	parent   []byte
	children []byte
}

// under verifies the blocks of a level that the same hash block is about.
func (s *scanner) under(ctx context.Context, level int, parent int64) (damage, error) {
	t := s.tree
	first, count, proven := int64(0), int64(1), true
	if level < t.top() {
		block := t.start[level+1] + parent
		if err := s.block(s.parent, block); err != nil {
			return nil, err
		}
		proven = s.state(block) == good
		first = parent * t.perBlock
		count = min(t.perBlock, t.blocks[level]-first)
	}
	bs := int64(s.BlockSize)
	var found damage
	for done := int64(0); done < count; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n := min(count-done, int64(len(s.children))/bs)
		at := t.start[level] + first + done
		if err := s.read(s.children[:n*bs], at*bs); err != nil {
			return nil, err
		}
		for i := range n {
			digest := t.root
			if level < t.top() {
				digest = t.digestIn(s.parent, int(done+i))
			}
			if _, fixed := s.fixed[at+i]; fixed {
				continue
			}
			switch matches := s.hash.matches(s.children[i*bs:][:bs], digest); {
			case !matches && proven:
				found.add(run{at + i, 1, bad})
			case !matches:
				found.add(run{at + i, 1, suspect})
			case !proven:
				found.add(run{at + i, 1, unproven})
			}
		}
		done += n
	}
	return found, nil
}
