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

// Machine describes the machine that will boot the disk. The caller reads it from efivarfs, from a
// provisioning record, or makes it up for a machine that does not exist yet. A missing field means
// unknown, and unknown never passes: it is a restriction in the verdicts that depend on it.
// Separate fields say that something does not exist.
type Machine struct {
	// Running is what the machine runs. Needed to plan and to commit, unless Offline is said.
	Running *Running

	// Offline says that the machine is switched off, or that the disk is in none: nothing runs from
	// it. Without Running nothing tells which set was good, so that none is written over that the
	// loader may start by itself.
	Offline bool

	// ESP is the unique ID of the EFI system partition that firmware starts from, of a disk with
	// several. Zero: the only one, or Running.ESP.
	ESP osmith.GUID

	// Keep are the paths or ids of entries that nothing takes away, and whose slots nothing writes,
	// such as a recovery system.
	Keep []string

	// Mounted are the boot partitions of the disk that the kernel has mounted, by the unique IDs of
	// the partitions ([FindMounted]): they are written through the kernel. One that is not named
	// must not be mounted while something is changed ([*InUseError]). What uses an image file, or a
	// device on another system than Linux, is not known, and not asked.
	Mounted map[osmith.GUID]MountedVolume

	// Firmware is the Secure Boot configuration. Nil: not known, unless NoSecureBoot says that
	// there is none. Where its SecureBoot is nil, it is not known whether firmware verifies; where
	// that is empty, firmware has no such variable and verifies nothing.
	Firmware *osmith.FirmwareVariables

	// NoSecureBoot says that firmware verifies nothing: it has no Secure Boot, or it is off for
	// good.
	NoSecureBoot bool

	// FirmwareKind is the row of firmware that judges images. Empty: nothing is known of it, and an
	// image boots only if all rows allow it, those of edk2 and of U-Boot
	// ([secureboot.FirmwareAny]). A machine whose images have time stamps or ECDSA signatures, as
	// shim has time stamps, needs its row named: what U-Boot does with such an image cannot be
	// told, or it crashes.
	FirmwareKind secureboot.Firmware

	// Shim is the shim (shimx64.efi) through which firmware starts loader and images: FirmwareKind
	// judges it, and it judges them, after Firmware's variables of shim. What shim measures is not
	// predicted. Nil: see NoShim.
	Shim osmith.Source

	// NoShim says that firmware starts the loader itself and no shim is involved. Without Shim and
	// NoShim that is not known: on a machine with a SbatLevel, an image has to pass firmware as
	// well as SBAT and what else is known of shim's variables.
	NoShim bool

	// LoaderPaths are the paths on this ESP that Boot#### of BootOrder start, besides EFI/BOOT and
	// EFI/systemd, which count in any case. Empty and not nil: there are none. Nil: not known, and
	// a program in another directory of EFI that firmware refuses is a restriction.
	LoaderPaths []string

	// Loader is the loader's variables as far as they choose an entry. Nil: not known; a pointer to
	// the zero value: none is set.
	Loader *bootloader.Variables

	// AssumeLoader is the release of systemd-boot (262) to treat a loader as that is newer than all
	// of [bootloader.Releases], or does not tell its version. 0: what such a loader does is not
	// known, and the verdicts that it matters for do not pass without a restriction.
	AssumeLoader int

	// PCRKeys are the keys to whose signed PCR policies secrets of this machine are sealed. None:
	// not known, unless NothingSealed says that there are none.
	PCRKeys []*rsa.PublicKey

	// NothingSealed says that no secret of this machine is sealed to a signed PCR policy: the
	// unlocks verdict checks only what the UKI claims itself.
	NothingSealed bool

	// Unlock is what decides about the tokens of encrypted volumes on the disk beside what is
	// predicted. The zero value: nothing is known of it.
	Unlock Unlock

	// VerityKeyrings are the keyrings by which the release's kernel judges signatures of root
	// hashes, of those that it asks. Nil: not known; empty and not nil: it accepts none.
	VerityKeyrings []Keyring

	// Banks are the PCR banks to predict. None: SHA-256.
	Banks []crypto.Hash

	// Hardware is what the stub picks device trees and firmware by, of a UKI that has several, and
	// the SMBIOS strings that add to the command line. Nil: unknown; PCR 11 of a UKI with several
	// variants is then not predicted, and every one must have its policy. That SMBIOS adds a root
	// hash is not reckoned with then.
	Hardware *uki.Hardware

	// Userspace is what systemd measures beside the phases that [PredictBoot] is asked for. Nil:
	// not known; from the first phase on, PCRs 4 and 7 are then not claimed, since systemd 261 and
	// later measure a word into them in the initrd.
	Userspace *tpm.Userspace

	// Floor is the least version that the machine still takes, such as one that it keeps in a
	// counter of its TPM. Empty: none is set.
	Floor string
}

// Running is what a machine runs, and how it came up. Both Image and RootHash are needed, or Image
// and Version: the first is what firmware has started, the second what runs now, and after kexec or
// a soft reboot they are of different sets. A set that firmware has not started is not known to
// boot.
type Running struct {
	// Image is the UKI that firmware has started: StubImageIdentifier (`\EFI\Linux\acme_1.efi`, or
	// with a slash in front as U-Boot has it), or, without a stub that tells, the id in
	// LoaderEntrySelected.
	Image string

	// RootHash is that of the file system that is mounted now: of the dm-verity device
	// ([github.com/osmith-dev/osmith/verity/dm.Active]), or of /proc/cmdline.
	RootHash []byte

	// Version is IMAGE_VERSION of the os-release of a system that runs from its UKI alone, without
	// a root file system that a hash protects; it stands for RootHash then.
	Version string

	// ESP is the partition that the UKI was started from: StubDevicePartUUID, or
	// LoaderDevicePartUUID. Zero: not known. If it differs from the disk's, the error is a
	// [*NotRunningError]: two disks may have the same content.
	ESP osmith.GUID

	// BootCountPath is LoaderBootCountPath: the name that the loader has given to the entry when it
	// counted this boot. Empty: not set.
	BootCountPath string

	// Log is the firmware's event log of this boot. Nil: not known. With it, what runs must have
	// been measured into PCR 4.
	Log *tpm.Log
}

// ErrRunningUnknown is returned if neither Machine.Running nor Machine.Offline is set: any slot
// might be in use.
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
