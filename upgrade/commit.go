package upgrade

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/partition/fat"
)

// Commit makes an entry permanent: it loses its boot counter. It is what a machine does once it has found the new version
// good (bless). The path, or id, is that of the entry with any counter; committing twice is not an error.
//
// It must be what runs, and firmware must have started it: a set that came up by kexec or a soft reboot is a [*NotStartedError], since whether it comes
// up when the machine is switched on was not seen. Without Machine.Running the error is [ErrRunningUnknown], of a machine that is off [ErrOffline].
func Commit(disk osmith.Disk, m Machine, entry string) error {
	switch {
	case m.Offline:
		return prefix.Error("upgrade", fmt.Errorf("commit: %w", ErrOffline))
	case m.Running == nil:
		return prefix.Error("upgrade", fmt.Errorf("commit: %w", ErrRunningUnknown))
	}
	return rename(disk, &m, entry, "commit", func(s *State, e *Entry) (from, to string, err error) {
		switch {
		case !fat.SameName(e.Path, s.Running.Path):
			return "", "", &NotStartedError{e.Path, fmt.Sprintf("%s runs", s.Running.Path)}
		case s.notStarted != nil:
			return "", "", s.notStarted
		}
		if err := s.forgetFailed(e); err != nil {
			return "", "", err
		}
		from, to = e.Good()
		return from, to, nil
	})
}

// Rollback marks an entry as bad, committed or not: the loader sorts it last and boots another one at the next start.
// Without another set that the machine then returns to, it is [ErrNothingToReturnTo]. Rolling back twice is not an error.
func Rollback(disk osmith.Disk, m Machine, entry string) error {
	return rename(disk, &m, entry, "roll back", func(s *State, e *Entry) (from, to string, err error) {
		if e.Counted {
			from, to = e.MarkBad()
		} else {
			// A committed entry has no counter to run out; it gets one that has.
			suffix := path.Ext(e.Path)
			spent := bootloader.Counter{TriesDone: 1}
			from, to = e.Path, strings.TrimSuffix(e.Path, suffix)+spent.String()+suffix
		}
		return from, to, s.returnsWithout(from, to)
	})
}

// returnsWithout asks whether the machine returns to a good set once an entry is marked bad.
func (s *State) returnsWithout(from, to string) error {
	for _, version := range s.versions() {
		view := overlay{FS: s.esp}
		view.rename(from, to)
		_, _, err := s.simulate(view, version).chain(func(b *bootloader.Entry) error {
			e := s.atPath(b)
			if e == nil {
				return &UnboundError{b.Path, nil}
			}
			return s.good(e)
		}, s.refuses)
		if chain, ok := errors.AsType[*ChainError](err); ok {
			return fmt.Errorf("%w: %w", ErrNothingToReturnTo, chain)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func rename(disk osmith.Disk, m *Machine, entry, verb string, change func(*State, *Entry) (from, to string, err error)) (err error) {
	defer prefix.Add("upgrade", &err)
	s, err := inspect(disk, m)
	if err != nil {
		return err
	}
	e := s.byPath(entry)
	if e == nil {
		return fmt.Errorf("%s: no entry %s on the ESP", verb, uncounted(entry))
	}
	from, to, err := change(s, e)
	if err != nil {
		return fmt.Errorf("%s %s: %w", verb, e.Path, err)
	}
	if from != to {
		if err := s.esp.Rename(from, to); err != nil {
			return fmt.Errorf("%s: %w", verb, err)
		}
	}
	if err := syncDisk(disk); err != nil {
		return fmt.Errorf("%s: sync: %w", verb, err)
	}
	return nil
}
