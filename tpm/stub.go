package tpm

import (
	"fmt"
)

// Evidence says how a behaviour of foreign code is known.
type Evidence int

const (
	EvidenceNone   Evidence = iota // nobody looked
	EvidenceSource                 // read in the source, not seen on a machine
	EvidenceBooted                 // seen in the event log of a real boot
)

// String is "none", "source" or "booted".
func (e Evidence) String() string {
	switch e {
	case EvidenceSource:
		return "source"
	case EvidenceBooted:
		return "booted"
	}
	return "none"
}

// StubVersion is what one release of systemd's stub and boot loader measures as far as [Predict] goes.
type StubVersion struct {
	Version  int      // systemd's major version
	Evidence Evidence // of PCRs 4, 7 and 11 of a boot of the UKI's default profile
	Profiles Evidence // of PCR 12 when another profile is booted
}

// stubVersions are all releases that [Predict] knows. They share the behaviour described there; 257 is the first whose
// own PE loader keeps the inner kernel out of PCR 4, so earlier ones are another model.
var stubVersions = []StubVersion{
	{257, EvidenceBooted, EvidenceSource},
	{258, EvidenceSource, EvidenceSource},
	{259, EvidenceSource, EvidenceSource},
	{260, EvidenceSource, EvidenceSource},
	{261, EvidenceSource, EvidenceSource},
	{262, EvidenceBooted, EvidenceBooted},
}

// StubVersions lists the releases of systemd's stub that [Predict] knows, ascending.
func StubVersions() []StubVersion { return append([]StubVersion(nil), stubVersions...) }

// StubVersionError says that nothing is known about what a release of the stub measures.
type StubVersionError struct {
	Version        int
	Oldest, Newest int // that are known
}

func (e *StubVersionError) Error() string {
	if e.Version > e.Newest {
		return fmt.Sprintf("tpm: predict: systemd stub %d is newer than %d, the newest known here: name in StubAs the version to treat it as", e.Version, e.Newest)
	}
	return fmt.Sprintf("tpm: predict: systemd stub %d: want %d to %d", e.Version, e.Oldest, e.Newest)
}

// stubRow finds the row for a version, or for the one that the caller wants it treated as.
func stubRow(version, as int) (StubVersion, error) {
	oldest, newest := stubVersions[0].Version, stubVersions[len(stubVersions)-1].Version
	find := version
	if version > newest && as != 0 {
		find = as
	}
	for _, row := range stubVersions {
		if row.Version != find {
			continue
		}
		if find != version {
			// Whatever was seen was seen of another version.
			row = StubVersion{Version: version}
		}
		return row, nil
	}
	return StubVersion{}, &StubVersionError{Version: find, Oldest: oldest, Newest: newest}
}
