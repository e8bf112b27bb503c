//go:build linux

package e2e

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/uki"
)

// UKI is an image that reports from its initrd and needs no root, with policies signed for each profile, under our Secure
// Boot signature.
func (s *System) UKI(version string, profiles ...uki.Profile) ([]byte, error) {
	parts, keys := s.Builder.Parts, s.Builder.Keys
	key, err := keys.PCRPublicKey()
	if err != nil {
		return nil, err
	}
	const room = 16 << 10 // four signatures for each of four banks, with space for other sizes
	for i := range profiles {
		profiles[i].PCRSignatureReserve = room
	}
	im := uki.Image{
		Stub: parts.Stub, Linux: parts.Linux, Initrd: []uki.Source{parts.Initrd}, OSRelease: acmeos.OSRelease(version),
		Cmdline:      kernelArguments + " osmith.report=initrd osmith.version=" + version,
		PCRPublicKey: key, PCRSignatureReserve: room, Profiles: profiles,
	}
	assembled, err := im.Assemble()
	if err != nil {
		return nil, err
	}
	return s.sign(func(w io.Writer) error {
		_, err := assembled.WriteStream(w, uki.WriteOptions{Hashes: tpm.Banks(), Sign: func(variants []uki.VariantMeasurements) ([]byte, error) {
			if len(variants) != 1 {
				return nil, fmt.Errorf("e2e: %d ways to boot share a .pcrsig", len(variants))
			}
			signatures, err := tpm.SignPolicies(keys.PCR, nil, measurements(variants[0]), nil)
			if err != nil {
				return nil, err
			}
			return signatures.MarshalJSON()
		}})
		return err
	})
}

// Addon is an add-on with a command line, under our Secure Boot signature.
func (s *System) Addon(stub uki.Source, cmdline string) ([]byte, error) {
	assembled, err := (&uki.Addon{Stub: stub, Cmdline: cmdline}).Assemble()
	if err != nil {
		return nil, err
	}
	return s.sign(func(w io.Writer) error { _, err := assembled.WriteTo(w); return err })
}

func (s *System) sign(write func(io.Writer) error) ([]byte, error) {
	var unsigned, signed bytes.Buffer
	if err := write(&unsigned); err != nil {
		return nil, err
	}
	db := s.Builder.Keys.SecureBoot.DB
	err := authenticode.Sign(&signed, bytes.NewReader(unsigned.Bytes()), db.Key, db.Cert, authenticode.SignOptions{Time: s.Builder.Time})
	return signed.Bytes(), err
}

func measurements(v uki.VariantMeasurements) []tpm.Measurement {
	ms := make([]tpm.Measurement, len(v.Sections))
	for i, m := range v.Sections {
		ms[i] = tpm.Measurement(m)
	}
	return ms
}

// A UKIBoot is a boot of an image that UKI made.
type UKIBoot struct {
	Image      []byte
	Profile    int
	Companions *uki.Companions // files beside the image; nil: none
	BootSecret []byte          // as the machine reported it
	Exit       tpm.ExitBoot    // how the kernel leaves the firmware
	Phases     []string
}

const sha256Bank = crypto.SHA256

// Predict is what the PCRs of the SHA-256 bank will hold, as far as that can be said: 4, 5, 7, 9, 11, 12 and 13 at least.
func (s *System) Predict(b UKIBoot) (map[int][]byte, error) {
	f, err := uki.Open(bytes.NewReader(b.Image))
	if err != nil {
		return nil, err
	}
	boot, err := s.boot(f, b)
	if err != nil {
		return nil, err
	}
	if err := handOver(boot, f, b); err != nil {
		return nil, err
	}
	log, err := tpm.Predict(*boot)
	if err != nil {
		return nil, err
	}
	values, err := log.Values(sha256Bank)
	for _, n := range []int{4, 5, 7, 9, 11, 12, 13} {
		if err == nil && values[n] == nil {
			err = fmt.Errorf("e2e: PCR %d is not predicted: %v", n, log.Coverage)
		}
	}
	return values, err
}

