package upgrade

import "fmt"

// Commit makes an entry permanent: it loses its boot counter. It is what a machine does once it has found the new version
// good (bless). The path is that of the entry with any counter; committing twice is not an error.
func Commit(disk Disk, entry string) error {
	return rename(disk, entry, "commit", func(e *Entry) (from, to string) { return e.Good() })
}

// Rollback marks an entry as bad: the loader sorts it last and boots the other one. The running machine needs a reboot.
func Rollback(disk Disk, entry string) error {
	return rename(disk, entry, "roll back", func(e *Entry) (from, to string) { return e.MarkBad() })
}

func rename(disk Disk, entry, verb string, change func(*Entry) (from, to string)) error {
	s, err := inspect(disk, Machine{})
	if err != nil {
		return err
	}
	e := s.byPath(entry)
	if e == nil {
		return fmt.Errorf("upgrade: %s: no entry %s on the ESP", verb, uncounted(entry))
	}
	from, to := change(e)
	if from == to {
		return nil
	}
	if err := s.esp.Rename(from, to); err != nil {
		return fmt.Errorf("upgrade: %s: %w", verb, err)
	}
	if err := syncDisk(disk); err != nil {
		return fmt.Errorf("upgrade: %s: sync: %w", verb, err)
	}
	return nil
}
