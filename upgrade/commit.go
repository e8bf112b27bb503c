package upgrade

import (
	"fmt"
	"path"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// Commit makes an entry permanent: it loses its boot counter. It is what a machine does once it has found the new version
// good (bless). The path is that of the entry with any counter; committing twice is not an error.
func Commit(disk osmith.Disk, entry string) error {
	return rename(disk, entry, "commit", func(_ *State, e *Entry) (from, to string, err error) {
		from, to = e.Good()
		return from, to, nil
	})
}

// Rollback marks an entry as bad, committed or not: the loader sorts it last and boots another one at the next start.
// Without another entry that can boot it is [ErrNothingToReturnTo]. Rolling back twice is not an error.
func Rollback(disk osmith.Disk, entry string) error {
	return rename(disk, entry, "roll back", func(s *State, e *Entry) (from, to string, err error) {
		if !s.hasOther(e) {
			return "", "", ErrNothingToReturnTo
		}
		if e.Counted {
			from, to = e.MarkBad()
			return from, to, nil
		}
		// A committed entry has no counter to run out; it gets one that has.
		suffix := path.Ext(e.Path)
		spent := bootloader.Counter{TriesDone: 1}
		return e.Path, strings.TrimSuffix(e.Path, suffix) + spent.String() + suffix, nil
	})
}

// hasOther reports whether another entry could boot: it has tries left, and the slot that it names.
func (s *State) hasOther(e *Entry) bool {
	for _, other := range s.Entries {
		if other.Path != e.Path && !other.Bad() && other.Slot != nil {
			return true
		}
	}
	return false
}

func rename(disk osmith.Disk, entry, verb string, change func(*State, *Entry) (from, to string, err error)) (err error) {
	defer prefix.Add("upgrade", &err)
	s, err := inspect(disk, Machine{})
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
	if from == to {
		return nil
	}
	if err := s.esp.Rename(from, to); err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	if err := syncDisk(disk); err != nil {
		return fmt.Errorf("%s: sync: %w", verb, err)
	}
	return nil
}
