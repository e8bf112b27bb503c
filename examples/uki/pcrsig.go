package main

import (
	"crypto"
	"encoding/binary"
	"encoding/json"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/uki"
)

// reserve sets aside in each .pcrsig what it will need. For signatures that is known to the byte: the length of the JSON
// depends on how many policies there are and on the size of the keys, and not on what is measured. Policies that are signed
// elsewhere get 1024 bytes more each, as by ukify.
func (ps *policies) reserve(im *uki.Image) error {
	variants, err := im.Variants()
	if err != nil {
		return err
	}
	byProfile := map[int][]uki.VariantMeasurements{}
	for i, v := range variants {
		byProfile[v.Profile] = append(byProfile[v.Profile], uki.VariantMeasurements{Variant: v, Sections: ps.placeholder(i)})
	}
	for profile, variants := range byProfile {
		room, err := ps.room(variants)
		if err != nil {
			return err
		}
		if profile == 0 {
			im.PCRSignatureReserve = room
		} else {
			im.Profiles[profile-1].PCRSignatureReserve = room
		}
	}
	return nil
}

func (ps *policies) room(variants []uki.VariantMeasurements) (int, error) {
	unsigned, err := ps.of(variants)
	if err != nil {
		return 0, err
	}
	if ps.digests {
		b, err := unsigned.MarshalJSON()
		return len(b) + 1024*len(unsigned), err
	}
	var signed policy.Signatures
	for _, p := range unsigned {
		signed = append(signed, policy.Signature{PCRPolicy: p, Value: make([]byte, ps.keyOf(p).public.Size())})
	}
	b, err := signed.MarshalJSON()
	return len(b), err
}

// placeholder is a measurement like no other.
func (ps *policies) placeholder(n int) []osmith.Measurement {
	m := osmith.Measurement{Section: ".linux", Size: 1, Digests: map[crypto.Hash][]byte{}}
	for _, h := range ps.banks {
		m.Digests[h] = binary.BigEndian.AppendUint64(make([]byte, h.Size()-8), uint64(n))
	}
	return []osmith.Measurement{m}
}

// options make each .pcrsig while the image is written.
func (ps *policies) options() uki.WriteOptions {
	return uki.WriteOptions{Hashes: ps.banks, Sign: func(variants []uki.VariantMeasurements) ([]byte, error) {
		unsigned, err := ps.of(variants)
		if err != nil {
			return nil, err
		}
		if ps.digests {
			return unsigned.MarshalJSON()
		}
		var signed policy.Signatures
		for _, p := range unsigned {
			s, err := policy.PCRPolicies{p}.Sign(ps.keyOf(p).signer)
			if err != nil {
				return nil, err
			}
			signed = append(signed, s...)
		}
		return signed.MarshalJSON()
	}}
}

// of lists the policies for some ways to boot, each once.
func (ps *policies) of(variants []uki.VariantMeasurements) (all policy.PCRPolicies, err error) {
	for _, v := range variants {
		for _, k := range ps.keys {
			states, err := tpm.PCR11States(v.Sections, ps.banks, k.phases)
			if err != nil {
				return nil, err
			}
			list, err := policy.Prepare(k.public, states, "")
			if err != nil {
				return nil, err
			}
			for _, p := range list {
				if !slices.ContainsFunc(all, func(q policy.PCRPolicy) bool {
					return q.Bank == p.Bank && q.Fingerprint == p.Fingerprint && q.Digest == p.Digest
				}) {
					all = append(all, p)
				}
			}
		}
	}
	return all, nil
}

// keyOf is the key that a policy is for.
func (ps *policies) keyOf(p policy.PCRPolicy) policyKey {
	i := slices.IndexFunc(ps.keys, func(k policyKey) bool { return k.fingerprint == p.Fingerprint })
	return ps.keys[i]
}

// waiting is what is to be signed elsewhere, for all ways to boot in one object.
func (ps *policies) waiting(variants []uki.VariantMeasurements) (json.RawMessage, error) {
	all, err := ps.of(variants)
	if err != nil {
		return nil, err
	}
	return all.MarshalJSON()
}
