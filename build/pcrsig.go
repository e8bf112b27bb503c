package build

import (
	"crypto"
	"encoding/binary"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/uki"
)

// pcrPolicies make the .pcrsig sections of an image while it is written.
type pcrPolicies struct {
	keys  []pcrKey
	banks []crypto.Hash
}

// elsewhere is the room that a policy gets that is signed elsewhere, as by ukify.
const elsewhere = 1024

// reserve sets aside in each .pcrsig what it will need. For signatures that is known to the byte:
// the length of the JSON depends on how many policies there are and on the size of the keys, and
// not on what is measured.
func (ps *pcrPolicies) reserve(im *uki.Image) error {
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
			im.PCRSignatureReserve = max(im.PCRSignatureReserve, room)
		} else {
			p := &im.Profiles[profile-1]
			p.PCRSignatureReserve = max(p.PCRSignatureReserve, room)
		}
	}
	return nil
}

func (ps *pcrPolicies) room(variants []uki.VariantMeasurements) (n int, err error) {
	all, err := ps.of(variants)
	if err != nil {
		return 0, err
	}
	var signed policy.Signatures
	for _, p := range all {
		k := ps.keyOf(p)
		signed = append(signed, policy.Signature{PCRPolicy: p, Value: make([]byte, k.Public.Size())})
		if k.Signer == nil {
			n += elsewhere
		}
	}
	b, err := signed.MarshalJSON()
	if n > 0 { // some are signed elsewhere: how its JSON is written is not known
		b, err = all.MarshalJSON()
	}
	return n + len(b), err
}

// placeholder is a measurement like no other.
func (ps *pcrPolicies) placeholder(n int) []osmith.Measurement {
	m := osmith.Measurement{Section: ".linux", Size: 1, Digests: map[crypto.Hash][]byte{}}
	for _, h := range ps.banks {
		m.Digests[h] = binary.BigEndian.AppendUint64(make([]byte, h.Size()-8), uint64(n))
	}
	return []osmith.Measurement{m}
}

// sign is the content of a .pcrsig. With a key that is elsewhere it is all policies as yet
// unsigned, as ukify --policy-digest leaves them.
func (ps *pcrPolicies) sign(variants []uki.VariantMeasurements) ([]byte, error) {
	all, err := ps.of(variants)
	if err != nil {
		return nil, err
	}
	var signed policy.Signatures
	for _, p := range all {
		k := ps.keyOf(p)
		if k.Signer == nil {
			return all.MarshalJSON()
		}
		s, err := policy.PCRPolicies{p}.Sign(k.Signer)
		if err != nil {
			return nil, err
		}
		signed = append(signed, s...)
	}
	return signed.MarshalJSON()
}

// of lists the policies for some ways to boot, each once.
func (ps *pcrPolicies) of(variants []uki.VariantMeasurements) (all policy.PCRPolicies, err error) {
	for _, v := range variants {
		for _, k := range ps.keys {
			states, err := tpm.PCR11States(v.Sections, ps.banks, k.Phases)
			if err != nil {
				return nil, err
			}
			list, err := policy.Prepare(k.Public, states, "")
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
func (ps *pcrPolicies) keyOf(p policy.PCRPolicy) pcrKey {
	return ps.keys[slices.IndexFunc(ps.keys, func(k pcrKey) bool { return k.fingerprint == p.Fingerprint })]
}
