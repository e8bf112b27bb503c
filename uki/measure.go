package uki

import (
	"crypto"
	_ "crypto/sha1" // so that the hashes of all usual PCR banks are there
	_ "crypto/sha256"
	_ "crypto/sha512"
	"errors"
	"fmt"

	"github.com/osmith-dev/osmith"
)

// Measurements is what the stub will measure when the image that Assemble lays out boots in its default profile, in
// measured order. It does not depend on PCRSignature, so that it can be computed, signed, and the signature put into
// the image. Each section is read once, the hashes run in parallel; without any, SHA-256 is used. If the stub picks
// sections by the hardware, [ErrHardwareDependent] is returned: MeasureVariants has the measurements of all cases.
//
// What a stub measures depends on its release; [ErrUnknownStub] is returned for one that is newer than this package
// knows or does not say (see AssumeStub).
func (im *Image) Measurements(hashes ...crypto.Hash) ([]osmith.Measurement, error) {
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

// MeasureOptions choose what Measurements of a [File] predicts. The zero value is the default boot.
type MeasureOptions struct {
	Profile    int // index of the profile that boots; one other than 0 is also measured into PCR 12
	AssumeStub int // systemd release whose behaviour to assume; 0: the stub's own

	// Variant is what boots, of an image in which the stub picks sections by the hardware; its Profile counts, not the
	// one above. Nil: the image has only one variant of the profile, [ErrHardwareDependent] if that is not so.
	Variant *Variant
}

// Measurements is what the embedded stub measures into PCR 11 when the image boots in its default profile, in measured
// order. Each section is read once for all hashes, which run in parallel; without any, SHA-256 is used. If the stub
// picks sections by the hardware, [ErrHardwareDependent] is returned: MeasureVariants has the measurements of all cases.
func (f *File) Measurements(hashes ...crypto.Hash) ([]osmith.Measurement, error) {
	return f.MeasurementsWith(MeasureOptions{}, hashes...)
}

// MeasurementsWith is Measurements of another boot than the default one.
func (f *File) MeasurementsWith(o MeasureOptions, hashes ...crypto.Hash) ([]osmith.Measurement, error) {
	list, release, err := f.contents(o.AssumeStub)
	if err != nil {
		return nil, err
	}
	var chosen []int
	if o.Variant != nil {
		chosen, err = selectVariant(list, *o.Variant, release)
	} else {
		chosen, err = selectOnly(list, o.Profile, release)
	}
	if err != nil {
		return nil, fmt.Errorf("uki: %w", err)
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

// measureOnce hashes the sections of several choices, each section once.
func measureOnce(list []content, choices [][]int, hashes []crypto.Hash) ([][]osmith.Measurement, error) {
	b, err := newBanks(hashes)
	if err != nil {
		return nil, err
	}
	defer b.close()
	order := make(map[int]int) // of the sections: how many were hashed before it
	for _, chosen := range choices {
		if len(chosen) == 0 {
			return nil, errors.New("uki: the stub would measure nothing")
		}
		for _, i := range chosen {
			if _, ok := order[i]; ok {
				continue
			}
			order[i] = len(order)
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
