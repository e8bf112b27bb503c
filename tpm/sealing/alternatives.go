package sealing

import (
	"crypto"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/osmith-dev/osmith/tpm/policy"
)

// maxAlternatives bounds the states that one secret is sealed for: two levels of PolicyOR.
const maxAlternatives = policy.MaxPolicyOR * policy.MaxPolicyOR

// anyOf: some PCRs have one of several sets of values.
type anyOf struct {
	bank crypto.Hash
	pcrs []int
	sets []map[int][]byte
}

func (o anyOf) tree(start policy.Digest) (*policy.Tree, error) {
	branches := make([]policy.Digest, len(o.sets))
	for i, set := range o.sets {
		var err error
		if branches[i], err = policy.PolicyPCR(start, o.bank, set); err != nil {
			return nil, err
		}
	}
	return policy.NewTree(branches...)
}

func (o anyOf) digest(start policy.Digest) (policy.Digest, error) {
	tree, err := o.tree(start)
	if err != nil {
		return policy.Digest{}, err
	}
	return tree.Digest(), nil
}

func (o anyOf) satisfy(t *TPM, a *attempt) error {
	actual, err := t.PCRs(o.bank, o.pcrs...)
	if err != nil {
		return err
	}
	which, closest := -1, o.pcrs
	for i, set := range o.sets {
		d := differing(set, actual)
		if len(d) == 0 {
			which = i
		}
		if len(d) < len(closest) || i == 0 {
			closest = d
		}
	}
	if which < 0 {
		return o.none(actual, closest)
	}
	tree, err := o.tree(a.running)
	if err != nil {
		return err
	}
	path, err := tree.Path(which)
	if err != nil {
		return err
	}
	if err := (literal{bank: o.bank, pcrs: o.pcrs}).satisfy(t, a); err != nil {
		return err
	}
	for _, branches := range path {
		if err := t.or(a, branches); err != nil {
			return err
		}
	}
	return nil
}

var errNoAlternative = errors.New("this is none of the states that it was sealed for; compared with the closest")

// none says how the machine differs from the closest of the sets.
func (o anyOf) none(actual map[int][]byte, differ []int) error {
	for _, set := range o.sets {
		if d := differing(set, actual); len(d) == len(differ) {
			return &PolicyError{Bank: o.bank, Actual: actual, Expected: set, PCRs: d, Err: errNoAlternative}
		}
	}
	return &PolicyError{Bank: o.bank, Actual: actual, Err: errNoAlternative}
}

// or tells the session that its digest is one of several.
func (t *TPM) or(a *attempt, branches []policy.Digest) error {
	var list tpm2.TPMLDigest
	for _, b := range branches {
		list.Digests = append(list.Digests, tpm2.TPM2BDigest{Buffer: b[:]})
	}
	if _, err := execute(t, tpm2.PolicyOr{PolicySession: a.session.Handle(), PHashList: list}); err != nil {
		return fmt.Errorf("sealing: PolicyOR: %w", err)
	}
	return nil
}

// Reseal unseals a token and seals its secret anew for each policy, in order. All open what the old one opens, so that
// tokens for the system that runs, the one that is staged and the one before can stand next to each other in a volume
// with one key slot; systemd tries each. The old token is good for as long as its policy holds: remove it from the volume
// when the tokens are written.
//
// It asks of each policy what [TPM.Seal] does, and fails as a whole. PINs that are stretched by Argon2id, in the token or
// a policy, are [ErrNotSupported]: they are part of the secret.
func (t *TPM) Reseal(token *Token, with Unlock, policies ...Policy) ([]*Token, error) {
	if token.Argon2id != nil {
		return nil, fmt.Errorf("sealing: reseal: a secret that an Argon2id PIN is part of: %w: seal another one", ErrNotSupported)
	}
	secret, err := t.Unseal(token, with)
	if err != nil {
		return nil, err
	}
	out := make([]*Token, 0, len(policies))
	for i, p := range policies {
		if p.Argon2id != nil {
			return nil, fmt.Errorf("sealing: reseal: policy %d: %w: the secret would be another", i, ErrNotSupported)
		}
		sealed, err := t.Seal(secret, p, with)
		if err != nil {
			return nil, fmt.Errorf("sealing: reseal: policy %d: %w", i, inner{err})
		}
		sealed.Keyslots = append([]int(nil), token.Keyslots...)
		out = append(out, sealed)
	}
	return out, nil
}
