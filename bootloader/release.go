package bootloader

import (
	"fmt"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// Evidence says how the behaviour of a release of systemd-boot is known.
type Evidence uint8

// The kinds of evidence, the weakest first.
const (
	EvidenceNone Evidence = iota // the release was not examined
	// read in the source of the release, or of an earlier and a later release
	EvidenceSource
	EvidenceBooted // the release was started with hundreds of file systems
)

// String is "none", "source" or "booted".
func (e Evidence) String() string {
	names := [...]string{"none", "source", "booted"}
	if int(e) >= len(names) {
		return fmt.Sprintf("Evidence(%d)", uint8(e))
	}
	return names[e]
}

// Release is what one release of systemd-boot does with entries. [Releases] is the table;
// [FindRelease] finds the row of a version.
type Release struct {
	Number int // 262
	Point  int // 13 of 257.13: the point release that the row is about

	// Evidence says how the rules for listing, naming, ordering, choosing and counting entries are
	// known. The fields below follow systemd's release notes (NEWS) in every row.
	Evidence Evidence

	Profiles bool // each profile of a UKI is an entry of its own; 257
	UKIKeys  bool // Type #1 entries with `uki` and `uki-url`; 258
	// the loader restarts the machine if an image is refused, depending on loader.conf or if tries
	// are left; 258
	RebootOnError bool
	SysFail       bool // LoaderEntrySysFail; 258
	ProfileKey    bool // `profile` in Type #1 entries; 259
	Preferred     bool // LoaderEntryPreferred, and `preferred` in loader.conf; 260
	ExtraKey      bool // `extra` in Type #1 entries; 261
	FirstProfile  bool // only the first profile of a UKI starts by itself; 261
	// files that are read-only, or on a read-only volume, are started without being counted; 262
	ReadOnly bool

	rules rules
}

// rules are the differences that release notes do not mention.
type rules struct {
	counterInID bool // ids keep the boot counter: "os+2-1.efi"
	// all profiles of a counted UKI have the id of the first; ids of counted entries keep their
	// capitals
	sharedID     bool
	countsEFI    bool // entries with `efi` are counted, too
	lastKind     bool // of several things to start the last one holds
	emptyIsUnset bool // an assignment without a value takes the value away
	doubleQuotes bool // only "" are taken off a value, '' are not
	lowerAuto    bool // names with AUTO- in capitals are not skipped
	// of several sections of one name the last one counts, and longer names count as well
	lastSection bool
	// profile numbers come before file names in the order of entries with a sort key
	profilesOrder bool
	maxSections   int  // files with more sections are skipped; 0: none is
	foldConfID    bool // ids of counted Type #1 entries have no capitals
}

var (
	rules256 = rules{counterInID: true, countsEFI: true, lastKind: true, emptyIsUnset: true, doubleQuotes: true, lowerAuto: true, lastSection: true, maxSections: 96, foldConfID: true}
	rules257 = rules{sharedID: true, countsEFI: true, lastKind: true, emptyIsUnset: true}
	rules258 = rules{sharedID: true}
	rules262 = rules{profilesOrder: true, foldConfID: true}
)

// releases is the one table of how releases differ (systemd, src/boot/efi/boot.c of v252-stable to
// v255-stable and v256, src/boot/boot.c of 257.13 and 262 and of the development between 259 and
// 260; NEWS). 257.13 and 262 were booted. Ids lost their counter during 258 and 259 and in point
// releases of the others (systemd pull request 38897): what 258 and 259 have is not known.
var releases = []Release{
	{Number: 252, Evidence: EvidenceSource, rules: rules256},
	{Number: 253, Evidence: EvidenceSource, rules: rules256},
	{Number: 254, Evidence: EvidenceSource, rules: rules256},
	{Number: 255, Evidence: EvidenceSource, rules: rules256},
	{Number: 256, Evidence: EvidenceSource, rules: rules256},
	{Number: 257, Point: 13, Evidence: EvidenceBooted, Profiles: true, rules: rules257},
	{Number: 258, Profiles: true, UKIKeys: true, RebootOnError: true, SysFail: true, rules: rules258},
	{Number: 259, Profiles: true, UKIKeys: true, RebootOnError: true, SysFail: true, ProfileKey: true, rules: rules262},
	{Number: 260, Evidence: EvidenceSource, Profiles: true, UKIKeys: true, RebootOnError: true, SysFail: true, ProfileKey: true, Preferred: true, rules: rules262},
	{Number: 261, Evidence: EvidenceSource, Profiles: true, UKIKeys: true, RebootOnError: true, SysFail: true, ProfileKey: true, Preferred: true, ExtraKey: true, FirstProfile: true,
		rules: rules262},
	{Number: 262, Evidence: EvidenceBooted, Profiles: true, UKIKeys: true, RebootOnError: true, SysFail: true, ProfileKey: true, Preferred: true, ExtraKey: true, FirstProfile: true,
		ReadOnly: true, rules: rules262},
}

// Releases are all known releases of systemd-boot, ascending.
func Releases() []Release { return slices.Clone(releases) }

func newest() Release { return releases[len(releases)-1] }

// Version is the version that the row is about: "257.13", "262".
func (r Release) Version() osmith.Version {
	if r.Point == 0 {
		return osmith.Version(fmt.Sprint(r.Number))
	}
	return osmith.Version(fmt.Sprintf("%d.%d", r.Number, r.Point))
}

// LoaderVersionError says that the behaviour of a version of systemd-boot is unknown.
type LoaderVersionError struct {
	Version        osmith.Version
	Oldest, Newest int // releases that are known
}

func (e *LoaderVersionError) Error() string {
	if n, err := e.Version.Release(); err == nil && n > e.Newest {
		return fmt.Sprintf("systemd-boot %s is newer than %d, the newest known here: name in AssumeLoader the release to treat it as", e.Version, e.Newest)
	}
	return fmt.Sprintf("systemd-boot %q: want release %d to %d", string(e.Version), e.Oldest, e.Newest)
}

// FindRelease is the row for a version of systemd-boot, as [LoaderVersion] reads it. If the version
// is newer than all known releases, or is not a version, the row is that of the release in assume,
// if it is set. In that case, and for a point release older than that of the row, Evidence is
// [EvidenceNone]. The error is a [*LoaderVersionError].
func FindRelease(v osmith.Version, assume int) (r Release, err error) {
	defer prefix.Add("bootloader", &err)
	return findRelease(v, assume)
}

func findRelease(v osmith.Version, assume int) (Release, error) {
	unknown := &LoaderVersionError{v, releases[0].Number, newest().Number}
	n, err := v.Release()
	if assume != 0 && (err != nil || n > newest().Number) {
		r, err := findRelease(osmith.Version(fmt.Sprint(assume)), 0)
		r.Evidence = EvidenceNone
		return r, err
	}
	if err != nil {
		return Release{}, unknown
	}
	for _, r := range releases {
		if r.Number == n {
			if v.Point() < r.Point {
				r.Evidence = EvidenceNone
			}
			return r, nil
		}
	}
	return Release{}, unknown
}

// Between returns the rows with evidence that are nearest to the version, the older one first: the
// version probably behaves as one of them. If the version's own row has evidence, or assume names a
// release, only that row is returned. For a version without a row the error is that of
// [FindRelease].
func Between(v osmith.Version, assume int) (rows []Release, err error) {
	defer prefix.Add("bootloader", &err)
	r, err := findRelease(v, assume)
	if err != nil {
		return nil, err
	}
	if n, err := v.Release(); r.Evidence != EvidenceNone || err != nil || n != r.Number {
		return []Release{r}, nil
	}
	own := slices.IndexFunc(releases, func(row Release) bool { return row.Number == r.Number })
	for i := own - 1; i >= 0 && len(rows) == 0; i-- {
		if releases[i].Evidence != EvidenceNone {
			rows = append(rows, releases[i])
		}
	}
	for i := own; i < len(releases); i++ {
		if releases[i].Evidence != EvidenceNone {
			return append(rows, releases[i]), nil
		}
	}
	return rows, nil
}
