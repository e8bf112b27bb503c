package upgrade

import (
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/uki"
)

// Machine describes the machine that will boot the disk. The caller reads it from efivarfs or a
// provisioning record, or composes it for a machine that does not exist yet. A field without a
// value means unknown, and unknown never passes: it is a restriction in the verdicts that depend on
// the field. Separate fields say that something does not exist.
type Machine struct {
	// Running is what the machine runs. It is required to plan and to commit, unless Offline is
	// set.
	Running *Running

	// Offline says that nothing runs from the disk: the machine is switched off, or the disk is in
	// no machine. Without Running it is unknown which set was good, so a set that the loader may
	// start by itself is not overwritten.
	Offline bool

	// ESP is the unique ID of the EFI system partition from which firmware starts, if the disk has
	// several. Zero: the only one, or Running.ESP.
	ESP osmith.GUID

	// Keep are the paths or ids of entries that are never removed and whose slots are never
	// written, such as a recovery system.
	Keep []string

	// Mounted are the boot partitions of the disk that the kernel has mounted, by the unique IDs of
	// the partitions ([FindMounted]): they are written through the kernel. A boot partition that is
	// not named must not be mounted while it is changed ([*InUseError]). Whether an image file is
	// in use, or a device on a system other than Linux, is not checked.
	Mounted map[osmith.GUID]MountedVolume

	// Firmware is the Secure Boot configuration. Nil: unknown, unless NoSecureBoot is set. If its
	// SecureBoot is nil, it is unknown whether firmware verifies images; if its SecureBoot is
	// empty, firmware has no such variable and does not verify images.
	Firmware *osmith.FirmwareVariables

	// NoSecureBoot says that firmware does not verify images: it has no Secure Boot, or Secure Boot
	// is permanently off.
	NoSecureBoot bool

	// FirmwareKind is the row of firmware that judges images. Empty: unknown, and an image boots
	// only if all rows allow it, those of edk2 and of U-Boot ([secureboot.FirmwareAny]). Set it for
	// a machine whose images have time stamps, as shim has, or ECDSA signatures: U-Boot crashes at
	// such an image, or its answer is unknown.
	FirmwareKind secureboot.Firmware

	// Shim is the shim (shimx64.efi) through which firmware starts loader and images: FirmwareKind
	// judges the shim; the shim judges loader and images, by shim's variables in Firmware. Nil: see
	// NoShim.
	Shim osmith.Source

	// NoShim says that firmware starts the loader itself and no shim is involved. Without Shim and
	// NoShim it is unknown whether there is a shim: on a machine with a SbatLevel, an image must
	// then pass firmware, SBAT, and the checks by all known variables of shim.
	NoShim bool

	// LoaderPaths are the paths on this ESP that Boot#### of BootOrder start, besides EFI/BOOT and
	// EFI/systemd, which count in any case. Empty and not nil: there are none. Nil: unknown, and a
	// program in any other directory of EFI that firmware refuses is a restriction.
	LoaderPaths []string

	// Loader has the loader's variables that choose an entry. Nil: unknown; a pointer to the zero
	// value: none is set.
	Loader *bootloader.Variables

	// AssumeLoader is the release of systemd-boot (262) whose behaviour is assumed for a loader
	// that is newer than all of [bootloader.Releases] or states no version. 0: the behaviour of
	// such a loader is unknown, which is a restriction of the verdicts that depend on it.
	AssumeLoader int

	// PCRKeys are the keys to whose signed PCR policies secrets of this machine are sealed. None:
	// unknown, unless NothingSealed is set.
	PCRKeys []*rsa.PublicKey

	// NothingSealed says that no secret of this machine is sealed to a signed PCR policy: the
	// unlocks verdict then checks only what the UKI itself claims.
	NothingSealed bool

	// Unlock holds the facts, besides the prediction, that decide whether tokens of encrypted
	// volumes on the disk open. The zero value: all unknown.
	Unlock Unlock

	// VerityKeyrings are the keyrings with which the release's kernel checks signatures of root
	// hashes. Nil: unknown; empty and not nil: the kernel accepts no signature.
	VerityKeyrings []Keyring

	// Banks are the PCR banks to predict. None: SHA-256.
	Banks []crypto.Hash

	// Hardware holds the IDs by which the stub chooses among several device trees and firmwares of
	// a UKI, and the SMBIOS strings that add to the command line. Nil: unknown; PCR 11 of a UKI
	// with several variants is then not predicted, and every variant must have its policy. Without
	// Hardware, a root hash that SMBIOS adds is not considered.
	Hardware *uki.Hardware

	// Userspace is what systemd measures besides the phases given to [PredictBoot]. Nil: unknown;
	// from the first phase on, PCRs 4 and 7 are then not claimed, since systemd 261 and later
	// measure a word into them in the initrd.
	Userspace *tpm.Userspace

	// Floor is the lowest version that the machine still accepts, for example kept in a counter of
	// its TPM. Empty: none is set.
	Floor string
}

