package tpm

import (
	"fmt"
)

// Evidence says how a behaviour of foreign code is known.
type Evidence int

const (
	EvidenceNone   Evidence = iota // nobody looked
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
	Version  int      // systemd's major version
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

// stubVersions are all releases that [Predict] knows: the one table of how they differ. Booted are 252, 254, 257 and 262;
// of the others the source and the release notes were read. With Secure Boot on, a stub before 257 keeps the kernel out of PCR 4, since it
// then replaces the firmware's check and with it the measurement; 252 and 254 were booted both ways.
var stubVersions = []StubVersion{
	{Version: 252, Evidence: EvidenceBooted, Archives: EvidenceSource, InnerKernel: true},
	{Version: 253, Evidence: EvidenceSource, Archives: EvidenceSource, InnerKernel: true},
	{Version: 254, Evidence: EvidenceBooted, Addons: EvidenceSource, Archives: EvidenceSource, InnerKernel: true, SMBIOSExtra: true},
	{Version: 255, Evidence: EvidenceSource, Addons: EvidenceSource, Archives: EvidenceSource, InnerKernel: true, LoaderConf: true, SMBIOSExtra: true},
	{Version: 256, Evidence: EvidenceSource, Addons: EvidenceSource, Archives: EvidenceSource, InnerKernel: true, LoaderConf: true, SMBIOSExtra: true},
	{Version: 257, Evidence: EvidenceBooted, Profiles: EvidenceBooted, Addons: EvidenceBooted, Archives: EvidenceBooted, LoaderConf: true, SMBIOSExtra: true},
	{Version: 258, Evidence: EvidenceSource, Profiles: EvidenceSource, Addons: EvidenceSource, Archives: EvidenceSource, LoaderConf: true, SMBIOSExtra: true},
	{Version: 259, Evidence: EvidenceSource, Profiles: EvidenceSource, Addons: EvidenceSource, Archives: EvidenceSource, LoaderConf: true, SMBIOSExtra: true},
	{Version: 260, Evidence: EvidenceSource, Profiles: EvidenceSource, Addons: EvidenceSource, Archives: EvidenceSource, LoaderConf: true, SMBIOSExtra: true},
	{Version: 261, Evidence: EvidenceSource, Profiles: EvidenceSource, Addons: EvidenceSource, Archives: EvidenceSource, LoaderConf: true, SMBIOSExtra: true, SMBIOS: true, Console: true, BootSecret: true},
	{Version: 262, Evidence: EvidenceBooted, Profiles: EvidenceBooted, Addons: EvidenceBooted, Archives: EvidenceBooted, LoaderConf: true, SMBIOSExtra: true, SMBIOS: true, Console: true, BootSecret: true},
}

// sectionSince says which release was the first to measure a section; those that are not here all did.
var sectionSince = map[string]int{
	".uname": 254, ".sbat": 254, ".ucode": 256, ".profile": 257, ".dtbauto": 257, ".hwids": 257, ".efifw": 258,
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
			row.Version = version
			row.Evidence, row.Profiles, row.Addons, row.Archives = EvidenceNone, EvidenceNone, EvidenceNone, EvidenceNone
		}
		return row, nil
	}
	return StubVersion{}, &StubVersionError{Version: find, Oldest: oldest, Newest: newest}
}
