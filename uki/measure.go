package uki

import (
	"crypto"
	_ "crypto/sha1" // so that the hashes of all usual PCR banks are there
	_ "crypto/sha256"
	_ "crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"io"
)

// Measurement is one section as the stub measures it into PCR 11. For each Measurement in order, the stub extends the
// PCR twice: with the hash of the section's name and a NUL byte, and with the hash of its data.
type Measurement struct {
	Section string                 // ".linux", ".osrel"...
	Size    int64                  // bytes of data as loaded
	Digests map[crypto.Hash][]byte // of the data as loaded, one for each hash asked for
}

// Measurements is what the stub will measure when the image that Assemble lays out boots in its default profile, in
// measured order. It does not depend on PCRSignature, so that it can be computed, signed, and the signature put into
// the image. Each section is read once for all hashes; without any, SHA-256 is used.
//
// What a stub measures depends on its release; [ErrUnknownStub] is returned for one that is newer than this package
// knows or does not say (see AssumeStub).
func (im *Image) Measurements(hashes ...crypto.Hash) ([]Measurement, error) {
	p, err := im.plan()
	if err != nil {
		return nil, err
	}
	version, versionErr := stubVersion(im.Stub, p.stub)
	release, err := knownRelease(version, versionErr, im.AssumeStub)
	if err != nil {
		return nil, &PartError{"Stub", err}
	}
	list, err := selectMeasured(p.all(false), 0, release)
	if err != nil {
		return nil, &PartError{"Sections", err}
	}
	return measure(list, hashes)
}

// selectMeasured picks from the sections in file order those that a stub of that release measures in that profile, in
// measured order: the first of a name among the base sections, which end at the first .profile, replaced by the first
// of that name in the profile's own, which end at the next one. Empty sections count as absent. systemd 262,
// src/boot/pe.c (pe_locate_profile_sections) and stub.c (find_sections, measure_sections).
func selectMeasured(list []content, profile, release int) ([]content, error) {
	base, own, err := splitProfile(list, profile)
	if err != nil {
		return nil, err
	}
	if len(own) > 0 && release < kindOf(".profile").since {
		return nil, fmt.Errorf("section .profile needs a stub of systemd %d or later, this is %d", kindOf(".profile").since, release)
	}
	var out []content
	for _, k := range sectionKinds {
		if !k.measured || release < k.since {
			continue
		}
		c := find(own, k.name)
		if c == nil {
			c = find(base, k.name)
		}
		if c == nil || c.size == 0 {
			continue
		}
		if k.repeats {
			return nil, fmt.Errorf("section %s: %w", k.name, ErrHardwareDependent)
		}
		out = append(out, *c)
	}
	return out, nil
}

// splitProfile finds the base sections and those of one profile. An image without any .profile has profile 0 only,
// which then has no sections of its own.
func splitProfile(list []content, profile int) (base, own []content, err error) {
	base = list
	n := -1
	for i, c := range list {
		if c.name != ".profile" {
			continue
		}
		if n++; n == 0 {
			base = list[:i]
		}
		switch n {
		case profile:
			own = list[i:]
		case profile + 1:
			return base, own[:len(own)-(len(list)-i)], nil
		}
	}
	if profile < 0 || profile > max(n, 0) {
		return nil, nil, fmt.Errorf("profile %d: the image has %d", profile, n+1)
	}
	return base, own, nil
}

func find(list []content, name string) *content {
	for i := range list {
		if list[i].name == name {
			return &list[i]
		}
	}
	return nil
}

func measure(list []content, hashes []crypto.Hash) ([]Measurement, error) {
	if len(hashes) == 0 {
		hashes = []crypto.Hash{crypto.SHA256}
	}
	states := make([]hash.Hash, len(hashes))
	writers := make([]io.Writer, len(hashes))
	for i, h := range hashes {
		if !h.Available() {
			return nil, fmt.Errorf("uki: hash %v is not linked into this program", h)
		}
		states[i] = h.New()
		writers[i] = states[i]
	}
	w := io.MultiWriter(writers...)
	out := make([]Measurement, 0, len(list))
	for _, c := range list {
		for _, s := range states {
			s.Reset()
		}
		v := new(view)
		v.add("section "+c.name, c.src, c.size)
		if _, err := v.WriteTo(w); err != nil {
			return nil, err
		}
		m := Measurement{Section: c.name, Size: c.size, Digests: make(map[crypto.Hash][]byte, len(hashes))}
		for i, h := range hashes {
			m.Digests[h] = states[i].Sum(nil)
		}
		out = append(out, m)
	}
	if len(out) == 0 {
		return nil, errors.New("uki: the stub would measure nothing")
	}
	return out, nil
}
