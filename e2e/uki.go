//go:build linux

package e2e

import (
	"bytes"
	"crypto"
	"io"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/uki"
)

// UKI is an image that reports from its initrd and needs no root, with policies signed for each way
// to boot it, under our Secure Boot signature. It has what more has, too; a command line there is
// added to its own.
func (s *System) UKI(version string, more uki.Image) ([]byte, error) {
	parts, keys := s.Builder.Parts, s.Builder.Keys
	key, err := keys.PCRPublicKey()
	if err != nil {
		return nil, err
	}
	im := more
	im.Stub, im.Linux, im.Initrd, im.OSRelease = parts.Stub, parts.Linux, []osmith.Source{parts.Initrd}, acmeos.OSRelease(version)
	im.Cmdline = strings.TrimRight(s.Builder.Cmdline+" osmith.report=initrd osmith.version="+version+" "+more.Cmdline, " ")
	// Four signatures for each of four banks, with space for other sizes, and that for each way to
	// pick sections.
	room := 16 << 10 * (len(im.DeviceTreeAuto) + 1) * (len(im.Firmware) + 1)
	im.PCRPublicKey, im.PCRSignatureReserve, im.Profiles = key, room, slices.Clone(more.Profiles)
	for i := range im.Profiles {
		im.Profiles[i].PCRSignatureReserve = room
	}
	assembled, err := im.Assemble()
	if err != nil {
		return nil, err
	}
	return s.sign(func(w io.Writer) error {
		_, err := assembled.WriteStream(w, uki.WriteOptions{Hashes: tpm.Banks(), Sign: func(variants []uki.VariantMeasurements) ([]byte, error) {
			var all policy.Signatures
			for _, v := range variants {
				states, err := tpm.PCR11States(v.Sections, nil, nil)
				if err != nil {
					return nil, err
				}
				signatures, err := policy.Sign(keys.PCR, states, "")
				if err != nil {
					return nil, err
				}
				all = all.Merge(signatures...)
			}
			return all.MarshalJSON()
		}})
		return err
	})
}

// Addon is an add-on under our Secure Boot signature.
func (s *System) Addon(a uki.Addon) ([]byte, error) {
	assembled, err := a.Assemble()
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

// Evaluate asks the machine's firmware about an image.
func (s *System) Evaluate(src osmith.Source) (secureboot.Verdict, map[crypto.Hash][]byte, error) {
	im, err := secureboot.ReadImage(src, tpm.Banks()...)
	if err != nil {
		return secureboot.Verdict{}, nil, err
	}
	return secureboot.Evaluate(*s.Facts.Firmware, im, secureboot.EvaluateOptions{}), im.Digests, nil
}
