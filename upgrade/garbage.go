package upgrade

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
)

// Garbage is a file on a boot partition that is no longer started and no longer needed.
type Garbage struct {
	Path   string
	Size   int64 // bytes
	Reason string

	remove StepKind
}

// keeps reports whether Machine.Keep names an entry.
func (s *State) keeps(e *Entry) bool {
	return slices.ContainsFunc(s.machine.Keep, func(name string) bool {
		return slices.ContainsFunc(s.named(name), func(k *Entry) bool { return k.Path == e.Path })
	})
}

// findGarbage finds files that a running system, an upgrade or a return cannot need: what
// interrupted upgrades have left, entries of the same product whose root file system is on no
// partition of the disk any more, with what lies beside them, and add-ons of UKIs that are not
// there. What is not known to be one of these is none: entries of others, also without a root hash,
// loaders, and credentials and extensions, which may wait for their UKI.
func (s *State) findGarbage() error {
	for _, f := range s.staged {
		s.Garbage = append(s.Garbage, Garbage{f.path, f.size, "left by an interrupted upgrade", f.remove})
	}
	for _, e := range s.Entries {
		// Of the profiles of a UKI, all have to be.
		if e.Profile != 0 || slices.ContainsFunc(s.Entries, func(other *Entry) bool { return other.Path == e.Path && !s.isUnbound(other) }) {
			continue
		}
		files, err := s.removed(e, s.isUnbound)
		if err != nil {
			return err
		}
		for _, f := range files {
			if f.path == e.Path || isAddon(f.path) || f.remove == StepRemoveEntry {
				s.Garbage = append(s.Garbage, Garbage{f.path, f.size, fmt.Sprintf("its root hash %s is on no partition of the disk", hash(e.RootHash)), f.remove})
			}
		}
	}
	return s.esp.each(s.findOrphans)
}

// isUnbound reports whether an entry of the product that runs cannot boot, because what it mounts
// is not on the disk.
func (s *State) isUnbound(e *Entry) bool {
	known := s.Running
	if known == nil {
		known = s.Next
	}
	if s.noSlots != nil || known == nil || known.Slot == nil || len(e.hashes) == 0 || e.Slot != nil || len(e.needs) > 0 || e.Damage != "" {
		return false
	}
	for _, keep := range []*Entry{s.Running, s.Started, s.Next, s.LastGood} {
		if keep != nil && keep.Path == e.Path {
			return false
		}
	}
	if s.keeps(e) {
		return false
	}
	for _, h := range e.hashes {
		data, tree, err := partition.VerityIDs(h)
		if err != nil || s.table.Find(data) >= 0 || s.table.Find(tree) >= 0 {
			return false
		}
	}
	own, err := s.productOfEntry(e)
	if err != nil || own.ID == "" {
		return false
	}
	running, err := s.productOfEntry(known)
	return err == nil && own.ID == running.ID && own.Variant == running.Variant
}

// findOrphans finds add-ons beside UKIs that are not there, whatever the counter in their names.
func (s *State) findOrphans(volume string, v *bootVolume) error {
	const suffix = ".extra.d"
	list, err := listDir(v, entryDir)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, f := range list {
		if !f.IsDir() {
			there[fold(uncounted(f.Name()))] = true
		}
	}
	for _, d := range list {
		image, ok := strings.CutSuffix(fold(d.Name()), suffix)
		if !ok || !d.IsDir() || there[image] || there[fold(uncounted(image))] {
			continue
		}
		dir := path.Join(entryDir, d.Name())
		beside, err := filesBelow(v, []string{dir})
		if err != nil {
			return err
		}
		for _, name := range beside {
			if !isAddon(name) && !isStagedName(name) {
				continue
			}
			info, err := v.Stat(name)
			if err != nil {
				return err
			}
			s.Garbage = append(s.Garbage, Garbage{volume + name, info.Size(), "its UKI is not there", StepRemoveAddon})
		}
	}
	return nil
}

// collectGarbage adds garbage to what a plan removes, as long as the new entry does not fit.
func (p *Plan) collectGarbage() {
	for _, g := range p.state.Garbage {
		if p.room() {
			return
		}
		if p.isStaged && fat.SameName(g.Path, p.staged()) {
			continue
		}
		p.remove([]espFile{{g.Path, g.Size, g.remove}})
	}
}

// Collect removes [State].Garbage, and returns what it removed. The running set, the set that the
// loader starts next, the last good set and the entries in Machine.Keep are not garbage. The
// machine must start a good set afterwards, otherwise the error is [ErrNothingToReturnTo] and
// nothing is written. The loader's variables must be known (Machine.Loader), and so must the
// running set, unless the machine is off. The disk must have a method Sync and is locked, as by
// [Plan.Apply]. A plan collects garbage by itself if it needs the space.
func Collect(disk osmith.Disk, m Machine) (gone []Garbage, err error) {
	defer prefix.Add("upgrade", &err)
	if m.Running == nil && !m.Offline {
		return nil, fmt.Errorf("collect garbage: %w", ErrRunningUnknown)
	}
	if m.Loader == nil {
		return nil, fmt.Errorf("collect garbage: %w", errLoaderUnknown)
	}
	err = change(disk, &m, func(s *State, _ *checkedDisk) error {
		if err := s.unfit(false); err != nil {
			return err
		}
		if len(s.Garbage) == 0 {
			return nil
		}
		err := s.returns(func() (o overlay) {
			o = overlay{FS: s.esp}
			for _, g := range s.Garbage {
				o.gone = append(o.gone, g.Path)
			}
			return o
		})
		if err != nil {
			return err
		}
		if err := s.esp.putRight(); err != nil {
			return err
		}
		for _, g := range s.Garbage {
			if err := s.esp.removeLeft(g.Path); err != nil {
				return fmt.Errorf("%s: %w", g.Path, err)
			}
			gone = append(gone, g)
		}
		return nil
	})
	if err != nil {
		return gone, fmt.Errorf("collect garbage: %w", err)
	}
	return gone, nil
}
