package verity

// findings are damaged blocks by level.
type findings struct {
	levels []ranges
}

func (f *findings) reset(levels int) {
	if f.levels == nil {
		f.levels = make([]ranges, levels)
	}
	for i := range f.levels {
		f.levels[i] = ranges{list: f.levels[i].list[:0]}
	}
}

// merge adds the findings of the job that follows.
func (f *findings) merge(next *findings) {
	for i := range next.levels {
		from := &next.levels[i]
		var listed int64
		for _, r := range from.list {
			f.levels[i].add(r.First, r.Count)
			listed += r.Count
		}
		f.levels[i].total += from.total - listed
	}
}

// mismatch returns the findings as an error value; without any, its totals are 0.
func (f *findings) mismatch() *MismatchError {
	e := new(MismatchError)
	for level, found := range f.levels {
		for _, r := range found.list {
			r.Level = level
			e.Ranges = append(e.Ranges, r)
		}
		if level == 0 {
			e.DataBlocks = found.total
		} else {
			e.TreeBlocks += found.total
		}
	}
	return e
}

// ranges are blocks of one level, listed up to MaxRanges and counted beyond.
type ranges struct {
	list  []Range
	total int64
}

// add adds blocks that lie behind those added before.
func (r *ranges) add(first, count int64) {
	r.total += count
	if n := len(r.list); n > 0 && r.list[n-1].First+r.list[n-1].Count == first {
		r.list[n-1].Count += count
	} else if n < MaxRanges {
		r.list = append(r.list, Range{First: first, Count: count})
	}
}
