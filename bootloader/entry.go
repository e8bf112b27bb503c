package bootloader

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"unicode/utf16"
)

// EntryType is what an entry starts.
type EntryType uint8

const (
	EntryType2      EntryType = iota + 1 // a Unified Kernel Image in EFI/Linux
	EntryType1Linux                      // a Type #1 entry with `linux`
	EntryType1UKI                        // ... with `uki`
	EntryType1URL                        // ... with `uki-url`
	EntryType1EFI                        // ... with `efi`
)

func (t EntryType) String() string {
	switch t {
	case EntryType2:
		return "type2"
	case EntryType1Linux:
		return "type1 linux"
	case EntryType1UKI:
		return "type1 uki"
	case EntryType1URL:
		return "type1 uki-url"
	case EntryType1EFI:
		return "type1 efi"
	}
	return fmt.Sprintf("EntryType(%d)", uint8(t))
}

// Entry is one line of the boot menu.
type Entry struct {
	ID       string // id in EFI variables and loader.conf; without the counter
	Path     string // of the .efi or .conf file in its file system, slash-separated
	XBOOTLDR bool   // the file system is that of the extended boot loader partition, not of the ESP
	Type     EntryType

	Title     string
	Version   string
	SortKey   string
	MachineID string
	Profile   int // of a multi-profile UKI; 0 is the default one

	Loader string // what is started: path in the same file system, or a URL for Type1URL
	Initrd []string
	// of a Type #1 entry: all existing files that its lines name, including Loader and Initrd
	Files   []string
	Options string // command line; for EntryType2 the built-in one, as the menu shows it

	// Counted says that the name has a boot counter, which is in Counter. An entry without a
	// counter is good.
	Counted bool
	Counter

	// Damage says why the entry cannot boot although the menu lists it: the file is shorter than
	// its own headers say, or names missing files. "": no damage was found.
	Damage string

	rules      rules
	hasSortKey bool
	// what a profile other than the first is sorted by: its ID without the profile
	baseID string
	stem   string // of a counted name
	suffix string
}

// Bad reports whether the entry has used up its tries; the loader lists it last and boots it only
// if there is no other entry or a setting names it.
func (e *Entry) Bad() bool { return e.Counted && e.TriesLeft == 0 }

// bumps reports whether systemd-boot counts boots of such entries.
func (e *Entry) bumps() bool {
	return e.Type == EntryType2 || e.Type == EntryType1Linux || e.Type == EntryType1UKI || e.Type == EntryType1EFI && e.rules.countsEFI
}

// Boot is the rename that systemd-boot makes before it starts the entry: one try less, one more
// done, both without leading zeros. The two paths are equal if there is no rename.
// LoaderBootCountPath then holds the new path. If the file cannot be renamed, because the file or
// its volume is read-only ([Release].ReadOnly) or the new name is taken, the entry starts under its
// old name, at every boot.
func (e *Entry) Boot() (from, to string) {
	if !e.Counted || !e.bumps() {
		return e.Path, e.Path
	}
	next := Counter{TriesLeft: e.TriesLeft, TriesDone: e.TriesDone}.Next()
	next.DoneWidth = 1
	// The loader keeps the suffix in lower case, whatever it was.
	return e.Path, e.sibling(e.stem + next.String() + e.suffix)
}

// Good is the rename that declares the entry permanently good: it removes the counter. The two
// paths are equal if there is no counter.
func (e *Entry) Good() (from, to string) {
	if !e.Counted {
		return e.Path, e.Path
	}
	return e.Path, e.sibling(e.stem + e.suffix)
}

// MarkBad is the rename that declares the entry bad: no tries left. An entry without counter cannot
// be marked: the two paths are then equal.
func (e *Entry) MarkBad() (from, to string) {
	if !e.Counted || e.Bad() {
		return e.Path, e.Path
	}
	return e.Path, e.sibling(e.stem + e.spent().String() + e.suffix)
}

func (e *Entry) sibling(name string) string { return path.Join(path.Dir(e.Path), name) }

