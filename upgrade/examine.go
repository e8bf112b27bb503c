package upgrade

import (
	"crypto"
	"errors"
	"fmt"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/uki"
)

// image is a PE image with what firmware and TPM see of it.
type image struct {
	path    string
	size    int64
	digests map[crypto.Hash][]byte
	verdict secureboot.Verdict
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

// examine hashes a PE image and asks the machine's firmware about it.
func (m *Machine) examine(path string, src osmith.Source) (*image, error) {
	im, err := secureboot.ReadImage(src, m.hashes()...)
	if err != nil {
		return nil, err
	}
	verdict := secureboot.Evaluate(*m.firmware(), im, secureboot.EvaluateOptions{})
	return &image{path: path, size: src.Size(), digests: im.Digests, verdict: verdict}, nil
}

// refused is the firmware's refusal as an error.
func (im *image) refused() error {
	if im.verdict.Allowed {
		return nil
	}
	return &SecureBootError{im.path, im.verdict.Reason}
}

// A unified is a UKI with what firmware, stub and TPM see of it, found out once: its whole content is read twice, as firmware hashes it
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
		return nil, errors.New("upgrade: the UKI has no default profile")
	}
	if len(own) == 1 {
		return own[0].Sections, nil
	}
	if m.Hardware == nil {
		return nil, fmt.Errorf("upgrade: the stub picks one of %d sets of sections by the hardware, which Machine.Hardware does not tell: %w", len(own), uki.ErrHardwareDependent)
	}
	chosen, err := u.file.Choose(0, *m.Hardware)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(own, func(v uki.VariantMeasurements) bool { return v.Variant == chosen })
	if i < 0 {
		return nil, fmt.Errorf("upgrade: the stub picks %+v, which is none of the image's %d variants", chosen, len(own))
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
