package fec

import (
	"bytes"
	"context"
	"sync"

	"github.com/osmith-dev/osmith/verity/internal/hashtree"
)

// scanSize is how much is read at once, in bytes, if it is more than a block.
const scanSize = 256 << 10

// scan verifies all blocks from the top of the tree down, with the repaired blocks in
// place of those on the devices.
func (r *repairer) scan(ctx context.Context) error {
	r.damage = nil
	for level := r.tree.Top(); level >= 0; level-- {
		var mu sync.Mutex
		var found damage
		jobs := int64(1)
		if level < r.tree.Top() {
			jobs = r.tree.Blocks[level+1]
		}
		err := parallel(ctx, workers(), jobs, func() func(int64) error {
			s := &scanner{
				repairer: r,
				hash:     r.tree.NewHasher(),
				walker:   r.walker(),
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
	hash     *hashtree.Hasher
	walker   *hashtree.Walker
	slots    []byte
	children []byte
}

// under verifies the blocks of a level that the same hash block is about.
func (s *scanner) under(ctx context.Context, level int, parent int64) (damage, error) {
	t := s.tree
	first, count, proven := int64(0), int64(1), true
	if level < t.Top() {
		proven = s.state(t.start[level+1]+parent) == good
		first, count = parent*t.PerBlock, int64(t.Children(level+1, parent))
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
		if level == 0 {
			s.slots = s.hash.AppendData(s.slots[:0], s.children[:n*bs])
		} else {
			s.slots = s.hash.AppendTree(s.slots[:0], s.children[:n*bs])
		}
		for i := range n {
			if _, fixed := s.fixed[at+i]; fixed {
				continue
			}
			digest, err := s.walker.Want(level, first+done+i)
			if err != nil {
				return nil, err
			}
			switch matches := bytes.Equal(t.Digest(s.slots, int(i)), digest); {
			case !matches && proven:
				found.add(run{at + i, 1, bad})
			case !matches:
				found.add(run{at + i, 1, suspect})
			case proven && level > 0:
				if err := t.checkSpare(level, first+done+i, s.children[i*bs:][:bs]); err != nil {
					return nil, err
				}
			case !proven:
				found.add(run{at + i, 1, unproven})
			}
		}
		done += n
	}
	return found, nil
}
