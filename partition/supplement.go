package partition

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/osmith-dev/osmith"
)

// Supplements ([Spec.SupplementFor], SupplementFor= of repart.d(5)): what systemd-repart 262 does
// was observed by running it. It first merges every supplement that is not on the disk into its
// target. When that finds no room, it takes the two as they are written; when that finds none
// either, it leaves out partitions by Priority and begins again.

// merger is a supplement and its target.
type merger struct {
	target, supplement *slice
	whole, own         demand // of the target: with and without the supplement
	merged             bool
}

// demand is what decides the size of a slice.
type demand struct {
	bounds
	weight, padWeight uint64
}

// keep makes the size at least what the partition has already: it gets no smaller.
func (d demand) keep(old int64) demand {
	d.min = max(d.min, old)
	d.max = max(d.max, d.min)
	return d
}

// targets gives for every partition of the layout the index of its target, or -1. bad is the one
// that an error is about.
func (l *Layout) targets() (out []int, bad int, err error) {
	out = make([]int, len(l.Partitions))
	supplement := map[int]string{}
	for i := range out {
		s := &l.Partitions[i]
		if out[i] = -1; s.SupplementFor == "" {
			continue
		}
		fail := func(format string, args ...any) ([]int, int, error) {
			return nil, i, fmt.Errorf("supplement for %q: %w", printable(s.SupplementFor), fmt.Errorf(format, args...))
		}
		k := slices.IndexFunc(l.Partitions, func(t Spec) bool { return t.Definition == s.SupplementFor })
		switch {
		case k < 0 || k == i:
			return fail("no other partition is defined by that name")
		case l.Partitions[k].SupplementFor != "":
			return fail("that is a supplement itself")
		case supplement[k] != "":
			return fail("that has a supplement already, %q", printable(supplement[k]))
		}
		for _, one := range []*Spec{s, &l.Partitions[k]} {
			if f := one.Fill; f != nil && (f.File != "" || f.Running || f.Verity != nil || f.Encrypt != nil) {
				return fail("%q is to be filled with %s, which cannot be merged", printable(one.called()), f)
			}
		}
		out[i], supplement[k] = k, s.called()
	}
	return out, 0, nil
}

// called is what messages call a partition among others of the layout.
func (s *Spec) called() string { return cmp.Or(s.Definition, s.Name, TypeName(s.Type)) }

// merge is the target t with its supplement s merged into it.
func (t Spec) merge(s *Spec) Spec {
	t.Weight, t.PaddingWeight = s.Weight, s.PaddingWeight
	t.MinSize, t.PaddingMin = max(t.MinSize, s.MinSize), max(t.PaddingMin, s.PaddingMin)
	t.MaxSize, t.PaddingMax = smaller(t.MaxSize, s.MaxSize), smaller(t.PaddingMax, s.PaddingMax)
	if b := s.Merged; b != nil {
		t.MinSize, t.MaxSize, t.PaddingMin, t.PaddingMax = b.MinSize, b.MaxSize, b.PaddingMin, b.PaddingMax
	}
	if s.Content != nil {
		if t.Content == nil {
			t.Content = s.Content
		} else {
			t.Content = unmerged(t.Content.Size() + s.Content.Size())
		}
	}
	t.Fill = t.Fill.merge(s.Fill)
	return t
}

// smaller is the smaller of two bounds, of which 0 is none.
func smaller(a, b int64) int64 {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// unmerged is the content of a partition that two were merged into, until the caller sets it:
// it has a size alone.
type unmerged int64

func (u unmerged) Size() int64 { return int64(u) }

func (u unmerged) ReadAt([]byte, int64) (int, error) {
	return 0, errors.New("two partitions were merged into one: make the content that Image.Fill describes, and set it with SetContent")
}

// merge is f with the files of another.
func (f *Fill) merge(other *Fill) *Fill {
	if f == nil || other == nil {
		return cmp.Or(f, other)
	}
	out := *f
	files, exclude, excludeTarget, subvolumes := other.tree()
	switch {
	case f.FAT != nil:
		fat := *f.FAT
		fat.Files = slices.Concat(fat.Files, files)
		fat.Exclude, fat.ExcludeTarget = slices.Concat(fat.Exclude, exclude), slices.Concat(fat.ExcludeTarget, excludeTarget)
		out.FAT = &fat
	case f.FileSystem != nil:
		fs := *f.FileSystem
		fs.Files = slices.Concat(fs.Files, files)
		fs.Exclude, fs.ExcludeTarget = slices.Concat(fs.Exclude, exclude), slices.Concat(fs.ExcludeTarget, excludeTarget)
		fs.Subvolumes = slices.Concat(fs.Subvolumes, subvolumes)
		out.FileSystem = &fs
	}
	return &out
}

func (f *Fill) tree() (files []Copy, exclude, excludeTarget []string, subvolumes []Subvolume) {
	switch {
	case f.FAT != nil:
		return f.FAT.Files, f.FAT.Exclude, f.FAT.ExcludeTarget, nil
	case f.FileSystem != nil:
		return f.FileSystem.Files, f.FileSystem.Exclude, f.FileSystem.ExcludeTarget, f.FileSystem.Subvolumes
	}
	return nil, nil, nil, nil
}

// supplements pairs slices, which are in the order of the layout, and merges those that are not on
// the disk.
func (al *allocator) supplements(l *Layout, targets []int, exists func(i int) bool) error {
	for i, k := range targets {
		if k < 0 || exists(i) {
			continue
		}
		m := &merger{target: al.slices[k], supplement: al.slices[i]}
		whole := l.Partitions[k].merge(&l.Partitions[i])
		b, err := l.bounds(&whole, exists(k))
		if err != nil {
			return err
		}
		m.own = m.target.demand
		m.whole = demand{b, uint64(whole.Weight), uint64(whole.PaddingWeight)}
		al.mergers = append(al.mergers, m)
	}
	al.mergeAll()
	return nil
}

// mergeAll merges every pair whose supplement was not left out. With a target that was, both are.
func (al *allocator) mergeAll() {
	for _, m := range al.mergers {
		m.set(m.target.spec >= 0 && !m.supplement.dropped)
	}
}

// separate takes a pair apart, first the one whose target does not fit. It says whether there was
// one.
func (al *allocator) separate(miss *misfit) bool {
	for _, wanted := range []bool{true, false} {
		for _, m := range al.mergers {
			if m.merged && (m.target == miss.slice || !wanted) {
				m.set(false)
				return true
			}
		}
	}
	return false
}

func (m *merger) set(merged bool) {
	m.merged, m.supplement.merged = merged, merged
	switch {
	case merged:
		m.target.demand = m.whole
	case m.target.spec >= 0: // else it has become foreign, and stays as it is
		m.target.demand = m.own
	}
}

// supplementOf is the supplement that is merged into a slice, or nil.
func (al *allocator) supplementOf(s *slice) *slice {
	for _, m := range al.mergers {
		if m.merged && m.target == s {
			return m.supplement
		}
	}
	return nil
}

var _ osmith.Source = unmerged(0)
