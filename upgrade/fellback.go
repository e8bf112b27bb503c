package upgrade

import (
	"fmt"

	"github.com/osmith-dev/osmith/bootloader"
)

// A FellBack is a newer version that the machine does not run, because the version has used up its
// tries.
type FellBack struct {
	Version string
	Entry   *Entry // nil: the entry is gone from the ESP, which still records that it has failed
	Reason  string
}

// findFellBack says why what runs is older than what was installed last; nil if it is not.
func (s *State) findFellBack() *FellBack {
	r := s.Running
	if r == nil {
		return nil
	}
	newer := func(version, than string) bool { return bootloader.CompareVersions(version, than) > 0 }
	var found *FellBack
	for _, e := range s.Entries {
		if e.Bad() && e.TriesDone > 0 && e.Profile == 0 && e.SortKey == r.SortKey && newer(e.Version, r.Version) && (found == nil || newer(e.Version, found.Version)) {
			found = &FellBack{e.Version, e, fmt.Sprintf("%s has failed in all of its %d tries", e.Path, e.TriesDone)}
		}
	}
	for _, f := range s.Failed {
		if f.Product == r.SortKey && newer(f.Version, r.Version) && (found == nil || newer(f.Version, found.Version)) {
			found = &FellBack{f.Version, nil, fmt.Sprintf("version %s has failed here, and is gone from the ESP", f.Version)}
		}
	}
	return found
}

// findLastGood is the entry that comes first in the menu of those of which a boot was found good,
// as far as the ESP and the table tell.
func (s *State) findLastGood() *Entry {
	for _, e := range s.Entries {
		if !e.Counted && e.Damage == "" && (e.Slot != nil || s.isAlone(e)) {
			return e
		}
	}
	return nil
}

// secureBootState is what firmware does about signatures, in a word; "" if that is not known.
func (m *Machine) secureBootState() string {
	switch f := m.Firmware; {
	case m.NoSecureBoot, f != nil && f.SecureBoot != nil && len(f.SecureBoot) == 0:
		return "none"
	case f == nil || len(f.SecureBoot) != 1:
		return ""
	case f.SecureBoot[0] == 1:
		return "on"
	case len(f.SetupMode) == 1 && f.SetupMode[0] == 1:
		return "setup mode"
	}
	return "off"
}