// boot is what the firmware sees, and what the stub measures of the image itself.
func (s *System) boot(f *uki.File, b UKIBoot) (*tpm.Boot, error) {
	sections, err := f.MeasurementsWith(uki.MeasureOptions{Profile: b.Profile}, sha256Bank)
	if err != nil {
		return nil, err
	}
	release, err := stubRelease(f)
	if err != nil {
		return nil, err
	}
	v := s.Facts.Firmware
	gpt, err := s.partitionTable()
	if err != nil {
		return nil, err
	}
	boot := &tpm.Boot{Banks: []crypto.Hash{sha256Bank}, Stub: release, Profile: b.Profile, Phases: b.Phases,
		GPT: gpt, LoaderConf: s.loaderConf, ExitBoot: b.Exit,
		Sections:   measurements(uki.VariantMeasurements{Sections: sections}),
		SecureBoot: tpm.Variables{SecureBoot: []byte{1}, PK: v.PK, KEK: v.KEK, DB: v.DB, DBX: v.DBX}}
	application := func(src uki.Source) (tpm.Application, error) {
		verdict, digests, err := s.Evaluate(src)
		if err != nil {
			return tpm.Application{}, err
		}
		if !verdict.Allowed {
			return tpm.Application{}, errors.New(verdict.Reason)
		}
		authority, err := verdict.Authority.AppendBinary(nil)
		boot.Authorities = append(boot.Authorities, authority)
		return tpm.Application{Digests: digests}, err
	}
	loader, err := s.Builder.SignedLoader()
	if err != nil {
		return nil, err
	}
	started, err := application(loader)
	if err != nil {
		return nil, err
	}
	boot.Loader = &started
	if boot.UKI, err = application(bytes.NewReader(b.Image)); err != nil || b.Companions == nil {
		return boot, err
	}
	for _, file := range slices.Concat(b.Companions.GlobalAddons, b.Companions.Addons) {
		loaded, err := application(file.Content)
		if err != nil {
			return nil, err
		}
		boot.Addons = append(boot.Addons, tpm.Addon{Application: loaded})
	}
	return boot, nil
}

// handOver adds to a boot what the stub passes to the kernel: command line, archives of companion files, and the initrd of
// which those are part.
func handOver(boot *tpm.Boot, f *uki.File, b UKIBoot) error {
	line, err := f.ProfileCmdline(b.Profile)
	if err != nil {
		return err
	}
	boot.CommandLine = []byte(line)
	handover, err := f.Handover(uki.Boot{Profile: b.Profile, SecureBoot: true, Companions: b.Companions, BootSecret: b.BootSecret})
	if err != nil {
		return err
	}
	digests, err := handover.Measure(sha256Bank)
	if err != nil {
		return err
	}
	boot.Initrd = digests.Initrd
	for i, event := range handover.Events {
		if event.Kind == uki.EventArchive {
			boot.Companions = append(boot.Companions, tpm.Companion{PCR: event.PCR, Description: event.Description, Digests: digests.Events[i]})
		}
	}
	if len(handover.Addons) != len(boot.Addons) {
		return fmt.Errorf("e2e: the stub would apply %d of %d add-ons", len(handover.Addons), len(boot.Addons))
	}
	for i, a := range handover.Addons {
		boot.Addons[i].CommandLine = a.Cmdline
	}
	return nil
}

// Evaluate asks the machine's firmware about an image.
func (s *System) Evaluate(src uki.Source) (secureboot.Verdict, map[crypto.Hash][]byte, error) {
	digests, err := authenticode.Digests(src, crypto.SHA256)
	if err != nil {
		return secureboot.Verdict{}, nil, err
	}
	signatures, err := authenticode.Signatures(src)
	if err != nil {
		return secureboot.Verdict{}, nil, err
	}
	candidates := make([]secureboot.Candidate, len(signatures))
	for i, c := range signatures {
		candidates[i] = secureboot.Candidate(c)
	}
	return s.Facts.Firmware.Evaluate(digests, candidates), digests, nil
}

func stubRelease(f *uki.File) (int, error) {
	version, err := f.StubVersion()
	if err != nil {
		return 0, err
	}
	var n int
	_, err = fmt.Sscanf(version, "%d", &n)
	return n, err
}
