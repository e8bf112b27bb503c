package uki

import (
	"crypto"
	_ "crypto/sha1" // so that the hashes of all usual PCR banks are there
	_ "crypto/sha256"
	_ "crypto/sha512"
	"errors"
	"fmt"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sdstub"
	"github.com/osmith-dev/osmith/internal/signedpe"
)

// Measurements is what the stub will measure when the image that Assemble lays out boots in its
// default profile, in measured order. It does not depend on PCRSignature, so it can be computed and
// signed before the signature is put into the image. Each section is read once, the hashes run in
// parallel; without any hash, SHA-256 is used. If the stub chooses sections by the hardware,
// [ErrHardwareDependent] is returned: MeasureVariants has the measurements of all cases.
//
// What a stub measures depends on its release; [ErrUnknownStub] is returned for a stub that is
// newer than this package knows or states no release (see AssumeStub).
func (im *Image) Measurements(hashes ...crypto.Hash) (_ []osmith.Measurement, err error) {
	defer prefix.Add("uki", &err)
	list, release, err := im.contents()
	if err != nil {
		return nil, err
	}
	chosen, err := selectOnly(list, 0, release)
	if err != nil {
		return nil, &PartError{"Sections", err}
	}
	return measure(list, chosen, hashes)
}

// Measurements is what the embedded stub measures into PCR 11 when the image boots in its default
// profile, in measured order. Each section is read once for all hashes, which run in parallel;
// without any, SHA-256 is used. If the stub picks sections by the hardware, [ErrHardwareDependent]
// is returned: MeasureVariants has the measurements of all cases.
func (f *File) Measurements(hashes ...crypto.Hash) (_ []osmith.Measurement, err error) {
	defer prefix.Add("uki", &err)
	list, release, err := f.contents()
	if err != nil {
		return nil, err
	}
	chosen, err := selectOnly(list, 0, release)
	if err != nil {
		return nil, err
	}
	return measure(list, chosen, hashes)
}

// MeasureVariant is Measurements of one way to boot: of a profile other than the default, whose
// number is also measured into PCR 12, or of an image in which the stub chooses sections by the
// hardware ([File.Choose]).
func (f *File) MeasureVariant(v Variant, hashes ...crypto.Hash) (_ []osmith.Measurement, err error) {
	defer prefix.Add("uki", &err)
	list, release, err := f.contents()
	if err != nil {
		return nil, err
	}
	chosen, err := selectVariant(list, v, release)
	if err != nil {
		return nil, err
	}
	return measure(list, chosen, hashes)
}

