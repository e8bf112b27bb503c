package policy

import (
	"bytes"
	"crypto"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func pcrs(values ...byte) map[int][]byte {
	out := map[int][]byte{}
	for i, v := range values {
		out[[]int{0, 4, 7, 11}[i]] = bytes.Repeat([]byte{v}, 32)
	}
	return out
}

func TestUnion(t *testing.T) {
	states := []NamedState{{"running", pcrs(1, 4, 7, 11)}, {"staged", pcrs(1, 5, 7, 12)}, {"before", pcrs(1, 4, 7, 13)}}
	all := WithUpdate(states, "firmware 1.7", map[int][]byte{0: bytes.Repeat([]byte{2}, 32)})
	require.Len(t, all, 6)
	require.Equal(t, byte(1), states[0].Values[0][0], "the states stay")
	u, err := NewUnion(crypto.SHA256, []int{0, 4, 7}, all...)
	require.NoError(t, err)
	require.Len(t, u.States, 4, "PCR 11 is not asked for, so running and before are one")
	require.Equal(t, []string{"running", "before"}, u.States[0].Names)
	require.Empty(t, u.States[0].Differs)
	require.Equal(t, []string{"staged"}, u.States[1].Names)
	require.Equal(t, []int{4}, u.States[1].Differs)
	require.Equal(t, []string{"running, firmware 1.7", "before, firmware 1.7"}, u.States[2].Names)
	require.Equal(t, []int{0}, u.States[2].Differs)
	require.Equal(t, []int{0, 4}, u.States[3].Differs)
	require.NotContains(t, u.States[0].Values, 11)

	tree, err := AnyState(Digest{}, crypto.SHA256, u.Alternatives())
	require.NoError(t, err)
	digest, err := u.Digest(Digest{})
	require.NoError(t, err)
	require.Equal(t, tree.Digest(), digest)

	s, differs := u.Find(pcrs(2, 5, 7, 99))
	require.Equal(t, []string{"staged, firmware 1.7"}, s.Names)
	require.Empty(t, differs)
	s, differs = u.Find(pcrs(1, 4, 8))
	require.Equal(t, []string{"running", "before"}, s.Names)
	require.Equal(t, []int{7}, differs)
	s, differs = u.Find(pcrs(2, 9, 7))
	require.Equal(t, "running, firmware 1.7", s.Names[0])
	require.Equal(t, []int{4}, differs)
	_, differs = u.Find(nil)
	require.Len(t, differs, 3, "what is not known is no match")

	require.Contains(t, u.String(), "4 states of the sha256 PCRs [0 4 7]\n1: running, before\n2: staged\n   PCR 4 is 0505")
	text, err := json.Marshal(u)
	require.NoError(t, err)
	require.Contains(t, string(text), `{"bank":"sha256","pcrs":[0,4,7],"states":[{"names":["running","before"],"values":{"0":"0101`)
	require.Contains(t, string(text), `"differs":[]}`)
	require.Contains(t, string(text), `"differs":[0,4]}`)
}

func TestBadUnions(t *testing.T) {
	good := NamedState{"running", pcrs(1, 4, 7)}
	for name, tt := range map[string]struct {
		bank   crypto.Hash
		pcrs   []int
		states []NamedState
		err    string
	}{
		"bank":      {crypto.MD5, []int{7}, []NamedState{good}, "not a PCR bank"},
		"PCRs":      {crypto.SHA256, []int{7, 4}, []NamedState{good}, "ascending"},
		"no PCRs":   {crypto.SHA256, nil, []NamedState{good}, "no PCRs or no states"},
		"no states": {crypto.SHA256, []int{7}, nil, "no PCRs or no states"},
		"no name":   {crypto.SHA256, []int{7}, []NamedState{{"", good.Values}}, "union: state \"\": want a unique name"},
		"two":       {crypto.SHA256, []int{7}, []NamedState{good, good}, `state "running": want a unique name`},
		"not known": {crypto.SHA256, []int{7, 11}, []NamedState{good}, `state "running": PCR 11 is unknown`},
		"length":    {crypto.SHA384, []int{7}, []NamedState{good}, "32 bytes, want 48"},
	} {
		u, err := NewUnion(tt.bank, tt.pcrs, tt.states...)
		require.ErrorContains(t, err, "policy: union: ", name)
		require.ErrorContains(t, err, tt.err, name)
		require.Nil(t, u, name)
	}
	out := WithUpdate([]NamedState{{Name: "empty"}}, "x", map[int][]byte{0: {1}})
	require.Equal(t, map[int][]byte{0: {1}}, out[1].Values)
}
