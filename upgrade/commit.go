package upgrade

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/partition/fat"
)

// ErrNoEntry is returned for an entry that is not on the ESP.
var ErrNoEntry = errors.New("no such entry on the ESP")

// TwinError says that the ESP has a counted and an uncounted file of one name with different
// contents, so it is unknown which of them is the version.
type TwinError struct {
	Counted, Uncounted string // paths
}

func (e *TwinError) Error() string {
	return fmt.Sprintf("%s exists beside %s with different content: remove the wrong one", e.Uncounted, e.Counted)
}

// Commit makes the running entry permanent by removing its boot counter (bless). Call it once the
// machine has found the new version good. entry is the entry's path or id, with any counter; "" is
// the running entry. Commit returns the new path of the entry. Committing twice is not an error.
//
// The entry must be the running one, and firmware must have started it. For a set that came up by
// kexec or a soft reboot, the error is a [*NotStartedError], since the set was not yet started from
// power-on. The error is the same for an entry whose counter differs from that of
// LoaderBootCountPath, and for one that has used up its tries in earlier boots. Without
// Machine.Running the error is [ErrRunningUnknown]; for a machine that is off it is [ErrOffline].
//
// Only the ESP and its place in the partition table are needed: other faults of the disk do not
// prevent a commit. If the uncounted name is taken by an equal file, the counted file is removed;
// if by a different file, the error is a [*TwinError]. The disk must have a method Sync and is
// locked, as by [Plan.Apply].
func Commit(disk osmith.Disk, m Machine, entry string) (name string, err error) {
	defer prefix.Add("upgrade", &err)
	switch {
	case m.Offline:
		return "", fmt.Errorf("commit: %w", ErrOffline)
	case m.Running == nil:
		return "", fmt.Errorf("commit: %w", ErrRunningUnknown)
	}
	err = changeEntry(disk, &m, "commit", entry, func(s *State, e *Entry) error {
		if !slices.ContainsFunc(s.named(cmp.Or(entry, e.Path)), func(e *Entry) bool { return e.Path == s.Running.Path }) {
			return &NotStartedError{e.Path, fmt.Sprintf("%s runs", s.Running.Path)}
		}
		if s.notStarted != nil {
			return s.notStarted
		}
		e = s.Running
		if err := s.forgetFailed(e); err != nil {
			return err
		}
		from, to := e.Good()
		name = to
		return s.bless(from, to)
	})
	if err != nil {
		return "", err
	}
	return name, nil
}

// bless gives an entry its name without counter.
func (s *State) bless(counted, uncounted string) error {
	if counted == uncounted {
		return nil
	}
	twin, err := openFile(s.esp, uncounted)
	if errors.Is(err, fs.ErrNotExist) {
		return s.esp.Rename(counted, uncounted)
	}
	if err != nil {
		return err
	}
	want, err := digest(twin)
	if err != nil {
		return err
	}
	same, err := s.sameDigest(counted, want)
	switch {
	case err != nil:
		return err
	case !same:
		return &TwinError{counted, uncounted}
	}
	return s.esp.Remove(counted)
}

