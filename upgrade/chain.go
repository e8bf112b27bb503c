package upgrade

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/partition/fat"
)

// Link is one start of the machine, or several starts of one entry in a row, in the chain of starts
// that follows if every set fails that is not known to be good. The chain begins with the new entry
// and ends with the set that the machine returns to, or with what prevents the return.
type Link struct {
	// path on the ESP, before the first of these starts; "" if the loader starts nothing
	Entry   string            `json:"entry"`
	Profile int               `json:"profile,omitempty"` // profile, if the UKI has several
	Why     bootloader.Reason `json:"why"`               // why the loader starts it
	Starts  int               `json:"starts"`            // number of starts in a row
	End     LinkEnd           `json:"end"`
}

// LinkEnd is how the starts of a [Link] end.
type LinkEnd string

// The ends of links.
const (
	LinkTries   LinkEnd = "tries-used-up" // the loader goes on with another entry
	LinkReturns LinkEnd = "returns"       // the chain ends with a good set
	// the chain ends with an entry that the loader would start for ever, and that is not known to
	// be good
	LinkStuck LinkEnd = "stuck"
	// the chain ends: the loader starts nothing, and waits for a person
	LinkNothing LinkEnd = "nothing"
)

// String is the link in a few words.
func (l Link) String() string {
	if l.End == LinkNothing {
		return fmt.Sprintf("nothing (%s)", l.Why)
	}
	s := l.Entry
	if l.Profile != 0 {
		s += fmt.Sprintf(" in profile %d", l.Profile)
	}
	switch {
	case l.End == LinkReturns:
		return s + " returns"
	case l.End == LinkStuck:
		return s + " again and again"
	case l.Starts == 1:
		return s + " once"
	}
	return fmt.Sprintf("%s %d times", s, l.Starts)
}

func chainText(links []Link) string {
	var parts []string
	for _, l := range links {
		parts = append(parts, l.String())
	}
	return strings.Join(parts, ", then ")
}

// maxStarts is how many starts of a machine are followed. A machine that needs more does not come
// back in a reasonable time.
const maxStarts = 300

// ErrTooManyStarts is a reason of the returns verdict: entries have so many tries that the machine
// would not come back in reasonable time.
var ErrTooManyStarts = fmt.Errorf("no good set after %d starts of the machine", maxStarts)

// ChainError is a reason of the returns verdict: the chain of starts does not end with a good set.
type ChainError struct {
	Links []Link
	Err   error
}

func (e *ChainError) Error() string {
	if len(e.Links) == 0 {
		return e.Err.Error()
	}
	return fmt.Sprintf("the loader would start %s: %v", chainText(e.Links), e.Err)
}

// Unwrap is why.
func (e *ChainError) Unwrap() error { return e.Err }

// UncommittedError says that a set cannot be the way back, because its entry still has a boot
// counter: the set was never found good.
type UncommittedError struct {
	Entry string
}

func (e *UncommittedError) Error() string {
	return fmt.Sprintf("%s still has a boot counter, so it was never committed: commit it first", e.Entry)
}

// UnboundError says that no slot on this disk holds what an entry starts.
type UnboundError struct {
	Entry    string
	RootHash []byte
}

func (e *UnboundError) Error() string {
	if e.RootHash == nil {
		return fmt.Sprintf("%s names no root hash, so it is not a set of this disk", e.Entry)
	}
	return fmt.Sprintf("%s names the root hash %s, which no slot holds", e.Entry, hash(e.RootHash))
}

// ErrWaits is a reason of the boots or returns verdict: loader.conf has the loader wait at its menu
// for a person.
var ErrWaits = errors.New("the loader waits at its menu for a person: timeout is menu-force in loader.conf")

// simulation is the ESP from one start of the machine to the next, by the rules of one release of
// the loader.
type simulation struct {
	view      overlay
	xbootldr  bool // there is an extended boot loader partition
	options   bootloader.MenuOptions
	variables bootloader.Variables
}

// start is what the loader does when the machine is switched on, and the ESP and variables as it
// leaves them. again says that the next start is the same for ever.
func (s *simulation) start() (menu *bootloader.Menu, e *bootloader.Entry, why bootloader.Reason, again bool, err error) {
	if menu, err = readMenu(s.view, s.xbootldr, s.options); err != nil {
		return nil, nil, "", false, err
	}
	e, why = menu.Default(s.variables)
	if e == nil {
		return menu, nil, why, true, nil
	}
	next := menu.Started(s.variables, e)
	from, to := e.Boot()
	if from != to && !s.renames(menu, from, to) {
		to = from
	}
	// An entry without tries left is counted on, and stays what it is.
	again = (from == to || e.Bad()) && next == s.variables
	s.variables = next
	s.view.rename(from, to)
	return menu, e, why, again, nil
}

// renames reports whether the loader can count: not where the new name is taken, and since 262 not
// a file that is marked read-only.
func (s *simulation) renames(menu *bootloader.Menu, from, to string) bool {
	if _, err := fs.Stat(s.view, to); err == nil && !fat.SameName(from, to) {
		return false
	}
	info, err := fs.Stat(s.view, from)
	if err != nil {
		return false
	}
	a, ok := info.Sys().(fat.Attributes)
	return !(ok && a.ReadOnly && menu.Release.ReadOnly)
}

// StaysError says that the loader waits for a person once firmware has refused an image, so that
// its tries are not used up.
type StaysError struct {
	Loader  bootloader.Release
	Refused error
}

