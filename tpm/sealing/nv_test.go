package sealing

import (
	"bytes"
	"crypto"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/tpmwire"
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

// TestCounterCut cuts the power in the middle of a definition: the next run completes it. It needs
// no TPM.
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
			require.ErrorContains(t, err, "sealing: counter 0x01800001 was defined but never raised, as after a power cut: call DefineCounter again")
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
	s.nv[index].public.Attributes &^= policy.NVOrderly
	s.nv[index].public.Policy = value(crypto.SHA256, 1)
	_, err = tpm.DefineCounter(index)
	require.ErrorIs(t, err, errNotCounter)

	// A value that is none.
	delete(s.nv, index)
	_, err = tpm.DefineCounter(index)
	require.NoError(t, err)
	_, err = New(cutting{s}).Counter(index)
	require.ErrorIs(t, err, ErrResponse)
}

// cutting takes a byte from the value of a counter.
type cutting struct{ Transport }

func (c cutting) Send(cmd []byte) ([]byte, error) {
	if command(cmd) == ccNVRead {
		return passed(tpmwire.AppendSized(nil, make([]byte, counterSize-1))...), nil
	}
	return c.Transport.Send(cmd)
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

// TestFloorAnswers are what a TPM may say of a counter that a secret is bound to.
func TestFloorAnswers(t *testing.T) {
	index := storedIndex(t, nil)
	floor := notAbove{index, 5}
	for code, want := range map[uint32]error{0x0126: ErrFloor, rcHandle: ErrNoIndex, rcNVUninitialized: ErrNoIndex, rcCommandCode: tpm2.TPMRCCommandCode} {
		err := floor.satisfy(New(deaf(reply(code))), &attempt{session: &saltedSession{}})
		require.ErrorIs(t, err, want, "0x%04x", code)
		var policy *PolicyError
		require.Equal(t, code != rcCommandCode, errors.As(err, &policy))
	}
	require.NoError(t, floor.satisfy(New(deaf(passed(0, 0, 0, 0, 0, 0, 0, 0))), &attempt{session: &saltedSession{}}))
}

// storedIndex is an NV index as a token has it.
func storedIndex(t testing.TB, change func(*policy.NVPublic)) *nvIndex {
	t.Helper()
	public := policy.NVPublic{Index: 0x01800001, Attributes: counterAttributes | policy.NVWritten, Size: counterSize}
	if change != nil {
		change(&public)
	}
	area, err := public.AppendBinary(nil)
	require.NoError(t, err)
	n, err := newNVIndex(area)
	require.NoError(t, err)
	return n
}

func TestStoredIndex(t *testing.T) {
	good := storedIndex(t, nil)
	n, err := parseNV("x", good.serialize())
	require.NoError(t, err)
	require.Equal(t, good, n)
	area := tpm2.Marshal(good.public)
	other := storedIndex(t, func(p *policy.NVPublic) { p.Index++ })
	sha1 := good.public
	sha1.NameAlg = tpm2.TPMAlgSHA1
	key := good.public
	key.NVIndex = 0x81000001
	for want, r := range map[string]resource{
		"kind":                          {handle: 0x01800001, name: good.name, kind: resourceKey, public: area},
		"0x01800001 in its public area": {handle: 0x01800002, name: good.name, kind: resourceNV, public: area},
		"the name does not match the public area": {handle: 0x01800001, name: other.name, kind: resourceNV, public: area},
		"want SHA-256":                          {handle: 0x01800001, name: good.name, kind: resourceNV, public: tpm2.Marshal(sha1)},
		"want 0x01000000 to 0x01ffffff":         {handle: 0x81000001, name: good.name, kind: resourceNV, public: tpm2.Marshal(key)},
		"x: 0x01800001 at 0x0: not in the form": {handle: 0x01800001, name: good.name, kind: resourceNV, public: append(bytes.Clone(area), 0)},
		"x: 0x01800001":                         {handle: 0x01800001, name: good.name, kind: resourceNV, public: area[:4]},
	} {
		_, err := parseNV("x", r.bytes())
		require.ErrorContains(t, err, want)
		require.ErrorAs(t, err, new(*osmith.FormatError), want)
	}
	_, err = parseNV("x", good.serialize()[:10])
	require.ErrorAs(t, err, new(*osmith.FormatError))
	// A TPM that answers for another index.
	s := newScripted(t, registers{})
	s.nv[0x01800001] = &scriptedNV{public: policy.NVPublic{Index: 0x01800009, Attributes: counterAttributes, Size: counterSize}}
	_, err = New(s).readNV(0x01800001)
	require.ErrorIs(t, err, ErrResponse)
	_, err = New(s).readNV(0x01800002)
	require.ErrorIs(t, err, ErrNoIndex)
}
