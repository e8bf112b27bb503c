package upgrade

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/tpm"
)

// NotStartedError says that firmware has not started the running set, or may not have: the set was
// started by kexec or a soft reboot, or the file on the ESP has changed. It is then unknown whether
// the set starts from power-on: reboot first.
type NotStartedError struct {
	Entry  string // path on the ESP
	Reason string
}

func (e *NotStartedError) Error() string {
	return fmt.Sprintf("firmware has not started %s: %s; reboot into it first", e.Entry, e.Reason)
}

// NotRunningError says that Machine.Running names something that is not on the disk.
type NotRunningError struct {
	What string // "the UKI", "the root hash", "the ESP"
	Name string
}

func (e *NotRunningError) Error() string {
	return fmt.Sprintf("%s %s of Machine.Running is not on the disk: the machine may have booted from a different disk", e.What, e.Name)
}

// boots reports whether a root hash is of what the entry boots. Of several on its command line the
// slots tell which; without them, any may be it.
func (e *Entry) boots(rootHash []byte) bool {
	return slices.Equal(e.RootHash, rootHash) ||
		e.Slot == nil && slices.ContainsFunc(e.hashes, func(h []byte) bool { return slices.Equal(h, rootHash) })
}

// findRunning finds out which sets run and were started.
func (s *State) findRunning() error {
	r := s.machine.Running
	if r == nil {
		return nil
	}
	if r.Image == "" || len(r.RootHash) == 0 && r.Version == "" {
		return fmt.Errorf("%w: of the two, Image is %q and RootHash %s", ErrRunningUnknown, r.Image, hash(r.RootHash))
	}
	runs := func(e *Entry) bool { return e.boots(r.RootHash) }
	what, name := "the root hash", hash(r.RootHash)
	if len(r.RootHash) == 0 {
		runs = func(e *Entry) bool { return s.isAlone(e) && s.versionOf(e) == r.Version }
		what, name = "a UKI alone of the version", r.Version
	}
	started := slices.DeleteFunc(s.named(r.Image), s.elsewhere)
	if len(started) == 0 {
		return &NotRunningError{"the UKI", r.Image}
	}
	// Of a counted and an uncounted file of one name, the loader says which one it has counted.
	slices.SortStableFunc(started, func(a, b *Entry) int {
		named := func(e *Entry) int {
			if r.BootCountPath != "" && onVolume(e.Path, espPath(r.BootCountPath)) {
				return 0
			}
			return 1
		}
		return named(a) - named(b)
	})
	s.Started = started[0]
	if i := slices.IndexFunc(started, runs); i >= 0 {
		s.Running, s.Started = started[i], started[i]
		s.notStarted = s.checkStart()
		return nil
	}
	i := slices.IndexFunc(s.Entries, runs)
	if i < 0 {
		return &NotRunningError{what, name}
	}
	s.Running = s.Entries[i]
	s.notStarted = &NotStartedError{s.Running.Path, fmt.Sprintf("the firmware started %s, and the running system came up from it by kexec or a soft reboot", s.Started.Path)}
	return nil
}

// elsewhere reports whether an entry is on another file system than the one that firmware says it
// has started the UKI from.
func (s *State) elsewhere(e *Entry) bool {
	id := s.machine.Running.ESP
	i := s.table.Find(id)
	if id.IsZero() || i < 0 {
		return false
	}
	return e.XBOOTLDR != (s.table.Partitions[i].Type == partition.XBOOTLDR)
}

