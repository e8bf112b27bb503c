package fec

import "context"

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
			digest, err := w.expected(w.parent, block)
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
			if w.hash.matches(stored, digest) {
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
	first := number * w.tree.perBlock
	for i := range min(w.tree.perBlock, w.tree.blocks[level-1]-first) {
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
		copy(w.tree.digestIn(content, int(i)), w.hash.of(child))
	}
	return content, nil
}
