package tpm

import "fmt"

// PolicyTree joins any number of policies by PolicyOR, in as many levels as the eight branches of one command ask for.
type PolicyTree struct {
	levels [][]PolicyDigest // the policies, then what each group of up to eight gives, up to the root
}

// NewPolicyTree joins policies: any one of them satisfies the tree. One policy alone is its own tree. systemd replays a
// single level only, so what it shall unlock has at most [MaxPolicyOR].
func NewPolicyTree(policies ...PolicyDigest) (*PolicyTree, error) {
	if len(policies) == 0 {
		return nil, fmt.Errorf("tpm: PolicyOR: no policies")
	}
	t := &PolicyTree{levels: [][]PolicyDigest{append([]PolicyDigest(nil), policies...)}}
	for level := t.levels[0]; len(level) > 1; {
		var next []PolicyDigest
		for _, g := range groups(len(level)) {
			if g[1]-g[0] == 1 { // nothing to choose from
				next = append(next, level[g[0]])
				continue
			}
			d, err := PolicyOR(level[g[0]:g[1]]...)
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

// groups cuts n branches into runs of up to eight.
func groups(n int) [][2]int {
	var out [][2]int
	for i := 0; i < n; i += MaxPolicyOR {
		out = append(out, [2]int{i, min(i+MaxPolicyOR, n)})
	}
	return out
}

// Digest is what a secret is sealed to.
func (t *PolicyTree) Digest() PolicyDigest { return t.levels[len(t.levels)-1][0] }

// Depth is how many PolicyOR commands a session runs; systemd runs one.
func (t *PolicyTree) Depth() int { return len(t.levels) - 1 }

// Path lists the branches of each TPM2_PolicyOR that a session runs after it has satisfied policy i, in order. Groups of
// one are passed by without a command.
func (t *PolicyTree) Path(i int) ([][]PolicyDigest, error) {
	if i < 0 || i >= len(t.levels[0]) {
		return nil, fmt.Errorf("tpm: PolicyOR: policy %d of %d", i, len(t.levels[0]))
	}
	var out [][]PolicyDigest
	for _, level := range t.levels[:len(t.levels)-1] {
		first := i / MaxPolicyOR * MaxPolicyOR
		if last := min(first+MaxPolicyOR, len(level)); last-first > 1 {
			out = append(out, append([]PolicyDigest(nil), level[first:last]...))
		}
		i /= MaxPolicyOR
	}
	return out, nil
}
