package tpm

import (
	"crypto"

	"github.com/osmith-dev/osmith"
)

// Application is an EFI program that the firmware starts: a boot loader or a UKI.
type Application struct {
	Path    string                 // on the ESP, for the reader of the log; not measured
	Size    int64                  // of the file, likewise
	Digests map[crypto.Hash][]byte // Authenticode digests of the PE
}

// BootVariable is one of BootOrder and Boot####, as efivarfs has it without attributes.
type BootVariable struct {
	Name string
	Data []byte
}

// PartitionTable is the GPT of the disk that is booted from, as on disk.
type PartitionTable struct {
	Header  []byte // its 92 bytes, or the sector
	Entries []byte // the array; unused entries may be left out
}

// ExitBoot says how often ExitBootServices is called before it succeeds.
type ExitBoot int

const (
	ExitUnknown     ExitBoot = iota // as in Boot.Firmware; without one, once or retried
	ExitOnce                        // it succeeds at once
	ExitRetried                     // it fails, and succeeds when it is called again, as with OVMF 2026.08
	ExitNotMeasured                 // firmware that measures nothing then
)

// Boot describes, by values, a boot of UEFI firmware into a UKI with systemd's stub. What has no value is absent: a boot
// without add-ons, companions, a passed command line, loader.conf. Four things are different, since they are always there
// and may be unknown: GPT, SMBIOS, BootVariables and the initrds of Handover. The PCRs that depend on those are then not
// predicted.
type Boot struct {
	// Banks to predict; nil is every bank that all the digests below are given in.
	Banks []crypto.Hash

	// Firmware is the log of an earlier boot of this machine: what PCRs 0 to 3 and 6 then held is expected again, but
	// for what is given here. Nil: edk2's order of events, and those PCRs are not predicted.
	Firmware *Log

	// Variables are the firmware's. Those that do not exist count as empty, except DBT, which is measured only if it exists. SecureBoot
	// always exists.
	Variables *osmith.FirmwareVariables

	// Authorities are the entries of db (EFI_SIGNATURE_DATA: owner GUID, then certificate or hash) that let the loader
	// and the UKI start, in that order. One that comes twice is measured once. With Secure Boot off they are ignored,
	// since the firmware verifies nothing.
	Authorities [][]byte

	// BootVariables are BootOrder, then the Boot#### that it lists, in its order: PCR 1. Nil: those of Firmware.
	BootVariables []BootVariable

	// SMBIOS are the structures of the machine, as in /sys/firmware/dmi/tables/DMI, of which systemd 261 measures some into
	// PCR 1. Nil: what Firmware has of them.
	SMBIOS []byte

	// GPT is measured into PCR 5. Nil: that of Firmware.
	GPT *PartitionTable

	// Separator is what ends the firmware's part of PCRs 0 to 7: zeros, or ones as the specification allows too.
	Separator [4]byte

	// ExitBoot is about the end of PCR 5.
	ExitBoot ExitBoot

	Loader     *Application // systemd-boot; nil when the firmware starts the UKI itself
	LoaderConf []byte       // contents of \loader\loader.conf, nil if there is no such file
	UKI        Application
	Sections   []osmith.Measurement // of the UKI and the profile that is booted, in the order in which the stub measures

	// Kernel is the PE in .linux. Stubs before 257 have the firmware load it, which measures it if Secure Boot is off.
	Kernel *Application

	// Addons are the signed .addon.efi that the stub loads, in the order in which it does: those of \loader\addons, then
	// those beside the UKI, each directory sorted by name; without those that the firmware refuses. What they bring is in
	// Handover.
	Addons []Application

	// Handover is what the stub measures into PCRs 12 and 13 and passes to the kernel: the profile, command lines, add-ons,
	// companion files and initrds. Package uki predicts it for each release. Nil: the default profile, and nothing from
	// outside the UKI; what the kernel gets is unknown, and so is PCR 9.
	Handover *osmith.Handover

	// Phases are what userspace extends PCR 11 with up to the moment of interest; none is the moment when the kernel
	// starts.
	Phases []string

	// Userspace is what systemd measures into other PCRs up to that moment; nil is nothing.
	Userspace *Userspace

	// Stub is the version of the UKI's stub. One that is newer than all of [StubVersions] is a [*StubVersionError], unless
	// AssumeStub names the release to treat it as.
	Stub       osmith.Version
	AssumeStub int

	// LoaderVersion is the version of the loader, where that is another: UKIs of several releases live beside one loader.
	// "": that of the stub. AssumeStub counts for it, too.
	LoaderVersion osmith.Version
}

// Userspace is what systemd's services measure after the kernel has started, beside the phases.
type Userspace struct {
	Separator     bool     // "os-separator" of systemd 261, from the initrd, into PCRs 0 to 7, 9 and 12 to 14
	NVPCRs        []string // the words that begin with "nvpcr-init:" (259), in their order, into PCR 9
	NVSeparator   bool     // "nvpcr-separator" (262) behind them
	IdentityWords []string // into PCR 15, in their order: see [MachineIDWord] and [FileSystem.Word]
}
