package tpm

import (
	"errors"
	"fmt"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// Evidence says how the behaviour of foreign code is known.
type Evidence int

const (
	EvidenceNone   Evidence = iota // it was not looked at
	EvidenceSource                 // read in the source or the documentation, not seen on a machine
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

// StubVersion is a release of systemd's stub and boot loader, and how well it is known what they
// measure.
type StubVersion struct {
	Release  int      // release of systemd: 262
	Evidence Evidence // evidence for PCRs 4, 7 and 11 of a boot of the UKI's default profile
	Profiles Evidence // evidence for PCR 12 when a profile other than the default is booted
	Addons   Evidence // evidence for PCRs 4 and 12 with add-ons of every kind
	Archives Evidence // evidence for PCRs 12 and 13 with credentials and extensions

	// the firmware loads the kernel in the UKI and may measure it: a prediction needs [Boot.Kernel]
	InnerKernel bool
}

// StubVersions lists the releases of systemd's stub that [Predict] knows, ascending.
func StubVersions() []StubVersion {
	var out []StubVersion
	for _, r := range sdstub.Releases() {
		out = append(out, StubVersion{
			Release: r.Number, Evidence: Evidence(r.Evidence), Profiles: Evidence(r.Profiles), Addons: Evidence(r.Addons),
			Archives: Evidence(r.Archives), InnerKernel: r.InnerKernel,
		})
	}
	return out
}

// StubVersionError says that it is unknown what a release of the stub measures.
type StubVersionError struct {
	Version        osmith.Version
	Oldest, Newest int // releases that are known
}

func (e *StubVersionError) Error() string {
	if n, err := e.Version.Release(); err == nil && n > e.Newest {
		return fmt.Sprintf("systemd stub %s is newer than %d, the newest known here: name in AssumeStub the release to treat it as", e.Version, e.Newest)
	}
	return fmt.Sprintf("systemd stub %q: want release %d to %d", string(e.Version), e.Oldest, e.Newest)
}

// stubRelease finds the row for a version, or for the release that the caller wants it treated as.
func stubRelease(version osmith.Version, assume int) (sdstub.Release, error) {
	r, err := sdstub.Find(version, assume)
	if unknown, ok := errors.AsType[*sdstub.UnknownReleaseError](err); ok {
		return sdstub.Release{}, &StubVersionError{Version: unknown.Version, Oldest: sdstub.Oldest(), Newest: sdstub.Newest()}
	}
	return r, err
}