// Running is what a machine runs, and how it was started. Image is required, and RootHash or
// Version: Image is what firmware has started, RootHash or Version what runs now; after kexec or a
// soft reboot they belong to different sets. A set that firmware has not started is not known to
// boot.
type Running struct {
	// Image is the UKI that firmware has started: StubImageIdentifier (`\EFI\Linux\acme_1.efi`, or
	// with a slash in front with U-Boot), or, if the stub does not set that, the id in
	// LoaderEntrySelected.
	Image string

	// RootHash is the root hash of the file system that is mounted now: from the dm-verity device
	// ([github.com/osmith-dev/osmith/verity/dm.Active]), or from /proc/cmdline.
	RootHash []byte

	// Version is IMAGE_VERSION of the os-release of a system that runs from its UKI alone, without
	// a root file system that a hash protects; it then takes the place of RootHash.
	Version string

	// ESP is the partition from which the UKI was started: StubDevicePartUUID, or
	// LoaderDevicePartUUID. Zero: unknown. If it differs from the disk's, the error is a
	// [*NotRunningError]: two disks may have the same content.
	ESP osmith.GUID

	// BootCountPath is LoaderBootCountPath: the name that the loader has given to the entry when it
	// counted this boot. Empty: not set.
	BootCountPath string

	// Log is the firmware's event log of this boot. Nil: unknown. With Log, it is checked that the
	// running set was measured into PCR 4.
	Log *tpm.Log
}

// ErrRunningUnknown says that neither Machine.Running nor Machine.Offline is set, so any slot might
// be in use: set one of them.
var ErrRunningUnknown = errors.New("what the machine runs is unknown: give Machine.Running with StubImageIdentifier and the mounted root hash, or set Machine.Offline")

// check refuses facts that contradict each other.
func (m *Machine) check() error {
	switch {
	case m.NoSecureBoot && m.Firmware != nil && len(m.Firmware.SecureBoot) == 1 && m.Firmware.SecureBoot[0] == 1:
		return errors.New("the machine has NoSecureBoot, and SecureBoot is 1 in its Firmware")
	case m.NothingSealed && len(m.PCRKeys) > 0:
		return errors.New("the machine has both NothingSealed and PCRKeys, the keys of policies that secrets are sealed to: want one of them")
	case m.Offline && m.Running != nil:
		return errors.New("the machine is both Offline and Running: want one of them")
	case m.Running != nil && !m.ESP.IsZero() && !m.Running.ESP.IsZero() && m.ESP != m.Running.ESP:
		return fmt.Errorf("Machine.ESP is %s, and Running.ESP %s", m.ESP, m.Running.ESP)
	case m.Shim != nil && m.NoShim:
		return errors.New("the machine has both a Shim and NoShim: want one of them")
	}
	return nil
}

// espID is which ESP firmware starts from; zero if that is not said.
func (m *Machine) espID() osmith.GUID {
	if m.Running != nil && !m.Running.ESP.IsZero() {
		return m.Running.ESP
	}
	return m.ESP
}

func (m *Machine) banks() []crypto.Hash {
	if len(m.Banks) == 0 {
		return []crypto.Hash{crypto.SHA256}
	}
	return m.Banks
}

// variables are what firmware judges by, and whether that is known. Where it is not known whether
// firmware verifies, it is taken to.
func (m *Machine) variables() (v osmith.FirmwareVariables, known bool) {
	if m.Firmware != nil {
		v = *m.Firmware
	}
	switch {
	case m.NoSecureBoot:
		v.SecureBoot = []byte{0}
	case m.Firmware == nil:
		return v, false
	case v.SecureBoot == nil:
		v.SecureBoot = []byte{1}
	}
	return v, true
}

// loader are the loader's variables as far as they are known.
func (m *Machine) loader() bootloader.Variables {
	if m.Loader == nil {
		return bootloader.Variables{}
	}
	return *m.Loader
}
