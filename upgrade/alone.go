package upgrade

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/partition/fat"
)

// Some systems are a UKI alone (Talos, Kairos): they run from its initrd, and the ESP holds every
// version.

// alone reports whether the release is a UKI alone.
func (p *Plan) alone() bool { return p.release.Root == nil }

// isAlone reports whether a set is a UKI alone: nothing on its command line names a root hash, and
// it says what it is.
func (s *State) isAlone(e *Entry) bool {
	if len(e.hashes) > 0 || len(e.needs) > 0 || e.Type != bootloader.EntryType2 && e.Type != bootloader.EntryType1UKI {
		return false
	}
	own, err := s.productOfEntry(e)
	return err == nil && own.ID != "" && own.Version != ""
}

// runsAlone reports whether what runs is a UKI alone, or, of a machine that is off, what the loader
// would start. On other disks a UKI without a root hash is a rescue system, and no set to return
// to.
func (s *State) runsAlone() bool {
	e := cmp.Or(s.Running, s.Next)
	return e != nil && s.isAlone(e)
}

// versionOf is the version of a set; "" if it does not say.
func (s *State) versionOf(e *Entry) string {
	own, err := s.productOfEntry(e)
	if err != nil {
		return ""
	}
	return own.Version
}

// sameSet reports whether two entries boot one set: from one slot, or, without slots, one UKI.
func (s *State) sameSet(a, b *Entry) bool {
	if a.Slot != nil || b.Slot != nil {
		return a.Slot == b.Slot
	}
	return fat.SameName(uncounted(a.Path), uncounted(b.Path))
}

func sizeOf(src osmith.Source) int64 {
	if src == nil {
		return 0
	}
	return src.Size()
}

// makeRoom chooses what goes from the ESP for a UKI alone: nothing while there is room, else sets
// of the same product, those first that have failed, then those that were never found good, then
// those that the loader likes least. What runs, what firmware has started and, of a machine that is
// off, what the loader may start, stays.
func (p *Plan) makeRoom() error {
	if !p.state.isAlone(p.from) {
		return fmt.Errorf("the release is a UKI alone, but %s, which runs, is not", p.from.Path)
	}
	keep, err := p.state.keptEntries()
	if err != nil {
		return err
	}
	stays := func(e *Entry) bool {
		return slices.ContainsFunc(keep, func(k *Entry) bool { return p.state.sameSet(k, e) })
	}
	named := func(e *Entry) bool { return fat.SameName(uncounted(e.Path), uncounted(p.Entry)) }
	own := p.identity.Product
	var may []*Entry
	for i, e := range p.state.Entries {
		if i > 0 && e.Path == p.state.Entries[i-1].Path {
			continue // another profile of the same file
		}
		switch {
		case named(e) && stays(e):
			return fmt.Errorf("%s must be kept, but has the name of the new version with different content", e.Path)
		case named(e):
			if err := p.removeEntry(e, named); err != nil {
				return err
			}
		case !stays(e) && p.state.isAlone(e):
			if product, err := p.state.productOfEntry(e); err == nil && product.ID == own.ID && product.Variant == own.Variant {
				may = append(may, e)
			}
		}
	}
	rank := func(e *Entry) int {
		if e.Counted {
			return 0
		}
		return 1
	}
	// the loader likes the last of its menu least, and those that have failed are the last
	slices.Reverse(may)
	slices.SortStableFunc(may, func(a, b *Entry) int { return rank(a) - rank(b) })
	if err := p.clear(); err != nil {
		return err
	}
	for _, e := range may {
		if p.room() {
			break
		}
		if err := p.removeEntry(e, func(other *Entry) bool { return other.Path == e.Path }); err != nil {
			return err
		}
	}
	return nil
}

// room reports whether the new entry fits once what goes is gone. The fits verdict reckons with
// more, and has the last word.
func (p *Plan) room() bool {
	v := Verdict{}
	p.judgeESP(&v)
	return v.Outcome != OutcomeFail
}