func (e *StaysError) Error() string {
	return fmt.Sprintf("systemd-boot %s stays in its menu: %v", e.Loader.Version(), e.Refused)
}

// Unwrap is the refusal.
func (e *StaysError) Unwrap() error { return e.Refused }

// chain follows the starts of the machine until one is of a set that good says is good. Where it is
// not, good says why. refused says why firmware does not start the program of an entry; nil if it
// does, or if that is not known.
func (s *simulation) chain(good, refused func(*bootloader.Entry) error) (links []Link, end *bootloader.Entry, err error) {
	for range maxStarts {
		menu, e, why, again, err := s.start()
		switch {
		case err != nil:
			return links, nil, err
		case e == nil:
			links = append(links, Link{Why: why, End: LinkNothing})
			return links, nil, &ChainError{links, ErrNothingToReturnTo}
		case menu.Config.Timeout == "menu-force":
			links = append(links, Link{Why: why, End: LinkNothing})
			return links, nil, &ChainError{links, ErrWaits}
		}
		last := len(links) - 1
		if last < 0 || !fat.SameName(uncounted(links[last].Entry), uncounted(e.Path)) || links[last].Profile != e.Profile || links[last].Why != why {
			links = append(links, Link{Entry: e.Path, Profile: e.Profile, Why: why, End: LinkTries})
			last++
		}
		links[last].Starts++
		bad := good(e)
		if bad == nil {
			links[last].End = LinkReturns
			return links, e, nil
		}
		if again {
			links[last].End = LinkStuck
			if why.Pinned() {
				bad = fmt.Errorf("%w: %s boots %s even when it has failed; clear it", ErrPinned, why, e.Path)
			}
			return links, nil, &ChainError{links, bad}
		}
		if why := refused(e); why != nil && !menu.RebootsOnError(e) {
			links[last].End = LinkStuck
			return links, nil, &ChainError{links, &StaysError{menu.Release, why}}
		}
	}
	return links, nil, &ChainError{links, ErrTooManyStarts}
}

// simulate is the ESP of a state, seen through a view, by the rules of a release.
func (s *State) simulate(view overlay, version osmith.Version) *simulation {
	o := s.menuOptions
	o.LoaderVersion, o.AssumeLoader = version, 0
	return &simulation{view: view, xbootldr: s.esp.xbootldr != nil, options: o, variables: s.machine.loader()}
}

// versions are those whose menus have to be read: of all loaders that firmware may start.
func (s *State) versions() (list []osmith.Version) {
	for i := range s.rules {
		for _, v := range s.rules[i].versions() {
			if !slices.Contains(list, v) {
				list = append(list, v)
			}
		}
	}
	return list
}

// mayStart are the entries that the loader may start by itself from now on, if every set fails that
// is not committed.
func (s *State) mayStart() (list []*Entry, err error) {
	for _, version := range s.versions() {
		sim := s.simulate(overlay{FS: s.esp}, version)
		_, _, err := sim.chain(func(b *bootloader.Entry) error {
			if e := s.byPath(b.Path); e != nil && !slices.Contains(list, e) {
				list = append(list, e)
			}
			if b.Counted {
				return &UncommittedError{b.Path}
			}
			return nil
		}, func(*bootloader.Entry) error { return nil })
		if _, stuck := errors.AsType[*ChainError](err); err != nil && !stuck {
			return nil, err
		}
	}
	return list, nil
}

// good is why a set is not good enough to return to; nil if it is, by all that does not need its
// whole content to be read.
func (s *State) good(e *Entry) error {
	switch {
	case e.Counted:
		return &UncommittedError{e.Path}
	case e.Profile != 0:
		return fmt.Errorf("profile %d of %s is not its default one", e.Profile, e.Path)
	case e.Damage != "":
		return fmt.Errorf("%s is damaged: %s", e.Path, e.Damage)
	case e.Slot == nil && !(s.isAlone(e) && s.runsAlone()):
		return &UnboundError{e.Path, e.RootHash}
	case s.notStarted != nil && s.Running != nil && s.sameSet(e, s.Running):
		return s.notStarted
	}
	im, err := s.examineEntry(e)
	if err != nil {
		return err
	}
	return im.refused()
}

// refuses is why firmware does not start the program of an entry of a simulated menu; nil if it
// does, or if that is not known.
func (s *State) refuses(b *bootloader.Entry) error {
	e := s.atPath(b)
	if e == nil || e.Type == bootloader.EntryType1URL {
		return nil
	}
	im, err := s.examineEntry(e)
	if err != nil {
		return err
	}
	return im.refused()
}

// examineEntry asks firmware about the program of an entry.
func (s *State) examineEntry(e *Entry) (*image, error) {
	if e.Type == bootloader.EntryType1URL {
		return nil, fmt.Errorf("%s is loaded from %s, which is unknown", e.Path, e.Loader)
	}
	// What a simulation renames is the same file.
	name := uncounted(e.Loader)
	if im := s.examined[name]; im != nil {
		return im, nil
	}
	on := s.byPath(e.Loader)
	if on == nil {
		on = e
	}
	src, err := openFile(s.esp, on.Loader)
	if err != nil {
		return nil, err
	}
	im, err := s.machine.examine(e.Loader, src)
	if err == nil {
		s.examined[name] = im
	}
	return im, err
}