// named are the entries that a path or an id stands for, those with this very name first, and
// default profiles before others. The loader renames on boot, so a counter does not tell entries
// apart.
func (s *State) named(name string) (list []*Entry) {
	p := espPath(name)
	isPath := strings.ContainsRune(p, '/')
	match := func(same func(e *Entry) bool) {
		for _, profile := range []bool{false, true} {
			for _, e := range s.Entries {
				if (e.Profile != 0) == profile && same(e) && !slices.Contains(list, e) {
					list = append(list, e)
				}
			}
		}
	}
	if isPath {
		match(func(e *Entry) bool { return fat.SameName(e.Path, p) || fat.SameName(e.Loader, p) })
		match(func(e *Entry) bool { return onVolume(e.Path, p) || onVolume(e.Loader, p) })
		match(func(e *Entry) bool {
			return onVolume(uncounted(e.Path), uncounted(p)) || onVolume(uncounted(e.Loader), uncounted(p))
		})
		return list
	}
	// An id is the name of the file; of older loaders it has the counter, and of another profile a
	// suffix.
	id, _, _ := strings.Cut(p, "@")
	match(func(e *Entry) bool { return fat.SameName(e.ID, p) })
	match(func(e *Entry) bool { return fat.SameName(path.Base(e.Path), id) })
	match(func(e *Entry) bool { return fat.SameName(path.Base(uncounted(e.Path)), uncounted(id)) })
	return list
}

// onVolume reports whether a path on some file system is the one that firmware or a caller names,
// who may not say on which.
func onVolume(name, named string) bool {
	_, rest := splitVolume(name)
	return fat.SameName(name, named) || fat.SameName(rest, named)
}

// byPath finds an entry by its path or id, whatever its counter says now; nil if there is none.
func (s *State) byPath(name string) *Entry {
	if list := s.named(name); len(list) > 0 {
		return list[0]
	}
	return nil
}

// espPath is a path as firmware writes it, `\EFI\Linux\acme_1.efi`, or `/\EFI\...` as U-Boot does,
// in the form of this package.
func espPath(name string) string {
	return strings.TrimLeft(strings.ReplaceAll(name, `\`, "/"), "/")
}

// checkStart checks what is known of the start against the set that firmware says it has started.
func (s *State) checkStart() error {
	r, e := s.machine.Running, s.Started
	switch p := espPath(r.BootCountPath); {
	case p != "" && !onVolume(uncounted(e.Path), uncounted(p)):
		return &NotStartedError{e.Path, fmt.Sprintf("LoaderBootCountPath says that the loader has started %s", p)}
	case p != "" && e.Counted && !onVolume(e.Path, p):
		return &NotStartedError{e.Path, fmt.Sprintf("LoaderBootCountPath is %s: the entry was counted or rewritten since", p)}
	case p == "" && e.Bad():
		return &NotStartedError{e.Path, "the entry has used up its tries, and LoaderBootCountPath does not say that this boot was one of them"}
	}
	if r.Log != nil {
		src, err := openFile(s.esp, e.Loader)
		if err != nil {
			return err
		}
		image, err := secureboot.ReadImage(src, r.Log.Banks()...)
		if err != nil {
			return fmt.Errorf("%s, which runs: %w", e.Loader, err)
		}
		if !measured(r.Log, image.Digests) {
			return &NotStartedError{e.Path, "the firmware's log of this boot has no start of this file"}
		}
		return nil
	}
	if e.Counted && r.BootCountPath == "" {
		return &NotStartedError{e.Path, "the entry has a boot counter, and neither LoaderBootCountPath nor the firmware's log says that this boot was counted"}
	}
	return nil
}

// bootManagerPCR is where firmware measures the programs that it starts.
const bootManagerPCR = 4

// measured reports whether a log has the start of a program with these Authenticode digests.
func measured(log *tpm.Log, digests map[crypto.Hash][]byte) bool {
	return slices.ContainsFunc(log.Events, func(e tpm.Event) bool {
		if e.PCR != bootManagerPCR || e.Type != tpm.EventEFIBootServicesApplication {
			return false
		}
		for h, d := range e.Digests {
			if want := digests[h]; want != nil && bytes.Equal(d, want) {
				return true
			}
		}
		return false
	})
}

// ErrOffline is returned for an operation that only a running machine can carry out.
var ErrOffline = errors.New("the machine is off: nothing says that the set came up")