// measure hashes the chosen ones of the sections.
func measure(list []content, chosen []int, hashes []crypto.Hash) ([]osmith.Measurement, error) {
	out, err := measureOnce(list, [][]int{chosen}, hashes)
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

// measureOnce hashes the sections of several choices, each section once, and each range of a file
// once whatever the number of sections that are made of it.
func measureOnce(list []content, choices [][]int, hashes []crypto.Hash) ([][]osmith.Measurement, error) {
	b, err := newBanks(hashes)
	if err != nil {
		return nil, err
	}
	defer b.close()
	order := make(map[int]int) // of the sections: how many were hashed before it
	done := make(map[fileRange]int)
	hashed := 0
	for _, chosen := range choices {
		if len(chosen) == 0 {
			return nil, errors.New("the stub would measure nothing")
		}
		for _, i := range chosen {
			if _, ok := order[i]; ok {
				continue
			}
			if r := list[i].same; r != nil {
				if n, ok := done[*r]; ok {
					order[i] = n
					continue
				}
				done[*r] = hashed
			}
			order[i] = hashed
			hashed++
			if err := b.section(list[i]); err != nil {
				return nil, err
			}
		}
	}
	b.wait()
	return collect(list, choices, func(i int) map[crypto.Hash][]byte { return b.sums(order[i]) }), nil
}

// section hashes one section.
func (b *banks) section(c content) error {
	v := new(view)
	v.add("section "+c.name, c.src, c.size)
	for off := int64(0); off < c.size; {
		buf := b.take(min(bankBuffer, c.size-off))
		_, err := v.ReadAt(buf.b, off)
		if err == nil {
			b.write(buf, buf.b)
			off += int64(len(buf.b))
		}
		buf.release()
		if err != nil {
			return err
		}
	}
	b.end(0)
	return nil
}

// collect makes measurements of digests. A section that several choices have is one value.
func collect(list []content, choices [][]int, digests func(i int) map[crypto.Hash][]byte) [][]osmith.Measurement {
	known := make(map[int]osmith.Measurement)
	out := make([][]osmith.Measurement, len(choices))
	for n, chosen := range choices {
		out[n] = make([]osmith.Measurement, 0, len(chosen))
		for _, i := range chosen {
			m, ok := known[i]
			if !ok {
				m = osmith.Measurement{Section: list[i].name, Size: list[i].size, Digests: digests(i)}
				known[i] = m
			}
			out[n] = append(out[n], m)
		}
	}
	return out
}

// A Variant is one way in which the stub can boot an image: the requested profile, and the sections
// that it chooses by the hardware ([File.Choose] says which on a given machine). The zero value is
// the default profile on a machine that matches none of the .dtbauto and .efifw sections; it is the
// only variant of an image that has neither those sections nor profiles.
type Variant struct {
	// Profile is the index of the profile, 0 if the image has none.
	Profile int
	// DeviceTree says which .dtbauto section is chosen, 0: none. The candidates of a profile are
	// counted from 1 in the order of the file: first those that all profiles share, then the
	// profile's own.
	DeviceTree int
	// Firmware says which .efifw section is picked, counted in the same way.
	Firmware int
}

// VariantMeasurements is what the stub measures into PCR 11 when it boots that variant, in measured
// order. Variants share the digests of sections that count in several of them.
//
// The measurements were compared with real boots: for all stubs without sections that are chosen by
// hardware; for stubs 257 and 262 with device trees; for 262 with firmware.
type VariantMeasurements struct {
	Variant
	Sections []osmith.Measurement
}

// Bounds on what is enumerated for a foreign image. systemd 262 knows 256 profiles
// (src/fundamental/uki.h); each variant needs a policy of its own, so real images have only a
// handful.
const (
	maxProfiles = 256
	maxVariants = 4096
)

// Variants lists all ways in which the image can boot: for each profile, none and each of its
// .dtbauto sections combined with none and each of its .efifw sections. Stubs too old for such
// sections ignore them. If it is unknown which sections of the image the stub measures, the error
// is that of Measurements.
func (f *File) Variants() (_ []Variant, err error) {
	defer prefix.Add("uki", &err)
	list, release, err := f.contents()
	if err != nil {
		return nil, err
	}
	return variantsOf(list, release)
}

// Variants are the variants of the [File] that Assemble makes.
func (im *Image) Variants() (_ []Variant, err error) {
	defer prefix.Add("uki", &err)
	list, release, err := im.contents()
	if err != nil {
		return nil, err
	}
	return variantsOf(list, release)
}

// MeasureVariants is what the stub measures in each of Variants. Each section is read and hashed
// once, for any number of variants and hashes; the hashes run in parallel. Without any, SHA-256 is
// used.
func (f *File) MeasureVariants(hashes ...crypto.Hash) (_ []VariantMeasurements, err error) {
	defer prefix.Add("uki", &err)
	list, release, err := f.contents()
	if err != nil {
		return nil, err
	}
	return measureVariants(list, release, hashes)
}

// MeasureVariants are the measurements of the [File] that Assemble makes. They do not depend on PCR
// signatures in the image.
func (im *Image) MeasureVariants(hashes ...crypto.Hash) (_ []VariantMeasurements, err error) {
	defer prefix.Add("uki", &err)
	list, release, err := im.contents()
	if err != nil {
		return nil, err
	}
	return measureVariants(list, release, hashes)
}

// A Measurer measures, as [File.MeasureVariants] does, an image whose bytes are written to it in
// the order of the file, so that a program which also copies or examines the image reads it only
// once.
type Measurer struct {
	list   []content
	chosen [][]int
	out    []VariantMeasurements
	ranges map[fileRange]*signedpe.Hasher
	at     int64 // bytes written
	size   int64
	taken  bool // by Variants
}

// NewMeasurer returns a Measurer of the image. Without any hashes, SHA-256 is used; SHA-1, SHA-256,
// SHA-384 and SHA-512 are allowed. If it is unknown which sections of the image the stub measures,
// the error is that of Variants, such as [ErrUnknownStub].
func (f *File) NewMeasurer(hashes ...crypto.Hash) (m *Measurer, err error) {
	defer prefix.Add("uki", &err)
	if len(hashes) == 0 {
		hashes = []crypto.Hash{crypto.SHA256}
	}
	list, release, err := f.contents()
	if err != nil {
		return nil, err
	}
	m = &Measurer{list: list, size: f.src.Size(), ranges: map[fileRange]*signedpe.Hasher{}}
	if m.out, m.chosen, err = chooseVariants(list, release); err != nil {
		return nil, err
	}
	for _, chosen := range m.chosen {
		for _, i := range chosen {
			r := *list[i].same
			if m.ranges[r] != nil {
				continue
			}
			if m.ranges[r], err = signedpe.NewHasher(hashes); err != nil {
				return nil, err
			}
		}
	}
	return m, nil
}

// Write takes the next bytes of the image, any number. Bytes after the end of the image are an
// error. The caller must make sure that they are the bytes that [Open] has read.
func (m *Measurer) Write(b []byte) (int, error) {
	end := m.at + int64(len(b))
	if end > m.size {
		return 0, fmt.Errorf("uki: %d bytes are written of an image of %d", end, m.size)
	}
	for r, h := range m.ranges {
		if from, to := max(r.offset, m.at), min(r.offset+r.inFile, end); from < to {
			h.Write(b[from-m.at:to-m.at], nil)
		}
	}
	m.at = end
	return len(b), nil
}

// Variants returns the measurements once all of the image was written; an earlier call and a second
// call are errors.
func (m *Measurer) Variants() (_ []VariantMeasurements, err error) {
	defer prefix.Add("uki", &err)
	switch {
	case m.at != m.size:
		return nil, fmt.Errorf("%d bytes were written of an image of %d", m.at, m.size)
	case m.taken:
		return nil, errors.New("the measurements were already taken")
	}
	m.taken = true
	sums := map[fileRange]map[crypto.Hash][]byte{}
	for r, h := range m.ranges {
		for n := r.size - r.inFile; n > 0; n -= int64(len(zeros)) {
			h.Write(zeros[:min(n, int64(len(zeros)))], nil)
		}
		if sums[r], err = h.Sums(0); err != nil {
			return nil, err
		}
	}
	for i, measured := range collect(m.list, m.chosen, func(i int) map[crypto.Hash][]byte { return sums[*m.list[i].same] }) {
		m.out[i].Sections = measured
	}
	return m.out, nil
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

// contents are the sections in file order, one for each of Sections, and the release that says
// which of them count.
func (f *File) contents() ([]content, int, error) {
	row, err := f.release()
	if err != nil {
		return nil, 0, err
	}
	list := make([]content, len(f.sections))
	for i, s := range f.sections {
		r := f.fileRange(i)
		list[i] = content{name: s.Name, src: f.data(i), size: s.Size, same: &r}
	}
	return list, row.Number, nil
}

// release is how the stub of an image behaves.
func (f *File) release() (sdstub.Release, error) {
	if f.kind != kindImage {
		return sdstub.Release{}, fmt.Errorf("%w: an add-on or profile is measured by the stub of the image it belongs to", ErrNotUKI)
	}
	return knownRelease(f.version, f.versionErr, f.assume)
}

func variantsOf(list []content, release int) ([]Variant, error) {
	var out []Variant
	profiles := countProfiles(list)
	if profiles > maxProfiles {
		return nil, fmt.Errorf("the image has %d profiles, stubs know %d", profiles, maxProfiles)
	}
	for p := range max(profiles, 1) {
		s, err := scopeOf(list, p, release)
		if err != nil {
			return nil, err
		}
		trees, firmware := len(s.candidates(".dtbauto")), len(s.candidates(".efifw"))
		if n := len(out) + (trees+1)*(firmware+1); n > maxVariants {
			return nil, fmt.Errorf("the image can boot in more than %d ways: profile %d alone picks from %d .dtbauto and %d .efifw sections", maxVariants, p, trees, firmware)
		}
		for d := range trees + 1 {
			for w := range firmware + 1 {
				out = append(out, Variant{p, d, w})
			}
		}
	}
	return out, nil
}

// chooseVariants lists the variants, and which sections are measured in each.
func chooseVariants(list []content, release int) (out []VariantMeasurements, chosen [][]int, err error) {
	variants, err := variantsOf(list, release)
	if err != nil {
		return nil, nil, err
	}
	for _, v := range variants {
		picked, err := selectVariant(list, v, release)
		if err != nil {
			return nil, nil, err
		}
		if len(picked) == 0 {
			return nil, nil, errors.New("the stub would measure nothing")
		}
		chosen = append(chosen, picked)
		out = append(out, VariantMeasurements{Variant: v})
	}
	return out, chosen, nil
}

func measureVariants(list []content, release int, hashes []crypto.Hash) ([]VariantMeasurements, error) {
	out, chosen, err := chooseVariants(list, release)
	if err != nil {
		return nil, err
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
