package tpm

import (
	"errors"
	"fmt"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// Evidence says how a behaviour of foreign code is known.
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

// StubVersion is what one release of systemd's stub and boot loader measures as far as [Predict] goes.
type StubVersion struct {
	Release  int      // of systemd: 262
	Evidence Evidence // of PCRs 4, 7 and 11 of a boot of the UKI's default profile
	Profiles Evidence // of PCR 12 when another profile is booted
	Addons   Evidence // of PCRs 4 and 12 with add-ons of every kind
	Archives Evidence // of PCRs 12 and 13 with credentials and extensions

	InnerKernel bool // the firmware loads the kernel in the UKI, and measures it into PCR 4 if Secure Boot is off
	LoaderConf  bool // systemd-boot measures loader.conf into PCR 5
	SMBIOSExtra bool // a string of SMBIOS type 11 adds to the command line
	SMBIOS      bool // SMBIOS structures are measured into PCR 1
	Console     bool // console= is added to a command line without one
	BootSecret  bool // the initrds end in a secret of the machine
}

// StubVersions lists the releases of systemd's stub that [Predict] knows, ascending.
func StubVersions() []StubVersion {
	var out []StubVersion
	for _, r := range sdstub.Releases() {
		out = append(out, stubVersion(r))
	}
	return out
}

func stubVersion(r sdstub.Release) StubVersion {
	return StubVersion{
		Release: r.Number, Evidence: Evidence(r.Evidence), Profiles: Evidence(r.Profiles), Addons: Evidence(r.Addons), Archives: Evidence(r.Archives),
		InnerKernel: r.InnerKernel, LoaderConf: r.LoaderConf, SMBIOSExtra: r.SMBIOSExtra, SMBIOS: r.SMBIOS, Console: r.Console, BootSecret: r.BootSecret,
	}
}

// StubVersionError says that nothing is known about what a release of the stub measures.
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

// stubRow finds the row for a version, or for the release that the caller wants it treated as.
func stubRow(version osmith.Version, assume int) (StubVersion, error) {
	row, err := sdstub.Find(version, assume)
	var unknown *sdstub.UnknownReleaseError
	if errors.As(err, &unknown) {
		return StubVersion{}, &StubVersionError{Version: unknown.Version, Oldest: sdstub.Oldest(), Newest: sdstub.Newest()}
	}
	return stubVersion(row), err
}
