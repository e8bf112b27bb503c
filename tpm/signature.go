package tpm

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
)

// Policy is a PCR policy that a key is to sign, or has signed: "these PCRs of this bank have the values behind this
// digest". It is one entry of a .pcrsig.
type Policy struct {
	Bank        crypto.Hash
	PCRs        []int             // ascending; in practice {11}
	Fingerprint [sha256.Size]byte // of the key that signs, see [Fingerprint]
	Ref         string            // name of the policy reference, "" for none (systemd 262)
	Digest      PolicyDigest
}

// TBS are the bytes to be signed with RSASSA-PKCS1-v1_5 and SHA-256: the digest, and the policy reference if any.
func (p Policy) TBS() []byte { return append(p.Digest[:], PolicyRef(p.Ref)...) }

func (p Policy) equal(q Policy) bool {
	return p.Bank == q.Bank && slices.Equal(p.PCRs, q.PCRs) && p.Fingerprint == q.Fingerprint && p.Ref == q.Ref && p.Digest == q.Digest
}

// Policies are policies not yet signed. Where the key is elsewhere, sign the TBS of each there and [Policies.Join].
type Policies []Policy

// Signature is a signed policy.
type Signature struct {
	Policy
	Value []byte // RSASSA-PKCS1-v1_5 with SHA-256
}

// Signatures are the contents of a .pcrsig, in the order of the file.
type Signatures []Signature

// PreparePolicies lists the policies over PCR 11 that a UKI with these measurements needs: for each bank (nil: all of
// [Banks]) one per phase path (nil: [DefaultPhasePaths]; an empty path is the moment after the stub). Only the public
// half of the key is needed. Banks and paths are put in the order of systemd-measure, whatever order they are given in,
// and repeated paths are dropped. ref names a policy reference, "" for none.
func PreparePolicies(key *rsa.PublicKey, banks []crypto.Hash, ms []osmith.Measurement, phasePaths [][]string, ref string) (Policies, error) {
	fingerprint, err := Fingerprint(key)
	if err != nil {
		return nil, err
	}
	if banks == nil {
		banks = Banks()
	}
	if err := checkBanks(banks); err != nil {
		return nil, err
	}
	if phasePaths == nil {
		phasePaths = DefaultPhasePaths()
	}
	if len(banks) == 0 || len(phasePaths) == 0 {
		return nil, fmt.Errorf("tpm: policies: no banks or no phase paths to sign for")
	}
	if err := checkRef(ref); err != nil {
		return nil, err
	}
	paths, err := sortPaths(phasePaths)
	if err != nil {
		return nil, err
	}
	var out Policies
	for _, h := range Banks() {
		if !slices.Contains(banks, h) {
			continue
		}
		for _, path := range paths {
			pcr, err := PCR11(h, ms, path...)
			if err != nil {
				return nil, err
			}
			digest, err := PolicyPCR(PolicyDigest{}, h, map[int][]byte{PCRKernel: pcr})
			if err != nil {
				return nil, err
			}
			out = append(out, Policy{Bank: h, PCRs: []int{PCRKernel}, Fingerprint: fingerprint, Ref: ref, Digest: digest})
		}
	}
	return out, nil
}

// SignPolicies prepares the policies of a UKI and signs them: see [PreparePolicies] for the arguments. key may live in
// an HSM; it must be RSA. The signatures are deterministic.
func SignPolicies(key crypto.Signer, banks []crypto.Hash, ms []osmith.Measurement, phasePaths [][]string) (Signatures, error) {
	pub, err := rsaPublic(key)
	if err != nil {
		return nil, err
	}
	p, err := PreparePolicies(pub, banks, ms, phasePaths, "")
	if err != nil {
		return nil, err
	}
	return p.Sign(key)
}

// Sign signs each policy. The key must be the one that they were prepared for.
func (p Policies) Sign(key crypto.Signer) (Signatures, error) {
	pub, err := rsaPublic(key)
	if err != nil {
		return nil, err
	}
	values := make([][]byte, len(p))
	for i := range p {
		digest := sha256.Sum256(p[i].TBS())
		if values[i], err = key.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
			return nil, fmt.Errorf("tpm: signing policy %s: %w", p[i].Digest, err)
		}
	}
	return p.Join(pub, values)
}

// Join makes signed policies of signatures that were made elsewhere over the TBS of each policy, in the same order.
// Each is verified; the first that is not by this key is an error.
func (p Policies) Join(key *rsa.PublicKey, signatures [][]byte) (Signatures, error) {
	if len(signatures) != len(p) {
		return nil, fmt.Errorf("tpm: joining %d signatures with %d policies", len(signatures), len(p))
	}
	out := make(Signatures, len(p))
	for i := range p {
		out[i] = Signature{Policy: p[i], Value: bytes.Clone(signatures[i])}
		if err := out[i].Verify(key); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Verify reports whether the key signed the policy.
func (s Signature) Verify(key *rsa.PublicKey) error {
	fingerprint, err := Fingerprint(key)
	if err != nil {
		return err
	}
	if fingerprint != s.Fingerprint {
		return fmt.Errorf("tpm: policy %s: signed by key %x, not by %x", s.Digest, s.Fingerprint, fingerprint)
	}
	digest := sha256.Sum256(s.TBS())
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], s.Value); err != nil {
		return fmt.Errorf("tpm: policy %s: %w", s.Digest, err)
	}
	return nil
}

// Find returns the signature of a policy, as systemd looks it up when it unseals: bank, PCRs, key, reference and digest
// must all be equal.
func (s Signatures) Find(p Policy) (Signature, bool) {
	for _, sig := range s {
		if sig.equal(p) {
			return sig, true
		}
	}
	return Signature{}, false
}

func rsaPublic(key crypto.Signer) (*rsa.PublicKey, error) {
	if key == nil {
		return nil, checkKey(nil)
	}
	pub, ok := key.Public().(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("tpm: PCR signing key: %T: %w", key.Public(), ErrKey)
	}
	return pub, nil
}

// sortPaths orders phase paths by their text, as systemd-measure does, and drops repetitions.
func sortPaths(paths [][]string) ([][]string, error) {
	out := make([][]string, 0, len(paths))
	for _, path := range paths {
		for _, word := range path {
			if err := checkPhase(word); err != nil {
				return nil, err
			}
		}
		out = append(out, path)
	}
	slices.SortStableFunc(out, func(a, b []string) int { return strings.Compare(strings.Join(a, ":"), strings.Join(b, ":")) })
	return slices.CompactFunc(out, slices.Equal[[]string]), nil
}

// Merge adds signatures that are not there yet, as systemd-measure --append does: those of one UKI with a reference and
// without, or by an old key and a new one. Entries keep their order, each bank's new ones after its old ones.
func (s Signatures) Merge(more ...Signature) Signatures {
	out := slices.Clone(s)
	for _, m := range more {
		if _, there := out.Find(m.Policy); !there {
			out = append(out, m)
		}
	}
	return out
}