// Rollback marks an entry as bad, committed or not: the loader sorts it last and boots another
// entry at the next start. entry is the entry's path or id, with any counter; "" is the running
// entry. Rollback returns the new path of the entry. Rolling back twice is not an error.
//
// If the machine would then have no set to return to, the error is [ErrNothingToReturnTo], and
// nothing is written: for example if loader.conf or a variable pins the entry, firmware refuses the
// other set, or no slot holds the other set. The loader's variables must be known (Machine.Loader),
// and so must be the whole menu. Rollback does not check the file system of the other set for
// damage. The disk must have a method Sync and is locked, as by [Plan.Apply].
func Rollback(disk osmith.Disk, m Machine, entry string) (name string, err error) {
	defer prefix.Add("upgrade", &err)
	if m.Loader == nil {
		return "", fmt.Errorf("roll back: %w", errLoaderUnknown)
	}
	err = changeEntry(disk, &m, "roll back", entry, func(s *State, e *Entry) error {
		// A counted and an uncounted file of one name are one version.
		var marks []mark
		for _, twin := range s.Entries {
			if twin.Profile != e.Profile || !fat.SameName(uncounted(twin.Path), uncounted(e.Path)) {
				continue
			}
			to, err := s.badName(twin, marks)
			if err != nil {
				return err
			}
			marks = append(marks, mark{twin.Path, to})
			if twin == e {
				name = to
			}
		}
		if err := s.returnsWithout(marks); err != nil {
			return err
		}
		for _, m := range marks {
			if m.from == m.to {
				continue
			}
			if err := s.esp.Rename(m.from, m.to); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return name, nil
}

// mark is a rename on the ESP.
type mark struct{ from, to string }

// badName is the name by which an entry has no tries left, and that no other file has.
func (s *State) badName(e *Entry, taken []mark) (string, error) {
	if e.Bad() {
		return e.Path, nil
	}
	_, to := e.MarkBad()
	suffix := path.Ext(e.Path)
	stem := strings.TrimSuffix(uncounted(e.Path), suffix)
	for spent := (bootloader.Counter{TriesDone: 1}); ; spent.TriesDone++ {
		// A committed entry has no counter to run out; it gets one that has.
		if !e.Counted || to == "" {
			to = stem + spent.String() + suffix
		}
		_, err := s.esp.Stat(to)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if !slices.ContainsFunc(taken, func(m mark) bool { return fat.SameName(m.to, to) }) {
				return to, nil
			}
		case err != nil:
			return "", err
		}
		if spent.TriesDone > len(s.Entries)+1 {
			return "", fmt.Errorf("%s: every file name with no tries left is in use", e.Path)
		}
		to = ""
	}
}

// returnsWithout asks whether the machine returns to a good set once entries are marked bad.
func (s *State) returnsWithout(marks []mark) error {
	view := func() (o overlay) {
		o = overlay{FS: s.esp}
		for _, m := range marks {
			o.rename(m.from, m.to)
		}
		return o
	}
	return s.returns(view)
}

// returns asks whether the machine comes up with a good set once the ESP is as a view has it.
func (s *State) returns(view func() overlay) error {
	for _, err := range []error{s.xbootldr, s.unreadable} {
		if err != nil {
			return fmt.Errorf("%w: the menu is unknown: %w", ErrNothingToReturnTo, err)
		}
	}
	if len(s.rules) == 0 {
		return fmt.Errorf("%w: there is no boot loader: %w", ErrNothingToReturnTo, s.unfit(false))
	}
	for _, version := range s.versions() {
		_, _, err := s.simulate(view(), version).chain(func(b *bootloader.Entry) error {
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

// changeEntry does something with an entry of a disk.
func changeEntry(disk osmith.Disk, m *Machine, verb, entry string, do func(*State, *Entry) error) error {
	err := change(disk, m, func(s *State, _ *checkedDisk) error {
		e := s.Running
		if entry != "" {
			if e = s.byPath(entry); e == nil {
				return fmt.Errorf("%s: %w", uncounted(entry), ErrNoEntry)
			}
		}
		if e == nil {
			return fmt.Errorf("no entry is named: %w", ErrRunningUnknown)
		}
		verb += " " + e.Path
		return do(s, e)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	return nil
}

// change does something with a disk that it has alone, and has it reach the medium.
func change(disk osmith.Disk, m *Machine, do func(*State, *checkedDisk) error) (err error) {
	on := checked(disk)
	return alone(on, func() error { return changeAlone(on, m, do) })
}

func changeAlone(on *checkedDisk, m *Machine, do func(*State, *checkedDisk) error) (err error) {
	s, err := inspect(on, m)
	if err != nil {
		return err
	}
	held, err := s.esp.exclusively(on)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held()) }()
	if err := s.esp.repaired(); err != nil {
		return err
	}
	if err := do(s, on); err != nil {
		return err
	}
	return toMedium(on)
}
