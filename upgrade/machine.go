package upgrade

import (
	"cmp"
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/uki"
)

// Machine is what is known of the machine that will boot the disk. The caller reads it from efivarfs, from a provisioning
// record, or makes it up for a machine that does not exist yet.
type Machine struct {
	// Firmware is the Secure Boot configuration. Nil is a machine without Secure Boot.
	Firmware *osmith.FirmwareVariables

	// FirmwareKind is the row of firmware that judges images. Empty: nothing is known of it, and an image boots only if all rows
	// allow it, those of edk2 and of U-Boot ([secureboot.FirmwareAny]). A machine whose images have time stamps or ECDSA signatures, as shim has time
	// stamps, needs its row named: what U-Boot does with such an image cannot be told, or it crashes.
	FirmwareKind secureboot.Firmware

	// Shim is the shim (shimx64.efi) through which firmware starts loader and images: FirmwareKind judges it, and it judges them, after Firmware's variables of shim. What shim
	// measures is not predicted. Nil: see NoShim.
	Shim osmith.Source

	// NoShim says that firmware starts the loader itself and no shim is involved. Without Shim and NoShim that is not known: on a machine with a SbatLevel, an
	// image has to pass firmware as well as SBAT and what else is known of shim's variables.
	NoShim bool

	// Loader is the loader's variables as far as they choose an entry.
	Loader bootloader.Variables

	// AssumeLoader is the release of systemd-boot (262) to treat a loader as that is newer than all of [bootloader.Releases], or does not tell its version. 0: what such
	// a loader does is not known, and the verdicts that it matters for do not pass without a restriction.
	AssumeLoader int

	// PCRKeys are the keys to whose signed PCR policies secrets of this machine are sealed. None: nothing is sealed,
	// and the unlocks verdict only checks the UKI's own claims.
	PCRKeys []*rsa.PublicKey

	// Banks are the PCR banks to predict. None: SHA-256.
	Banks []crypto.Hash

	// Hardware is what the stub picks device trees and firmware by, of a UKI that has several. Nil: unknown; PCR 11 of such a
	// UKI is then not predicted, and every one of its variants must have its policy.
	Hardware *uki.Hardware

	// Userspace is what systemd measures beside the phases that [PredictBoot] is asked for. Nil: not known; from the first phase on, PCRs 4 and 7 are then not
	// claimed, since systemd 261 and later measure a word into them in the initrd.
	Userspace *tpm.Userspace

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

// SecureBootError says why the machine's firmware, or its shim, will not start an image.
type SecureBootError struct {
	Path   string
	Reason string
	Shim   bool // shim will not; that it will be started itself is not said then
}

func (e *SecureBootError) Error() string {
	return fmt.Sprintf("%s will not start %s: %s", e.judge(), e.Path, e.Reason)
}

func (e *SecureBootError) judge() string {
	if e.Shim {
		return "shim"
	}
	return "firmware"
}

// ErrShimNotPredicted is why nothing is predicted for a machine that may start through shim, as it has a SbatLevel: shim measures more into PCRs 4, 7 and 14.
var ErrShimNotPredicted = errors.New("the machine has a SbatLevel, as shim leaves it: give the shim (Machine.Shim), or say that there is none (Machine.NoShim)")

// PredictBoot predicts what the machine measures when loader starts the UKI in its default profile: the log of PCRs 4, 7 and 11, with Machine.Shim also 14, up to the
// phases given (none: when the kernel starts). loader may be nil for a UKI that the firmware, or shim, starts itself. An image that is
// refused is a [*SecureBootError]. With a SbatLevel, without Machine.Shim and Machine.NoShim, the error is [ErrShimNotPredicted], unless an
// image is refused.
func PredictBoot(m Machine, loader, ukiImage osmith.Source, phases ...string) (log *tpm.Log, err error) {
	defer prefix.Add("upgrade", &err)
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
	b := tpm.Boot{Banks: m.banks(), Stub: u.stub, Sections: ms, Phases: phases, Variables: m.firmware(), NoShim: m.NoShim}
	if len(phases) > 0 {
		b.Userspace = m.Userspace
	}
	add := func(im *image) (*tpm.Application, error) {
		if err := im.refused(); err != nil {
			return nil, err
		}
		if m.Shim == nil && !m.NoShim && len(m.firmware().SbatLevel) > 0 {
			return nil, ErrShimNotPredicted
		}
		authority, err := im.verdict.AuthorityEvent()
		return &tpm.Application{Path: im.path, Size: im.size, Digests: im.digests, Authority: authority}, err
	}
	if m.Shim != nil {
		shim, err := m.shimProgram()
		if err != nil {
			return nil, err
		}
		b.Chain = append(b.Chain, shim)
	}
	if loader != nil {
		im, err := m.examine("the boot loader", loader)
		if err != nil {
			return nil, err
		}
		app, err := add(im)
		if err != nil {
			return nil, err
		}
		b.Chain = append(b.Chain, &tpm.SystemdBoot{Application: *app, Version: knownLoader(loader)})
	}
	app, err := add(u.image)
	if err != nil {
		return nil, err
	}
	b.UKI = *app
	return tpm.Predict(b)
}

// shimProgram is the machine's shim as the first program of a chain.
func (m *Machine) shimProgram() (*tpm.Shim, error) {
	shim, err := secureboot.ReadShim(m.Shim, m.hashes()...)
	if err != nil {
		return nil, fmt.Errorf("shim: %w", err)
	}
	v := secureboot.Evaluate(*m.firmware(), shim.Image, secureboot.EvaluateOptions{Firmware: cmp.Or(m.FirmwareKind, secureboot.FirmwareAny), NoShim: true})
	if !v.Allowed {
		return nil, &SecureBootError{Path: "shim", Reason: v.Reason}
	}
	authority, err := v.AuthorityEvent()
	return &tpm.Shim{Application: tpm.Application{Path: "shim", Size: m.Shim.Size(), Digests: shim.Image.Digests, Authority: authority}, Variables: shim.Measured(*m.firmware())}, err
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

// image is a PE image with what firmware and TPM see of it.
type image struct {
	path    string
	size    int64
	digests map[crypto.Hash][]byte
	verdict secureboot.Verdict
	judge   string // that says so: "firmware" or "shim"
	shim    error  // why firmware will not start shim, nil if it will or if there is none
}

// hashes are those that firmware and TPM of the machine take. The firmware compares SHA-256 hashes with db and dbx, and systemd prefers to
// unlock with that bank, whatever the banks are.
func (m *Machine) hashes() []crypto.Hash {
	list := m.banks()
	if !slices.Contains(list, crypto.SHA256) {
		list = append(slices.Clone(list), crypto.SHA256)
	}
	return list
}

// examine hashes a PE image and asks the machine's firmware about it, or its shim.
func (m *Machine) examine(path string, src osmith.Source) (*image, error) {
	read, err := secureboot.ReadImage(src, m.hashes()...)
	if err != nil {
		return nil, err
	}
	im := &image{path: path, size: src.Size(), digests: read.Digests, judge: "firmware"}
	o := secureboot.EvaluateOptions{Firmware: cmp.Or(m.FirmwareKind, secureboot.FirmwareAny), NoShim: m.NoShim}
	if m.Shim != nil {
		im.judge = "shim"
		if o.Shim, err = secureboot.ReadShim(m.Shim); err != nil {
			return nil, fmt.Errorf("shim: %w", err)
		}
		v := secureboot.Evaluate(*m.firmware(), o.Shim.Image, secureboot.EvaluateOptions{Firmware: o.Firmware, NoShim: true})
		if !v.Allowed {
			im.shim = &SecureBootError{Path: "shim", Reason: v.Reason}
		}
	}
	im.verdict = secureboot.Evaluate(*m.firmware(), read, o)
	return im, nil
}

// refused is the refusal of firmware or shim as an error.
func (im *image) refused() error {
	switch {
	case im.shim != nil:
		return im.shim
	case im.verdict.Allowed:
		return nil
	}
	return &SecureBootError{Path: im.path, Reason: im.verdict.Reason, Shim: im.judge == "shim"}
}

// unified is a UKI with what firmware, stub and TPM see of it, found out once: its whole content is read twice, as firmware hashes it
// and as the stub does. What cannot be found out is kept as the error that it is for whoever asks.
type unified struct {
	file *uki.File

	image    *image
	imageErr error

	stub    osmith.Version
	stubErr error

	variants []uki.VariantMeasurements
	measErr  error
}

// examineUKI finds out about a UKI that goes by that path.
func (m *Machine) examineUKI(path string, f *uki.File, src osmith.Source) *unified {
	u := &unified{file: f}
	u.image, u.imageErr = m.examine(path, src)
	u.stub, u.stubErr = f.StubVersion()
	u.variants, u.measErr = f.MeasureVariants(m.hashes()...)
	return u
}

// booted is what the stub measures when the image boots in its default profile on this machine.
func (m *Machine) booted(u *unified) ([]osmith.Measurement, error) {
	if u.measErr != nil {
		return nil, u.measErr
	}
	own := u.ofProfile(0)
	if len(own) == 0 {
		return nil, errors.New("the UKI has no default profile")
	}
	if len(own) == 1 {
		return own[0].Sections, nil
	}
	if m.Hardware == nil {
		return nil, fmt.Errorf("the stub picks one of %d sets of sections by the hardware, which Machine.Hardware does not tell: %w", len(own), uki.ErrHardwareDependent)
	}
	chosen, err := u.file.Choose(0, *m.Hardware)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(own, func(v uki.VariantMeasurements) bool { return v.Variant == chosen })
	if i < 0 {
		return nil, fmt.Errorf("the stub picks %+v, which is none of the image's %d variants", chosen, len(own))
	}
	return own[i].Sections, nil
}

// ofProfile are the variants of a profile.
func (u *unified) ofProfile(n int) []uki.VariantMeasurements {
	var list []uki.VariantMeasurements
	for _, v := range u.variants {
		if v.Profile == n {
			list = append(list, v)
		}
	}
	return list
}
