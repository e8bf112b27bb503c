package main

import (
	"crypto"
	"encoding/binary"
	"encoding/json"

	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/uki"
)

// reserve sets aside in each .pcrsig what it will need, to the byte: the length of the JSON depends on how many policies
// there are and on the size of the keys, and not on what is measured.
func (ps *policies) reserve(im *uki.Image) error {
	variants, err := im.Variants()
	if err != nil {
		return err
	}
	byProfile := map[int]tpm.Signatures{}
	for i, v := range variants {
		lists, err := ps.prepare([]tpm.Measurement{ps.placeholder(i)})
		if err != nil {
			return err
		}
		for k, l := range lists {
			for _, p := range l {
				s := tpm.Signature{Policy: p, Value: make([]byte, ps.keys[k].public.Size())}
				if _, there := byProfile[v.Profile].Find(p); !there {
					byProfile[v.Profile] = append(byProfile[v.Profile], s)
				}
			}
		}
	}
	for profile, signatures := range byProfile {
		b, err := signatures.MarshalJSON()
		if err != nil {
			return err
		}
		if profile == 0 {
			im.PCRSignatureReserve = len(b)
		} else {
			im.Profiles[profile-1].PCRSignatureReserve = len(b)
		}
	}
	return nil
}

// placeholder is a measurement like no other.
func (ps *policies) placeholder(n int) tpm.Measurement {
	m := tpm.Measurement{Section: ".linux", Size: int64(n) + 1, Digests: map[crypto.Hash][]byte{}}
	for _, h := range ps.banks {
		m.Digests[h] = binary.BigEndian.AppendUint64(make([]byte, h.Size()-8), uint64(n))
	}
	return m
}

// options make a .pcrsig while the image is written.
func (ps *policies) options() uki.WriteOptions {
	o := uki.WriteOptions{Hashes: ps.banks}
	if ps.digests {
		return o
	}
	o.Sign = func(variants []uki.VariantMeasurements) ([]byte, error) {
		var all tpm.Signatures
		for _, v := range variants {
			if err := ps.sign(v.Sections, &all); err != nil {
				return nil, err
			}
		}
		return all.MarshalJSON()
	}
	return o
}

// sign adds the signed policies of a way to boot to those there are, each once.
func (ps *policies) sign(measured []uki.Measurement, all *tpm.Signatures) error {
	lists, err := ps.prepare(forTPM(measured))
	if err != nil {
		return err
	}
	for i, l := range lists {
		signed, err := l.Sign(ps.keys[i].signer)
		if err != nil {
			return err
		}
		for _, s := range signed {
			if _, there := all.Find(s.Policy); !there {
				*all = append(*all, s)
			}
		}
	}
	return nil
}

// unsigned is what is to be signed elsewhere: one object for an image without profiles, else a list of them by profile.
func (ps *policies) unsigned(variants []uki.VariantMeasurements) (json.RawMessage, error) {
	byProfile := make([]tpm.Policies, 1+variants[len(variants)-1].Profile)
	for _, v := range variants {
		lists, err := ps.prepare(forTPM(v.Sections))
		if err != nil {
			return nil, err
		}
		for _, l := range lists {
			byProfile[v.Profile] = append(byProfile[v.Profile], l...)
		}
	}
	var all []json.RawMessage
	for _, p := range byProfile {
		b, err := p.MarshalJSON()
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return json.Marshal(all)
}

// prepare lists the policies for one way to boot, by key.
func (ps *policies) prepare(ms []tpm.Measurement) (lists []tpm.Policies, err error) {
	for _, k := range ps.keys {
		l, err := tpm.PreparePolicies(k.public, ps.banks, ms, k.phases, "")
		if err != nil {
			return nil, err
		}
		lists = append(lists, l)
	}
	return lists, nil
}

func forTPM(measured []uki.Measurement) []tpm.Measurement {
	ms := make([]tpm.Measurement, len(measured))
	for i, m := range measured {
		ms[i] = tpm.Measurement(m)
	}
	return ms
}
