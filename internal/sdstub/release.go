package sdstub

import (
	"fmt"

	"github.com/osmith-dev/osmith"
)

// Evidence says how a behaviour is known.
type Evidence int

const (
	EvidenceNone   Evidence = iota // it was not looked at
	EvidenceSource                 // read in the source or the documentation
	EvidenceBooted                 // seen in the event log of a real boot
)

// Release is what one release of systemd's stub and boot loader measures.
type Release struct {
	Number   int      // 262
	Evidence Evidence // of PCRs 4, 7 and 11 of a boot of the UKI's default profile
	Profiles Evidence // of PCR 12 when another profile is booted
	Addons   Evidence // of PCRs 4 and 12 with add-ons of every kind
	Archives Evidence // of PCRs 12 and 13 with credentials and extensions

	// the firmware loads the kernel in the UKI, and measures it into PCR 4 if Secure Boot is off
	InnerKernel bool
	LoaderConf  bool // systemd-boot measures loader.conf into PCR 5
	SMBIOSExtra bool // a string of SMBIOS type 11 adds to the command line
	SMBIOS      bool // SMBIOS structures are measured into PCR 1
	Console     bool // console= is added to a command line without one
	BootSecret  bool // the initrds end in a secret of the machine
}

// releases is the one table of how releases differ. Booted are 252, 254, 257 and 262; of the others
// the source and the release notes were read (systemd, src/boot/stub.c and boot.c, src/boot/efi
// before 257; NEWS). With Secure Boot on, a stub before 257 keeps the kernel out of PCR 4, since it
// then replaces the firmware's check and with it the measurement; 252 and 254 were booted both
// ways.
var releases = []Release{
	{Number: 252, Evidence: EvidenceBooted, Archives: EvidenceSource, InnerKernel: true},
	{Number: 253, Evidence: EvidenceSource, Archives: EvidenceSource, InnerKernel: true},
	{Number: 254, Evidence: EvidenceBooted, Addons: EvidenceSource, Archives: EvidenceSource, InnerKernel: true, SMBIOSExtra: true},
	{Number: 255, Evidence: EvidenceSource, Addons: EvidenceSource, Archives: EvidenceSource, InnerKernel: true, LoaderConf: true, SMBIOSExtra: true},
	{Number: 256, Evidence: EvidenceSource, Addons: EvidenceSource, Archives: EvidenceSource, InnerKernel: true, LoaderConf: true, SMBIOSExtra: true},
	{Number: 257, Evidence: EvidenceBooted, Profiles: EvidenceBooted, Addons: EvidenceBooted, Archives: EvidenceBooted, LoaderConf: true, SMBIOSExtra: true},
	{Number: 258, Evidence: EvidenceSource, Profiles: EvidenceSource, Addons: EvidenceSource, Archives: EvidenceSource, LoaderConf: true, SMBIOSExtra: true},
	{Number: 259, Evidence: EvidenceSource, Profiles: EvidenceSource, Addons: EvidenceSource, Archives: EvidenceSource, LoaderConf: true, SMBIOSExtra: true},
	{Number: 260, Evidence: EvidenceSource, Profiles: EvidenceSource, Addons: EvidenceSource, Archives: EvidenceSource, LoaderConf: true, SMBIOSExtra: true},
	{Number: 261, Evidence: EvidenceSource, Profiles: EvidenceSource, Addons: EvidenceSource, Archives: EvidenceSource, LoaderConf: true, SMBIOSExtra: true, SMBIOS: true, Console: true, BootSecret: true},
	{Number: 262, Evidence: EvidenceBooted, Profiles: EvidenceBooted, Addons: EvidenceBooted, Archives: EvidenceBooted, LoaderConf: true, SMBIOSExtra: true, SMBIOS: true, Console: true, BootSecret: true},
}

// Releases are all known releases, ascending.
func Releases() []Release { return append([]Release(nil), releases...) }

// Oldest and Newest are the numbers of the first and the last known release.
func Oldest() int { return releases[0].Number }

// Newest is the number of the last known release.
func Newest() int { return releases[len(releases)-1].Number }

// UnknownReleaseError says that nothing is known about what a release does.
type UnknownReleaseError struct {
	Version osmith.Version // "": the program does not say
	Err     error          // why the version has no release; nil: it has one
}

func (e *UnknownReleaseError) Error() string {
	switch n, err := e.Version.Release(); {
	case e.Err != nil:
		return e.Err.Error()
	case err == nil && n > Newest():
		return fmt.Sprintf("systemd %s is newer than %d, the newest known release: AssumeStub names the release to treat it as", e.Version, Newest())
	}
	return fmt.Sprintf("systemd %s: want release %d to %d", e.Version, Oldest(), Newest())
}

// Unwrap returns why the version has no release.
func (e *UnknownReleaseError) Unwrap() error { return e.Err }

// Find is the row for a version. One that is newer than all known releases, or that is no version,
// is treated as the release that assume names, if it names one: nothing was seen of it then. The
// error is an [*UnknownReleaseError].
func Find(v osmith.Version, assume int) (Release, error) {
	n, err := v.Release()
	if assume != 0 && (err != nil || n > Newest()) {
		row, assumedErr := Find(osmith.Version(fmt.Sprint(assume)), 0)
		row.Evidence, row.Profiles, row.Addons, row.Archives = EvidenceNone, EvidenceNone, EvidenceNone, EvidenceNone
		return row, assumedErr
	}
	if err != nil {
		return Release{}, &UnknownReleaseError{v, err}
	}
	for _, row := range releases {
		if row.Number == n {
			return row, nil
		}
	}
	return Release{}, &UnknownReleaseError{v, nil}
}
