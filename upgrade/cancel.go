package upgrade

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
)

// Cancel removes what an upgrade has put on the disk and no boot has tried yet ([State.Staged]):
// entries that have all their tries and do not run, with their files, and what an interrupted
// upgrade has left on the ESP and in slots. Their slots become empty. It returns the paths that it
// removed, if any.
//
// The machine must start a good set afterwards; otherwise the error is [ErrNothingToReturnTo] and
// nothing is written. Cancel does not restore what the upgrade removed or overwrote. After a power
// cut at any write the machine boots the set that it booted before. The disk must have a method
// Sync and is locked, as by [Plan.Apply].
func Cancel(disk osmith.Disk, m Machine) (gone []string, err error) {
	defer prefix.Add("upgrade", &err)
	if m.Running == nil && !m.Offline {
		return nil, fmt.Errorf("cancel: %w", ErrRunningUnknown)
	}
	if m.Loader == nil {
		return nil, fmt.Errorf("cancel: %w", errLoaderUnknown)
	}
	err = change(disk, &m, func(s *State, on *checkedDisk) (err error) {
		gone, err = s.cancel(on)
		return err
	})
	if err != nil {
		return gone, fmt.Errorf("cancel: %w", err)
	}
	return gone, nil
}

func (s *State) cancel(on *checkedDisk) (gone []string, err error) {
	var files []espFile
	for _, e := range s.Entries {
		if !s.isStaged(e) || e.Profile != 0 {
			continue
		}
		list, err := s.removed(e, s.isStaged)
		if err != nil {
			return nil, err
		}
		files = append(files, list...)
	}
	files = append(files, s.staged...)
	config, changed, err := s.withoutStaged()
	if err != nil {
		return nil, err
	}
	slots := s.abandoned()
	if len(files) == 0 && len(slots) == 0 && !changed {
		return nil, nil
	}
	view := func() (o overlay) {
		o = overlay{FS: s.esp}
		for _, f := range files {
			o.gone = append(o.gone, f.path)
		}
		if changed {
			o.add(configPath, bytesSource(config))
		}
		return o
	}
	if err := s.returns(view); err != nil {
		return nil, err
	}
	if err := s.esp.putRight(); err != nil {
		return nil, err
	}
	if changed {
		if err := writeWhole(s.esp, configPath, config); err != nil {
			return nil, err
		}
	}
	for _, f := range files {
		if slices.Contains(gone, f.path) {
			continue
		}
		if err := s.esp.removeLeft(f.path); err != nil {
			return gone, fmt.Errorf("%s: %w", f.path, err)
		}
		gone = append(gone, f.path)
	}
	for _, slot := range slots {
		s.slots.Vacate(slot.Slot)
	}
	if len(slots) > 0 {
		if err := s.table.Write(on); err != nil {
			return gone, err
		}
	}
	return gone, nil
}

// withoutStaged is loader.conf without the preference for a downgrade that no boot has tried.
func (s *State) withoutStaged() (config []byte, changed bool, err error) {
	conf, err := fs.ReadFile(s.esp, configPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	rest := withoutPreference(conf)
	if len(rest) == len(conf) {
		return nil, false, nil
	}
	staged := slices.ContainsFunc(s.Entries, func(e *Entry) bool { return s.isStaged(e) && fat.SameName(e.ID, s.menu.Config.Preferred) })
	return rest, staged, nil
}

// abandoned are the slots that hold nothing that an entry needs, once staged entries are gone: of
// these, and those whose writing did not end.
func (s *State) abandoned() (list []*Slot) {
	for _, slot := range s.Slots {
		staged, needed := false, false
		for _, e := range s.Entries {
			if slices.Contains(e.needs, slot) {
				staged, needed = staged || s.isStaged(e), needed || !s.isStaged(e)
			}
		}
		if !needed && (staged || slot.State == partition.SlotPartial) {
			list = append(list, slot)
		}
	}
	return list
}
