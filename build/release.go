package build

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// ReleaseOptions are the choices of [Release]. The zero value lists the release under its version.
type ReleaseOptions struct {
	Ref string // that the layout lists it under; "": the version

	// SupportedUntil and Fixes take the place of those of the release. Without either the end of
	// support is that of the UKI's os-release (SUPPORT_END), if that says one.
	SupportedUntil release.Date
	Fixes          []string
}

// PCRsSchema is the value of "schema" in the PCR values of a release.
const PCRsSchema = "osmith.pcrs/1"

// ReleasePCRs are what a release says of the PCRs of its boots: the content of
// [release.Release].PCRs as [Release] makes it.
type ReleasePCRs struct {
	Schema string `json:"schema"`
	// Authenticode digests of the UKI, "sha256:HEX": an event of PCR 4
	Image []string     `json:"image"`
	PCR11 []PCR11Value `json:"pcr11"`
}

// PCR11Value is PCR 11 at one point of one way to boot.
type PCR11Value struct {
	Profile int `json:"profile"`
	// which .dtbauto the stub picks, as [uki.Variant] counts
	DeviceTree int `json:"deviceTree,omitempty"`
	Firmware   int `json:"firmware,omitempty"` // which .efifw
	// words with colons between; "" as the kernel starts
	Phase string `json:"phase"`
	// hexadecimal, by the name of the bank
	Banks map[string]string `json:"banks"`
}

// Release packs a set as an OCI artifact into the layout in dir, which is made if absent, with what
// it will leave in PCR 11 if the set does not say so yet. The same set gives the same digest, which
// is what is to be signed: with [github.com/osmith-dev/osmith/signing/cosign.Sign], as the last
// step, since no machine with a policy takes an unsigned release.
func Release(ctx context.Context, dir string, r *release.Release, o ReleaseOptions) (d ocispec.Descriptor, err error) {
	defer prefix.Add("build", &err)
	packed := *r
	if o.SupportedUntil != "" {
		packed.SupportedUntil = o.SupportedUntil
	}
	if o.Fixes != nil {
		packed.Fixes = o.Fixes
	}
	if err := packed.Identify(); err != nil {
		return d, prefix.Bare(err)
	}
	if packed.PCRs == nil {
		values, err := PCRsOf(ctx, &packed)
		switch {
		case errors.Is(err, uki.ErrUnknownStub): // what is not known is not stated
		case err != nil:
			return d, prefix.Bare(err)
		default:
			text, err := json.Marshal(values)
			if err != nil {
				return d, err
			}
			packed.PCRs = bytes.NewReader(text)
		}
	}
	if err := ctx.Err(); err != nil {
		return d, err
	}
	ref := o.Ref
	if ref == "" {
		ref = packed.Version
	}
	d, err = release.Pack(dir, ref, &packed)
	return d, prefix.Bare(err)
}

// PCRsOf is what a release leaves in PCR 11, in each of its profiles, for each piece of hardware
// that decides, at each point that policies are signed for by default and as the kernel starts, in
// all banks. The UKI is read once.
func PCRsOf(ctx context.Context, r *release.Release) (p *ReleasePCRs, err error) {
	defer prefix.Add("build", &err)
	digests, err := release.HashUKI(ctx, r.UKI, tpm.Banks()...)
	if err != nil {
		return nil, err
	}
	variants := digests.Measurements()
	if variants == nil {
		f, err := uki.Open(r.UKI)
		if err != nil {
			return nil, err
		}
		_, err = f.MeasureVariants(tpm.Banks()...) // which says why
		return nil, cmp.Or(err, errors.New("the value that the UKI leaves in PCR 11 is unknown"))
	}
	p = &ReleasePCRs{Schema: PCRsSchema, Image: []string{}, PCR11: []PCR11Value{}}
	for _, h := range digestHashes() {
		p.Image = append(p.Image, tpm.BankName(h)+":"+hex.EncodeToString(digests.Authenticode()[h]))
	}
	for _, v := range variants {
		for _, phases := range append([][]string{nil}, tpm.DefaultPhasePaths()...) {
			value := PCR11Value{Profile: v.Profile, DeviceTree: v.DeviceTree, Firmware: v.Firmware, Phase: strings.Join(phases, ":"), Banks: map[string]string{}}
			for _, h := range tpm.Banks() {
				sum, err := tpm.PCR11(h, v.Sections, phases...)
				if err != nil {
					return nil, err
				}
				value.Banks[tpm.BankName(h)] = hex.EncodeToString(sum)
			}
			p.PCR11 = append(p.PCR11, value)
		}
	}
	return p, nil
}
