package policy

import (
	"crypto"
	"errors"
	"fmt"
	"slices"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// Tree joins any number of policies by PolicyOR, in as many levels as needed, since one command
// takes eight branches.
type Tree struct {
	levels [][]Digest // the policies, then what each group of up to eight gives, up to the root
}

// NewTree joins policies: any one of them satisfies the tree. One policy alone is its own tree.
// systemd replays only a single level, so a tree for systemd has at most [MaxPolicyOR] policies.
func NewTree(policies ...Digest) (_ *Tree, err error) {
	defer prefix.Add(pkg, &err)
	if len(policies) == 0 {
		return nil, errors.New("PolicyOR: no policies")
	}
	t := &Tree{levels: [][]Digest{slices.Clone(policies)}}
	for level := t.levels[0]; len(level) > 1; {
		var next []Digest
		for group := range slices.Chunk(level, MaxPolicyOR) {
			if len(group) == 1 { // nothing to choose from
				next = append(next, group[0])
				continue
			}
			d, err := PolicyOR(group...)
			if err != nil {
				return nil, err
			}
			next = append(next, d)
		}
		t.levels = append(t.levels, next)
		level = next
	}
	return t, nil
}

// AnyState joins states of PCRs of one bank, after a session whose digest was start: all PCRs must
// have the values of the same state. That is stricter than the policy of systemd-pcrlock
// ([PCRLockDigest]), which lets each PCR have any of its values. The policies of the [Tree] are in
// the order of the states; Alternatives of package tpm computes the states of several possible
// boots.
func AnyState(start Digest, bank crypto.Hash, states []map[int][]byte) (_ *Tree, err error) {
	defer prefix.Add(pkg, &err)
	policies := make([]Digest, len(states))
	for i, values := range states {
		if policies[i], err = PolicyPCR(start, bank, values); err != nil {
			return nil, fmt.Errorf("state %d: %w", i, prefix.Bare(err))
		}
	}
	return NewTree(policies...)
}

// Digest is what a secret is sealed to.
func (t *Tree) Digest() Digest { return t.levels[len(t.levels)-1][0] }

// Depth is how many PolicyOR commands a session runs; systemd runs one.
func (t *Tree) Depth() int { return len(t.levels) - 1 }

// Path lists the branches of each TPM2_PolicyOR that a session runs after it has satisfied policy
// i, in order. A group of one policy needs no command.
func (t *Tree) Path(i int) (_ [][]Digest, err error) {
	defer prefix.Add(pkg, &err)
	if i < 0 || i >= len(t.levels[0]) {
		return nil, fmt.Errorf("PolicyOR: policy %d of %d", i, len(t.levels[0]))
	}
	var out [][]Digest
	for _, level := range t.levels[:len(t.levels)-1] {
		first := i / MaxPolicyOR * MaxPolicyOR
		if last := min(first+MaxPolicyOR, len(level)); last-first > 1 {
			out = append(out, slices.Clone(level[first:last]))
		}
		i /= MaxPolicyOR
	}
	return out, nil
}
