package upgrade

import (
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/uki"
)

// Machine is what is known of the machine that will boot the disk. The caller reads it from efivarfs, from a provisioning
// record, or makes it up for a machine that does not exist yet.
type Machine struct {
	// Firmware is the Secure Boot configuration. The zero value is a machine without Secure Boot.
	Firmware secureboot.Variables

	// Loader is the loader's variables as far as they choose an entry.
	Loader bootloader.Variables

	// PCRKeys are the keys to whose signed PCR policies secrets of this machine are sealed. None: nothing is sealed,
	// and the unlocks verdict only checks the UKI's own claims.
	PCRKeys []*rsa.PublicKey

	// Banks are the PCR banks to predict. None: SHA-256.
	Banks []crypto.Hash

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

// image is a PE image with what firmware and TPM see of it.
type image struct {
	path    string
	size    int64
	digests map[crypto.Hash][]byte
	verdict secureboot.Verdict
}

// examine hashes a PE image and asks the machine's firmware about it.
func (m *Machine) examine(path string, src Source) (*image, error) {
	// The firmware compares SHA-256 hashes with db and dbx whatever the banks are.
	hashes := m.banks()
	if !slices.Contains(hashes, crypto.SHA256) {
		hashes = append(slices.Clone(hashes), crypto.SHA256)
	}
	im := &image{path: path, size: src.Size()}
	var err error
	if im.digests, err = authenticode.Digests(src, hashes...); err != nil {
		return nil, err
	}
	signatures, err := authenticode.Signatures(src)
	if err != nil && !errors.Is(err, authenticode.ErrUnsigned) {
		return nil, err
	}
	candidates := make([]secureboot.Candidate, len(signatures))
	for i, s := range signatures {
		candidates[i] = secureboot.Candidate(s)
	}
	im.verdict = m.Firmware.Evaluate(im.digests, candidates)
	return im, nil
}

// SecureBootError says why the machine's firmware will not start an image.
type SecureBootError struct {
	Path   string
	Reason string
}

func (e *SecureBootError) Error() string {
	return fmt.Sprintf("upgrade: firmware will not start %s: %s", e.Path, e.Reason)
}

// PredictBoot predicts what the machine measures when loader starts the UKI: the log of PCRs 4, 7 and 11, up to the
// phases given (none: when the kernel starts). loader may be nil for a UKI that the firmware starts itself. An image the
// firmware refuses is a [*SecureBootError].
func PredictBoot(m Machine, loader, ukiImage Source, phases ...string) (*tpm.Log, error) {
	f, err := uki.Open(ukiImage)
	if err != nil {
		return nil, err
	}
	stub, err := stubRelease(f)
	if err != nil {
		return nil, err
	}
	ms, err := f.Measurements(m.banks()...)
	if err != nil {
		return nil, err
	}
	b := tpm.Boot{Banks: m.banks(), Stub: stub, Phases: phases, SecureBoot: tpm.Variables{
		SecureBoot: flag(m.Firmware.SecureBoot),
		PK:         m.Firmware.PK, KEK: m.Firmware.KEK, DB: m.Firmware.DB, DBX: m.Firmware.DBX,
	}}
	for _, x := range ms {
		b.Sections = append(b.Sections, tpm.Measurement(x))
	}
	add := func(path string, src Source) (*tpm.Application, error) {
		im, err := m.examine(path, src)
		if err != nil {
			return nil, err
		}
		if !im.verdict.Allowed {
			return nil, &SecureBootError{path, im.verdict.Reason}
		}
		if a := im.verdict.Authority; a != nil {
			authority, err := a.AppendBinary(nil)
			if err != nil {
				return nil, err
			}
			b.Authorities = append(b.Authorities, authority)
		}
		return &tpm.Application{Path: path, Size: im.size, Digests: im.digests}, nil
	}
	if loader != nil {
		if b.Loader, err = add("the boot loader", loader); err != nil {
			return nil, err
		}
	}
	app, err := add("the UKI", ukiImage)
	if err != nil {
		return nil, err
	}
	b.UKI = *app
	return tpm.Predict(b)
}

func flag(b bool) []byte {
	if b {
		return []byte{1}
	}
	return []byte{0}
}

// stubRelease is the systemd release of the UKI's stub: 262 for "262.1-1".
func stubRelease(f *uki.File) (int, error) {
	v, err := f.StubVersion()
	if err != nil {
		return 0, err
	}
	return releaseNumber(v)
}

func releaseNumber(version string) (int, error) {
	digits := version
	if i := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		digits = version[:i]
	}
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0, fmt.Errorf("upgrade: systemd version %q does not begin with a number", version)
	}
	return n, nil
}
