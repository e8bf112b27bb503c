//go:build linux

package e2e

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"

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
	Image   []byte
	Profile int
	Addons  [][]byte // in the order in which the stub takes them
	Phases  []string
}

// Predict is what PCRs 4, 7, 11 and 12 of the SHA-256 bank will hold.
func (s *System) Predict(b UKIBoot) (*tpm.Bank, error) {
	const bank = crypto.SHA256
	f, err := uki.Open(bytes.NewReader(b.Image))
	if err != nil {
		return nil, err
	}
	sections, err := f.MeasurementsWith(uki.MeasureOptions{Profile: b.Profile}, bank)
	if err != nil {
		return nil, err
	}
	release, err := stubRelease(f)
	if err != nil {
		return nil, err
	}
	v := s.Facts.Firmware
	boot := tpm.Boot{Banks: []crypto.Hash{bank}, Stub: release, Profile: b.Profile, Phases: b.Phases,
		Sections:   measurements(uki.VariantMeasurements{Sections: sections}),
		SecureBoot: tpm.Variables{SecureBoot: []byte{1}, PK: v.PK, KEK: v.KEK, DB: v.DB, DBX: v.DBX}}
	loader, err := s.Builder.SignedLoader()
	if err != nil {
		return nil, err
	}
	application := func(src uki.Source) (*tpm.Application, error) {
		verdict, digests, err := s.Evaluate(src)
		if err != nil {
			return nil, err
		}
		if !verdict.Allowed {
			return nil, errors.New(verdict.Reason)
		}
		authority, err := verdict.Authority.AppendBinary(nil)
		boot.Authorities = append(boot.Authorities, authority)
		return &tpm.Application{Digests: digests}, err
	}
	if boot.Loader, err = application(loader); err != nil {
		return nil, err
	}
	image, err := application(bytes.NewReader(b.Image))
	if err != nil {
		return nil, err
	}
	boot.UKI = *image
	if boot.Addons, err = addons(b.Addons, bank); err != nil {
		return nil, err
	}
	log, err := tpm.Predict(boot)
	if err != nil {
		return nil, err
	}
	banks, err := log.Replay(bank)
	if err != nil {
		return nil, err
	}
	return banks[bank], nil
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

// addons are what the stub takes from add-ons with command lines.
func addons(files [][]byte, bank crypto.Hash) (out []tpm.Addon, err error) {
	for _, file := range files {
		src := bytes.NewReader(file)
		digests, err := authenticode.Digests(src, bank)
		if err != nil {
			return nil, err
		}
		f, err := uki.OpenAddon(src)
		if err != nil {
			return nil, err
		}
		line, _ := f.Cmdline()
		out = append(out, tpm.Addon{Application: tpm.Application{Digests: digests}, CommandLine: line})
	}
	return out, nil
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
