package upgrade

import (
	"errors"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/uki"
)

// ErrShimNotPredicted says that there is no prediction for a machine with a SbatLevel, because it
// may start through a shim, which measures more into PCRs 4, 7 and 14: set Machine.Shim or
// Machine.NoShim.
var ErrShimNotPredicted = errors.New("the machine has a SbatLevel, as shim leaves it: give the shim (Machine.Shim), or say that there is none (Machine.NoShim)")

// ErrUBootNotPredicted says that there is no prediction for a machine whose firmware is U-Boot: its
// events and their order differ from edk2's.
var ErrUBootNotPredicted = errors.New("what U-Boot measures is not predicted")

// BootImages are the images of a boot: the loader, which is nil if firmware starts the UKI itself,
// the UKI, and the files beside it on the ESP, of which add-ons add to its command line. Nil: there
// are no such files.
type BootImages struct {
	Loader, UKI osmith.Source
	Companions  *uki.Companions
}

// PredictBoot predicts what the machine measures when loader starts the UKI in its default profile:
// the log of PCRs 4, 7 and 11, with Machine.Shim also 14, up to the phases given (none: when the
// kernel starts). loader may be nil for a UKI that the firmware, or shim, starts itself. If an
// image is refused, the error is a [*SecureBootError]. With a SbatLevel but without Machine.Shim
// and Machine.NoShim, the error is [ErrShimNotPredicted]; with a FirmwareKind of U-Boot it is
// [ErrUBootNotPredicted]. If the Secure Boot configuration is unknown, PCR 7 is not predicted.
func PredictBoot(m Machine, loader, ukiImage osmith.Source, phases ...string) (log *tpm.Log, err error) {
	return PredictImages(m, BootImages{Loader: loader, UKI: ukiImage}, phases...)
}

// PredictImages predicts as [PredictBoot] does, with the files beside the UKI: add-ons are started
// by the firmware, which measures them into PCR 4, and their contents are measured into PCR 12. An
// add-on that firmware refuses is left out, as the stub leaves it out.
func PredictImages(m Machine, b BootImages, phases ...string) (log *tpm.Log, err error) {
	defer prefix.Add("upgrade", &err)
	if err := m.check(); err != nil {
		return nil, err
	}
	f, err := uki.Open(b.UKI)
	if err != nil {
		return nil, err
	}
	u, err := m.examineUKI(f, b.UKI, nil)
	if err != nil {
		return nil, err
	}
	m.judgeUKI(u, "the UKI")
	if b.Companions != nil {
		u.effective = m.effectiveCmdline(f, 0, "", b.Companions)
	}
	return m.predict(b.Loader, u, phases...)
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
	variables, known := m.variables()
	if !known || !m.NoSecureBoot && m.Firmware.SecureBoot == nil {
		variables.SecureBoot = nil
	}
	b := tpm.Boot{Banks: m.banks(), Stub: u.stub, Sections: ms, Phases: phases, Variables: &variables, NoShim: m.NoShim}
	if len(phases) > 0 {
		b.Userspace = m.Userspace
	}
	add := func(im *image) (*tpm.Application, error) {
		if err := im.refused(); err != nil {
			return nil, err
		}
		if m.Shim == nil && !m.NoShim && len(variables.SbatLevel) > 0 {
			return nil, ErrShimNotPredicted
		}
		if slices.Contains([]secureboot.Firmware{secureboot.FirmwareUBoot202610, secureboot.FirmwareUBoot202501, secureboot.FirmwareUBootLegacy}, m.FirmwareKind) {
			return nil, ErrUBootNotPredicted
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
	if e := u.effective; e != nil && e.matters() {
		if e.err != nil {
			return nil, e.err
		}
		for _, im := range e.addons {
			app, err := add(im)
			if err != nil {
				return nil, err
			}
			b.Addons = append(b.Addons, *app)
		}
		if b.Handover, err = e.handover.Measure(m.banks()...); err != nil {
			return nil, err
		}
	}
	return tpm.Predict(b)
}

// shimProgram is the machine's shim as the first program of a chain.
func (m *Machine) shimProgram() (*tpm.Shim, error) {
	shim, err := m.readShim()
	if err != nil {
		return nil, err
	}
	variables, known := m.variables()
	app := tpm.Application{Path: "shim", Size: m.Shim.Size(), Digests: shim.Image.Digests}
	if known {
		v, err := m.startsShim(shim, variables)
		if err != nil {
			return nil, err
		}
		if app.Authority, err = v.AuthorityEvent(); err != nil {
			return nil, err
		}
	}
	return &tpm.Shim{Application: app, Variables: shim.Measured(variables)}, nil
}

// knownLoader is the version of the loader; "", which stands for that of the stub, if it does not
// tell or is not known, since nothing that is predicted here depends on it.
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
