package uki

import (
	"crypto"
	"fmt"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// A Variant is one way in which the stub can boot an image: the profile that was asked for, and what it picks by the
// hardware it finds ([File.Choose] says what that is on a machine). The zero value is the default profile on a machine that none of the .dtbauto and .efifw sections
// is for, and the only variant of an image that has neither those sections nor profiles.
type Variant struct {
	// Profile is the index of the profile, 0 if the image has none.
	Profile int
	// DeviceTree says which .dtbauto section is picked, 0: none. The candidates of a profile are counted from 1 in the
	// order of the file: those that all profiles share first, then the profile's own.
	DeviceTree int
	// Firmware says which .efifw section is picked, counted in the same way.
	Firmware int
}

// VariantMeasurements is what the stub measures into PCR 11 when it boots that variant, in measured order. Variants
// share the digests of sections that count in several of them.
//
// All of it is held against real boots: without sections that are picked by hardware; of stubs 257 and 262 with device
// trees; of 262 with firmware.
type VariantMeasurements struct {
	Variant
	Sections []osmith.Measurement
}

// Bounds on what is enumerated for a foreign image. systemd 262 knows 256 profiles (src/fundamental/uki.h); each
// variant needs a policy of its own, so that real images have a handful.
const (
	maxProfiles = 256
	maxVariants = 4096
)

// Variants lists all ways in which the image can boot: for each profile, none and each of its .dtbauto sections
// combined with none and each of its .efifw sections. Stubs too old for such sections ignore them. The error is that of
// Measurements for a stub or an image of which it is not known what counts.
func (f *File) Variants() ([]Variant, error) {
	list, release, err := f.contents(0)
	if err != nil {
		return nil, err
	}
	return variantsOf(list, release)
}

// Variants is that of the [File] that Assemble makes.
func (im *Image) Variants() ([]Variant, error) {
	list, release, err := im.contents()
	if err != nil {
		return nil, err
	}
	return variantsOf(list, release)
}

// MeasureVariants is what the stub measures in each of Variants. Each section is read and hashed once, whatever the
// number of variants and of hashes; the hashes run in parallel. Without any, SHA-256 is used.
func (f *File) MeasureVariants(hashes ...crypto.Hash) ([]VariantMeasurements, error) {
	return f.MeasureVariantsWith(0, hashes...)
}

// MeasureVariantsWith is MeasureVariants with the behaviour of another systemd release than the stub's own, such as the
// last known one for a stub that is newer ([ErrUnknownStub]). 0: the stub's own.
func (f *File) MeasureVariantsWith(assumeStub int, hashes ...crypto.Hash) ([]VariantMeasurements, error) {
	list, release, err := f.contents(assumeStub)
	if err != nil {
		return nil, err
	}
	return measureVariants(list, release, hashes)
}

// MeasureVariants is that of the [File] that Assemble makes. It does not depend on any PCR signature in the image.
func (im *Image) MeasureVariants(hashes ...crypto.Hash) ([]VariantMeasurements, error) {
	list, release, err := im.contents()
	if err != nil {
		return nil, err
	}
	return measureVariants(list, release, hashes)
}

// contents are the sections in file order and the release that says which of them count.
func (im *Image) contents() ([]content, int, error) {
	p, err := im.plan()
	if err != nil {
		return nil, 0, err
	}
	version, versionErr := programVersion(p.stubSrc, p.stub, sdstub.ProgramStub)
	row, err := knownRelease(version, versionErr, im.AssumeStub)
	if err != nil {
		return nil, 0, &PartError{"Stub", err}
	}
	return p.all(false), row.Number, nil
}

// contents are the sections in file order, one for each of Sections, and the release that says which of them count.
func (f *File) contents(assume int) ([]content, int, error) {
	row, err := f.release(assume)
	if err != nil {
		return nil, 0, err
	}
	list := make([]content, len(f.sections))
	for i, s := range f.sections {
		list[i] = content{s.Name, f.data(i), s.Size}
	}
	return list, row.Number, nil
}

// release is how the stub of an image behaves.
func (f *File) release(assume int) (sdstub.Release, error) {
	if f.kind != kindImage {
		return sdstub.Release{}, fmt.Errorf("uki: %w: opened as a part of other images, whose stub measures it", ErrNotUKI)
	}
	row, err := knownRelease(f.version, f.versionErr, assume)
	if err != nil {
		return sdstub.Release{}, fmt.Errorf("uki: %w", err)
	}
	return row, nil
}

func variantsOf(list []content, release int) ([]Variant, error) {
	var out []Variant
	profiles := countProfiles(list)
	if profiles > maxProfiles {
		return nil, fmt.Errorf("uki: the image has %d profiles, stubs know %d", profiles, maxProfiles)
	}
	for p := range max(profiles, 1) {
		s, err := scopeOf(list, p, release)
		if err != nil {
			return nil, fmt.Errorf("uki: %w", err)
		}
		trees, firmware := len(s.candidates(".dtbauto")), len(s.candidates(".efifw"))
		if n := len(out) + (trees+1)*(firmware+1); n > maxVariants {
			return nil, fmt.Errorf("uki: the image can boot in more than %d ways: profile %d alone picks from %d .dtbauto and %d .efifw sections", maxVariants, p, trees, firmware)
		}
		for d := range trees + 1 {
			for w := range firmware + 1 {
				out = append(out, Variant{p, d, w})
			}
		}
	}
	return out, nil
}

func measureVariants(list []content, release int, hashes []crypto.Hash) ([]VariantMeasurements, error) {
	variants, err := variantsOf(list, release)
	if err != nil {
		return nil, err
	}
	out := make([]VariantMeasurements, 0, len(variants))
	chosen := make([][]int, 0, len(variants))
	for _, v := range variants {
		picked, err := selectVariant(list, v, release)
		if err != nil {
			return nil, fmt.Errorf("uki: %w", err)
		}
		chosen = append(chosen, picked)
		out = append(out, VariantMeasurements{Variant: v})
	}
	measured, err := measureOnce(list, chosen, hashes)
	if err != nil {
		return nil, err
	}
	for i := range out {
		out[i].Sections = measured[i]
	}
	return out, nil
}
