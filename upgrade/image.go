package upgrade

import (
	"cmp"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pinned"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// SecureBootError says why the machine's firmware, or its shim, will not start an image.
type SecureBootError struct {
	Path   string
	Reason string
	Shim   bool // shim refuses it; whether firmware starts shim is a separate question
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

// image is a PE image with what firmware and TPM see of it.
type image struct {
	path    string
	size    int64
	digests map[crypto.Hash][]byte
	verdict secureboot.Verdict
	judge   string // that says so: "firmware" or "shim"
	shim    error  // why firmware will not start shim, nil if it will or if there is none

	// unknown says why it cannot be told whether the image is started. "" if it can.
	unknown string
}

// hashes are those that the TPM takes of an image, and SHA-256, which systemd prefers to unlock
// with. What firmware compares, [secureboot.ReadImage] adds.
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
	return m.judgeImage(path, src.Size(), read)
}

// judgeImage asks the machine's firmware about an image that was read, or its shim.
func (m *Machine) judgeImage(path string, size int64, read secureboot.Image) (_ *image, err error) {
	im := &image{path: path, size: size, digests: read.Digests, judge: "firmware"}
	variables, known := m.variables()
	if !known {
		im.unknown = "its Secure Boot configuration is not known (Machine.Firmware, NoSecureBoot)"
		return im, nil
	}
	o := secureboot.EvaluateOptions{Firmware: m.firmwareKind(), NoShim: m.NoShim}
	if m.Shim != nil {
		im.judge = "shim"
		if o.Shim, err = m.readShim(); err != nil {
			return nil, err
		}
		if _, err := m.startsShim(o.Shim, variables); err != nil {
			im.shim = err
		}
	}
	im.verdict = secureboot.Evaluate(variables, read, o)
	if err := im.refused(); err != nil && !m.NoSecureBoot && m.Firmware.SecureBoot == nil {
		im.unknown = fmt.Sprintf("whether Secure Boot is on is not known (there is no SecureBoot in Machine.Firmware), and if it is, %v", err)
		im.shim, im.verdict = nil, secureboot.Verdict{}
	}
	return im, nil
}

func (m *Machine) firmwareKind() secureboot.Firmware {
	return cmp.Or(m.FirmwareKind, secureboot.FirmwareAny)
}

// readShim reads the machine's shim.
func (m *Machine) readShim() (*secureboot.Shim, error) {
	shim, err := secureboot.ReadShim(m.Shim, m.hashes()...)
	if err != nil {
		return nil, fmt.Errorf("shim: %w", err)
	}
	return shim, nil
}

// startsShim asks firmware about shim. A refusal is the error.
func (m *Machine) startsShim(shim *secureboot.Shim, variables osmith.FirmwareVariables) (secureboot.Verdict, error) {
	v := secureboot.Evaluate(variables, shim.Image, secureboot.EvaluateOptions{Firmware: m.firmwareKind(), NoShim: true})
	if !v.Allowed {
		return v, &SecureBootError{Path: "shim", Reason: v.Reason}
	}
	return v, nil
}

// refused is the refusal of firmware or shim as an error. What is not known is no refusal.
func (im *image) refused() error {
	switch {
	case im.unknown != "":
		return nil
	case im.shim != nil:
		return im.shim
	case im.verdict.Allowed:
		return nil
	}
	return &SecureBootError{Path: im.path, Reason: im.verdict.Reason, Shim: im.judge == "shim"}
}

// judgeStart adds to a verdict whether the image is started; of several images of a verdict, name
// tells which.
func (im *image) judgeStart(j *Verdict, name string) {
	if name != "" {
		name = " starts " + name
	}
	switch err := im.refused(); {
	case err != nil:
		j.fail(err)
	case im.unknown != "":
		j.warn("whether %s starts %s is unknown: %s", im.judge, im.path, im.unknown)
	default:
		j.pass("%s%s: %s", im.judge, name, im.verdict.Reason)
	}
}

// unified is a UKI with what firmware, stub and TPM see of it, found out once, in one pass over its
// content. What cannot be read is kept as its error, which the accessor returns.
type unified struct {
	file   *uki.File
	size   int64
	digest [sha256.Size]byte // of the file

	read     secureboot.Image
	image    *image // once judgeUKI was asked
	imageErr error

	stub    osmith.Version
	stubErr error

	variants []uki.VariantMeasurements
	measErr  error

	effective *effective // nil: the UKI's own command line
}

// examineUKI finds out about a UKI, by digests of it that were taken before if they are those that
// are needed. The error is one of reading it.
func (m *Machine) examineUKI(f *uki.File, src osmith.Source, known *release.UKIDigests) (*unified, error) {
	u := &unified{file: f, size: src.Size()}
	u.stub, u.stubErr = f.StubVersion()
	whole := sha256.New()
	to := []io.Writer{whole}
	var image *secureboot.ImageScan
	options := secureboot.ScanOptions{Hashes: m.hashes()}
	if variables, known := m.variables(); known && m.Shim == nil {
		options.Machine = &variables
	}
	if image, u.imageErr = secureboot.NewImageScan(src, options); u.imageErr == nil {
		to = append(to, image)
	}
	var measurer *uki.Measurer
	if measurer, u.measErr = f.NewMeasurer(m.hashes()...); u.measErr == nil {
		to = append(to, measurer)
	}
	if known != nil && u.know(known, image, m.hashes()) {
		return u, nil
	}
	if err := pinned.Scan(src, to...); err != nil {
		return nil, err
	}
	whole.Sum(u.digest[:0])
	if u.measErr == nil {
		u.variants, u.measErr = measurer.Variants()
	}
	if u.imageErr == nil {
		u.read, u.imageErr = image.Image()
	}
	return u, nil
}

// know takes digests from a pass that was made before. It is false if some are missing; the UKI is
// read then.
func (u *unified) know(known *release.UKIDigests, image *secureboot.ImageScan, hashes []crypto.Hash) bool {
	if u.measErr == nil {
		if u.variants = known.Measurements(); u.variants == nil {
			return false
		}
		for _, v := range u.variants {
			for _, s := range v.Sections {
				if slices.ContainsFunc(hashes, func(h crypto.Hash) bool { return s.Digests[h] == nil }) {
					return false
				}
			}
		}
	}
	if u.imageErr == nil {
		ok := false
		if u.read, ok = image.WithDigests(known.Authenticode()); !ok {
			return false
		}
	}
	u.digest = known.SHA256()
	return true
}

// UKIHashes are the hashes under which [release.Stream] has to compute the digests of a UKI
// (PullOptions.Hashes), so that a plan for this machine need not read the UKI again: those of the
// TPM's banks, and those that a shim, or firmware of unknown configuration, compares. A plan
// computes a missing digest itself, such as that under the hash of an unusual signature.
func (m *Machine) UKIHashes() []crypto.Hash {
	if _, known := m.variables(); known && m.Shim == nil {
		return slices.Clone(m.hashes())
	}
	list := slices.Concat(m.hashes(), []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512})
	slices.Sort(list)
	return slices.Compact(list)
}

// judgeUKI asks about a UKI that goes by that path.
func (m *Machine) judgeUKI(u *unified, path string) {
	if u.imageErr == nil {
		u.image, u.imageErr = m.judgeImage(path, u.size, u.read)
	}
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
		return nil, fmt.Errorf("the stub picks one of %d sets of sections by the hardware, but Machine.Hardware is not set: %w", len(own), uki.ErrHardwareDependent)
	}
	chosen, err := u.file.Choose(0, *m.Hardware)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(own, func(v uki.VariantMeasurements) bool { return v.Variant == chosen })
	if i < 0 {
		return nil, fmt.Errorf("the stub picks %+v, which is not one of the image's %d variants", chosen, len(own))
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
