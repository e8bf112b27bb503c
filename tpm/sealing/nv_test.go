package sealing

import (
	"crypto"
	"errors"
	"testing"

	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/stretchr/testify/require"
)

// count is what a program does that wants a counter, each time it runs.
func count(t *TPM, index uint32) (uint64, error) {
	now, err := t.Counter(index)
	if errors.Is(err, ErrNoIndex) {
		return t.DefineCounter(index)
	}
	return now, err
}

// powerCut loses a command.
type powerCut struct {
	Transport
	before uint32
}

func (p *powerCut) Send(c []byte) ([]byte, error) {
	if command(c) == p.before {
		return nil, errPower
	}
	return p.Transport.Send(c)
}

// TestCounterCut cuts the power in the middle of a definition: the next run completes it. It needs no TPM.
func TestCounterCut(t *testing.T) {
	const index = 0x01800001
	for _, before := range []uint32{ccNVReadPublic, ccNVDefineSpace, ccNVIncrement, ccNVRead} {
		s := newScripted(t, registers{crypto.SHA256: {7: value(crypto.SHA256, 7)}})
		s.cut = before
		tpm := New(s)
		_, err := count(tpm, index)
		require.ErrorIs(t, err, errPower)
		s.cut = 0
		if before == ccNVIncrement {
			_, err = tpm.Counter(index)
			require.ErrorIs(t, err, ErrNoIndex)
			require.ErrorContains(t, err, "sealing: counter 0x01800001 was defined and never raised")
			_, err = tpm.RaiseCounter(index, 5)
			require.ErrorIs(t, err, ErrNoIndex)
			_, err = tpm.Seal([]byte("secret"), Policy{Floor: &Floor{Index: index, Most: 5}}, Unlock{})
			require.ErrorIs(t, err, ErrNoIndex)
			require.NotContains(t, s.commands, uint32(ccCreate))
		}
		now, err := count(tpm, index)
		require.NoError(t, err, "0x%08x", before)
		require.EqualValues(t, 1, now)
		_, err = tpm.DefineCounter(index)
		require.ErrorIs(t, err, ErrCounterExists)
		now, err = tpm.RaiseCounter(index, 3)
		require.NoError(t, err)
		require.EqualValues(t, 3, now)
		require.NoError(t, tpm.RemoveCounter(index))
		_, err = tpm.Counter(index)
		require.ErrorIs(t, err, ErrNoIndex)
	}
	for _, foreign := range []uint32{0x017fffff, 0x01c00000, 0x81000001} {
		_, err := New(newScripted(t, registers{})).DefineCounter(foreign)
		require.ErrorContains(t, err, "want an index from 0x01800000 to 0x01bfffff")
	}
	// One that was cut off can be removed, and what is no counter of ours is left alone.
	s := newScripted(t, registers{})
	tpm := New(s)
	require.NoError(t, tpm.defineCounter(index))
	require.NoError(t, tpm.RemoveCounter(index))
	require.NoError(t, tpm.defineCounter(index))
	s.nv[index].public.Attributes |= policy.NVOrderly
	_, err := tpm.DefineCounter(index)
	require.ErrorIs(t, err, errNotCounter)
	require.ErrorIs(t, tpm.RemoveCounter(index), errNotCounter)
}

// TestCounterCutOfTPM is the same with a TPM whose power is cut.
func TestCounterCutOfTPM(t *testing.T) {
	t.Parallel()
	s := newTPM(t)
	const index = 0x01800001
	_, err := count(New(&powerCut{s.device, ccNVIncrement}), index)
	require.ErrorIs(t, err, errPower)
	s.powerCut(t)
	_, err = s.Counter(index)
	require.ErrorIs(t, err, ErrNoIndex)
	first, err := count(s.TPM, index)
	require.NoError(t, err)
	token, err := s.Seal([]byte("secret"), Policy{Floor: &Floor{index, first}}, Unlock{})
	require.NoError(t, err)
	// A counter that was removed and is being made anew has no value for a floor.
	require.NoError(t, s.RemoveCounter(index))
	require.NoError(t, s.defineCounter(index))
	_, err = s.Unseal(token, Unlock{})
	var policy *PolicyError
	require.ErrorAs(t, err, &policy)
	require.ErrorIs(t, err, ErrNoIndex)
}
