package tpm

import (
	"crypto"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// twoUKIs are two boots of one machine that differ in the UKI.
func twoUKIs(t *testing.T) (a, b Boot) {
	t.Helper()
	a = wholeBoot(t, bootVectors(t)[0], nil)
	b = a
	b.UKI.Digests = map[crypto.Hash][]byte{crypto.SHA256: sum(crypto.SHA256, []byte("other"))}
	b.Phases = []string{PhaseEnterInitrd}
	return a, b
}

func TestAlternatives(t *testing.T) {
	a, b := twoUKIs(t)
	a.ExitBoot, b.ExitBoot = ExitUnknown, ExitUnknown
	one, err := Predict(a)
	require.NoError(t, err)
	assert.Equal(t, OneOf, one.Coverage[5].State)
	assert.Contains(t, one.Coverage[5].String(), "PCR 5: one of several (booted): ")
	values, err := one.Values(crypto.SHA256)
	require.NoError(t, err)
	assert.NotContains(t, values, 5)

	all, err := PredictAll(a, b)
	require.NoError(t, err)
	require.Len(t, all, 4)
	sets, err := all.Values(crypto.SHA256)
	require.NoError(t, err)
	for pcr, n := range map[int]int{4: 2, 5: 2, 7: 1, 9: 1, 11: 2, 12: 1, 13: 1} {
		assert.Len(t, sets[pcr], n, "PCR %d", pcr)
	}
	for _, pcr := range []int{0, 1, 2, 3, 6, 10} {
		assert.NotContains(t, sets, pcr)
	}
	tree, err := all.Policy(crypto.SHA256, 4, 5, 7, 11)
	require.NoError(t, err)
	assert.Equal(t, 1, tree.Depth())
	branches, err := tree.Path(0)
	require.NoError(t, err)
	require.Len(t, branches, 1)
	assert.Len(t, branches[0], 4)
	tree, err = all.Policy(crypto.SHA256, 7)
	require.NoError(t, err)
	assert.Equal(t, 0, tree.Depth(), "one value, no choice")
	_, err = all.Policy(crypto.SHA256, 0)
	assert.ErrorContains(t, err, "PCR 0 is not predicted")
	_, err = all.Policy(crypto.SHA256)
	assert.ErrorContains(t, err, "no boots or no PCRs")

	actual, err := ParseLog(bootVectors(t)[0].log)
	require.NoError(t, err)
	index, ds := all.Diff(actual)
	assert.Equal(t, 1, index, "the first UKI, ExitBootServices retried")
	assert.Empty(t, ds)

	_, err = PredictAll()
	assert.ErrorContains(t, err, "no boots")
	b.Stub = 0
	_, err = PredictAll(a, b)
	assert.ErrorContains(t, err, "boot 1: ")
	_, err = Alternatives{}.Values(crypto.SHA256)
	assert.ErrorContains(t, err, "no alternatives")
}

// An unusual separator of the firmware is another value of each of its PCRs.
func TestSeparatorAlternative(t *testing.T) {
	a, _ := twoUKIs(t)
	b := a
	b.Separator = [4]byte{0xff, 0xff, 0xff, 0xff}
	all, err := PredictAll(a, b)
	require.NoError(t, err)
	sets, err := all.Values(crypto.SHA256)
	require.NoError(t, err)
	assert.Len(t, sets[4], 2)
	assert.Len(t, sets[7], 2)
	assert.Len(t, sets[11], 1)
	// The values that systemd-pcrlock predicts for its variant 600-0xffffffff.
	assert.Equal(t, "7a480bdc5d35fa130ced40924c9212b7605ccd6c926c584fd644f2af5e444ec2", hexOf(sets[7][1]))
	assert.Equal(t, "0b121e78292494d29e203f2750b88e54077437d4af1c3cfc211051a5845c13a6", hexOf(sets[4][1]))
	b.Separator = [4]byte{1}
	_, err = Predict(b)
	assert.ErrorContains(t, err, "separator 01000000: want zeros or ones")
}

func TestLockPolicyDigest(t *testing.T) {
	v := func(b byte) []byte { return sum(crypto.SHA256, []byte{b}) }
	one, err := LockPolicyDigest(crypto.SHA256, map[int][][]byte{4: {v(1)}, 7: {v(2)}})
	require.NoError(t, err)
	want, err := PolicyPCR(PolicyDigest{}, crypto.SHA256, map[int][]byte{4: v(1), 7: v(2)})
	require.NoError(t, err)
	assert.Equal(t, want, one)
	var many [][]byte
	for i := range MaxPolicyOR + 1 {
		many = append(many, v(byte(i)))
	}
	_, err = LockPolicyDigest(crypto.SHA256, map[int][][]byte{4: many})
	var tooMany *TooManyValuesError
	require.ErrorAs(t, err, &tooMany)
	assert.Equal(t, TooManyValuesError{PCR: 4, Values: 9}, *tooMany)
	_, err = LockPolicyDigest(crypto.SHA256, map[int][][]byte{4: many[:8]})
	assert.NoError(t, err)
	_, err = LockPolicyDigest(crypto.SHA256, map[int][][]byte{4: {}})
	assert.ErrorContains(t, err, "PCR 4 has no value")
	_, err = LockPolicyDigest(crypto.SHA256, nil)
	assert.ErrorContains(t, err, "no PCRs")
	_, err = LockPolicyDigest(crypto.MD5, map[int][][]byte{4: {v(1)}})
	assert.ErrorIs(t, err, ErrBank)
}

func TestPolicyTree(t *testing.T) {
	for _, n := range []int{1, 2, 8, 9, 10, 64, 65, 100} {
		leaves := make([]PolicyDigest, n)
		for i := range leaves {
			leaves[i] = PolicyDigest{byte(i), 1}
		}
		tree, err := NewPolicyTree(leaves...)
		require.NoError(t, err)
		for i := range leaves {
			path, err := tree.Path(i)
			require.NoError(t, err)
			d := leaves[i]
			for _, branches := range path {
				require.Contains(t, branches, d, "what the session has is a branch")
				d, err = PolicyOR(branches...)
				require.NoError(t, err)
			}
			require.Equal(t, tree.Digest(), d)
		}
		_, err = tree.Path(n)
		assert.Error(t, err)
		_, err = tree.Path(-1)
		assert.Error(t, err)
	}
	_, err := NewPolicyTree()
	assert.Error(t, err)
	_, err = PolicyOR(PolicyDigest{})
	assert.ErrorContains(t, err, "1 branches: want 2 to 8")
}

// Names that are none are refused by every command that takes one.
func TestPolicyNames(t *testing.T) {
	for name, f := range map[string]func([]byte) error{
		"Authorize":   func(n []byte) error { _, err := PolicyAuthorizeName(n, nil); return err },
		"AuthorizeNV": func(n []byte) error { _, err := PolicyAuthorizeNV(n); return err },
		"Signed":      func(n []byte) error { _, err := PolicySigned(PolicyDigest{}, n, nil); return err },
		"Secret":      func(n []byte) error { _, err := PolicySecret(PolicyDigest{}, n, nil); return err },
		"NV":          func(n []byte) error { _, err := PolicyNV(PolicyDigest{}, n, []byte{1}, 0, NVEqual); return err },
	} {
		for _, bad := range [][]byte{nil, {1, 2, 3}, make([]byte, 34), {0, 0x0b, 1}} {
			assert.ErrorContains(t, f(bad), "want an algorithm and a digest", name)
		}
		assert.NoError(t, f(append([]byte{0, 0x0b}, make([]byte, 32)...)), name)
	}
	_, err := PolicyNV(PolicyDigest{}, append([]byte{0, 0x0b}, make([]byte, 32)...), nil, 0, NVEqual)
	assert.ErrorContains(t, err, "operand of 0 bytes")
	_, err = NVPublic{Index: 1}.Name()
	assert.ErrorContains(t, err, "want 0x01000000")
	_, err = ObjectName([]byte{0, 1})
	assert.Error(t, err)
	_, err = ObjectName([]byte{0, 1, 0, 0})
	assert.ErrorIs(t, err, ErrBank)
	_, err = ParseApprovedPolicy([]byte{0, 0x0b})
	assert.Error(t, err)
}