// setName fills in what the file name says.
func (e *Entry) setName(file, suffix string) {
	e.suffix = suffix
	e.stem, e.Counter, e.Counted = ParseName(file, suffix)
	switch {
	case !e.Counted || e.rules.counterInID:
		e.ID = lower(file)
	case e.Type == EntryType2 || !e.rules.foldConfID:
		e.ID = e.stem + suffix // systemd-boot forgets to fold the case of these
	default:
		e.ID = lower(e.stem + suffix)
	}
}

// setProfile adds to the id of an entry which profile of a UKI it is.
func (e *Entry) setProfile(file, id string) {
	e.baseID = e.ID
	if !e.rules.sharedID {
		e.ID += "@" + id
		return
	}
	e.baseID = lower(file)
	if !e.Counted {
		e.ID = lower(file + "@" + id)
	}
}

// OrderStep is the rule that puts one entry of the menu before a second one.
type OrderStep string

const (
	OrderTries     OrderStep = "tries left"      // entries without tries left come last
	OrderSorted    OrderStep = "sort-key or not" // entries without a sort-key come later
	OrderSortKey   OrderStep = "sort-key"
	OrderMachineID OrderStep = "machine-id"
	OrderVersion   OrderStep = "version" // the newer comes first, by [CompareVersions]
	OrderProfile   OrderStep = "profile"
	OrderID        OrderStep = "id"      // the newer comes first, by [CompareVersions]
	OrderCounter   OrderStep = "counter" // more tries left, then fewer tries done
	// no rule applies; the order of the files in their directory counts
	OrderNone OrderStep = "nothing"
)

// CompareEntries orders two entries as the menu does, negative if a comes first, and returns the
// rule that decided.
func CompareEntries(a, b *Entry) (int, OrderStep) {
	if r := boolCompare(a.Bad(), b.Bad()); r != 0 {
		return r, OrderTries
	}
	if r := boolCompare(!a.hasSortKey, !b.hasSortKey); r != 0 {
		return r, OrderSorted
	}
	if a.hasSortKey {
		if r := compareUnits(a.SortKey, b.SortKey); r != 0 {
			return r, OrderSortKey
		}
		if r := compareUnits(a.MachineID, b.MachineID); r != 0 {
			return r, OrderMachineID
		}
		if r := CompareVersions(b.Version, a.Version); r != 0 {
			return r, OrderVersion
		}
		if r := cmp.Compare(a.Profile, b.Profile); r != 0 && a.rules.profilesOrder {
			return r, OrderProfile
		}
	}
	if r := CompareVersions(b.id(), a.id()); r != 0 {
		return r, OrderID
	}
	if a.baseID != "" && b.baseID != "" {
		if r := cmp.Compare(a.Profile, b.Profile); r != 0 {
			return r, OrderProfile
		}
	}
	if !a.Counted || !b.Counted {
		return 0, OrderNone
	}
	if r := cmp.Or(cmp.Compare(b.TriesLeft, a.TriesLeft), cmp.Compare(a.TriesDone, b.TriesDone)); r != 0 {
		return r, OrderCounter
	}
	return 0, OrderNone
}

// compare orders entries as the menu of systemd-boot does, best first (src/boot/boot.c,
// boot_entry_compare).
func compare(a, b *Entry) int {
	r, _ := CompareEntries(a, b)
	return r
}

func (e *Entry) id() string {
	if e.baseID != "" {
		return e.baseID
	}
	return e.ID
}

// compareUnits compares as the loader does, by UTF-16 units. Missing is before everything.
func compareUnits(a, b string) int {
	return slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b)))
}

// sortEntries is systemd-boot's own insertion sort: with a comparison that is no strict order in
// every corner, another algorithm could give another result.
func sortEntries(list []*Entry) {
	for i := 1; i < len(list); i++ {
		e, k := list[i], i
		for ; k > 0 && compare(list[k-1], e) > 0; k-- {
			list[k] = list[k-1]
		}
		list[k] = e
	}
}
