package upgrade

import (
	"crypto"
	"crypto/rsa"
	"fmt"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/uki"
)

// Machine is what is known of the machine that will boot the disk. The caller reads it from efivarfs, from a provisioning
// record, or makes it up for a machine that does not exist yet.
type Machine struct {
	// Firmware is the Secure Boot configuration. Nil is a machine without Secure Boot.
	Firmware *osmith.FirmwareVariables

	// Loader is the loader's variables as far as they choose an entry.
	Loader bootloader.Variables

	// PCRKeys are the keys to whose signed PCR policies secrets of this machine are sealed. None: nothing is sealed,
	// and the unlocks verdict only checks the UKI's own claims.
	PCRKeys []*rsa.PublicKey

	// Banks are the PCR banks to predict. None: SHA-256.
	Banks []crypto.Hash

	// Hardware is what the stub picks device trees and firmware by, of a UKI that has several. Nil: unknown; PCR 11 of such a
	// UKI is then not predicted, and every one of its variants must have its policy.
	Hardware *uki.Hardware

	// Running is the path on the ESP of the UKI that runs now (StubImageIdentifier, LoaderEntrySelected). Empty: the
	// entry that the loader would choose.
	Running string
}

func (m *Machine) banks() []crypto.Hash {
	if len(m.Banks) == 0 {
		return []crypto.Hash{crypto.SHA256}
	}
	return m.Banks
}

// firmware is the Secure Boot configuration that verdicts and predictions take.
func (m *Machine) firmware() *osmith.FirmwareVariables {
	if m.Firmware == nil {
		return &osmith.FirmwareVariables{SecureBoot: []byte{0}}
	}
	return m.Firmware
}

// SecureBootError says why the machine's firmware will not start an image.
type SecureBootError struct {
	Path   string
	Reason string
}

func (e *SecureBootError) Error() string {
	return fmt.Sprintf("upgrade: firmware will not start %s: %s", e.Path, e.Reason)
}

// PredictBoot predicts what the machine measures when loader starts the UKI in its default profile: the log of PCRs 4, 7 and 11, up to the
// phases given (none: when the kernel starts). loader may be nil for a UKI that the firmware starts itself. An image the
// firmware refuses is a [*SecureBootError].
func PredictBoot(m Machine, loader, ukiImage osmith.Source, phases ...string) (*tpm.Log, error) {
	f, err := uki.Open(ukiImage)
	if err != nil {
		return nil, err
	}
	return m.predict(loader, m.examineUKI("the UKI", f, ukiImage), phases...)
}

func (m *Machine) predict(loader osmith.Source, u *unified, phases ...string) (*tpm.Log, error) {
	if u.stubErr != nil {
		return nil, u.stubErr
	}
	ms, err := m.booted(u)
	if err != nil {
		return nil, err
	}
	if u.imageErr != nil {
		return nil, u.imageErr
	}
	b := tpm.Boot{Banks: m.banks(), Stub: u.stub, Sections: ms, Phases: phases, Variables: m.firmware()}
	add := func(im *image) (*tpm.Application, error) {
		if err := im.refused(); err != nil {
			return nil, err
		}
		if a := im.verdict.Authority; a != nil {
			authority, err := a.AppendBinary(nil)
			if err != nil {
				return nil, err
			}
			b.Authorities = append(b.Authorities, authority)
		}
		return &tpm.Application{Path: im.path, Size: im.size, Digests: im.digests}, nil
	}
	if loader != nil {
		im, err := m.examine("the boot loader", loader)
		if err != nil {
			return nil, err
		}
		if b.Loader, err = add(im); err != nil {
			return nil, err
		}
		b.LoaderVersion = knownLoader(loader)
	}
	app, err := add(u.image)
	if err != nil {
		return nil, err
	}
	b.UKI = *app
	return tpm.Predict(b)
}

// knownLoader is the version of the loader; "", which stands for that of the stub, if it does not tell or is not known, since
// nothing that is predicted here depends on it.
func knownLoader(loader osmith.Source) osmith.Version {
	version, err := bootloader.LoaderVersion(loader)
	if err != nil {
		return ""
	}
	n, err := version.Release()
	if err != nil || !slices.ContainsFunc(tpm.StubVersions(), func(v tpm.StubVersion) bool { return v.Release == n }) {
		return ""
	}
	return version
}
