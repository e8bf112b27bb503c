package tpm

import (
	"crypto"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/pcrbank"
)

func TestPendingStates(t *testing.T) {
	predict := func(b Boot) Alternatives {
		all, err := PredictAll(b)
		require.NoError(t, err)
		return all
	}
	running := bootVectors(t)[0].boot
	next := running
	next.UKI.Digests = map[crypto.Hash][]byte{crypto.SHA256: pcrbank.Sum(crypto.SHA256, []byte("next"))}
	announced := running
	variables := *running.Variables
	variables.DBX = append(variables.DBX, variables.DBX...)
	announced.Variables = &variables
	sets := []PendingSet{{"running", predict(running)}, {"a copy", predict(running)}, {"version 2", predict(next)}, {"version 2 or running", append(predict(next), predict(running)...)}, {"a new dbx", predict(announced)}}
	states, err := PendingStates(crypto.SHA256, []int{7, 4}, sets...)
	require.NoError(t, err)
	require.Len(t, states, 3)
	require.Equal(t, []string{"running", "a copy", "version 2 or running"}, states[0].Sets)
	require.Empty(t, states[0].Changed)
	require.Equal(t, []string{"version 2", "version 2 or running"}, states[1].Sets)
	require.Equal(t, []int{4}, states[1].Changed)
	require.Equal(t, []int{7}, states[2].Changed)
	require.Equal(t, "running, a copy, version 2 or running: the first state", states[0].String())
	require.Equal(t, "a new dbx: other values in PCRs [7]", states[2].String())
	want, err := sets[0].Boots[0].Values(crypto.SHA256)
	require.NoError(t, err)
	require.Equal(t, map[int][]byte{4: want[4], 7: want[7]}, states[0].Values)

	// PCRs that do not change are one state.
	states, err = PendingStates(crypto.SHA256, []int{12}, sets...)
	require.NoError(t, err)
	require.Len(t, states, 1)
	require.Len(t, states[0].Sets, 5)

	_, err = PendingStates(crypto.SHA256, []int{7})
	require.ErrorContains(t, err, "no sets")
	_, err = PendingStates(crypto.SHA256, nil, sets...)
	require.ErrorContains(t, err, "no PCRs")
	_, err = PendingStates(crypto.MD5, []int{7}, sets...)
	require.Error(t, err)
	_, err = PendingStates(crypto.SHA256, []int{10}, sets...)
	require.EqualError(t, err, "tpm: pending states: running: alternatives: PCR 10 is not predicted")
	_, err = PendingStates(crypto.SHA256, []int{7}, PendingSet{Name: "none"})
	require.ErrorContains(t, err, "none: alternatives: no boots")
}
