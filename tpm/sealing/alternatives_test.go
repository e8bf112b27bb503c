package sealing

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/tpm"
)

// state is what PCRs will be after some measurements.
func state(t *testing.T, pcrs []int, boot ...measured) map[int][]byte {
	t.Helper()
	log, err := tpm.ParseLog(eventLog(append([]measured{{0, "firmware"}}, boot...)))
	require.NoError(t, err)
	values, err := log.Values(crypto.SHA256)
	require.NoError(t, err)
	out := map[int][]byte{}
	for _, n := range pcrs {
		out[n] = values[n]
	}
	return out
}

func TestAlternatives(t *testing.T) {
	t.Parallel()
	s := newTPM(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	pcrs := []int{4, 7}
	boots := [][]measured{{{7, "secure boot"}}} // running
	for n := range 19 {
		boots = append(boots, []measured{{4, fmt.Sprint(n)}, {7, "secure boot"}})
	}
	for _, n := range []int{2, 3, 8, 9, 20} {
		p := Policy{PCRs: pcrs, Bank: crypto.SHA256, PublicKey: &key.PublicKey, PIN: "1"}
		for _, boot := range boots[:n] {
			p.Alternatives = append(p.Alternatives, state(t, pcrs, boot...))
		}
		s.reboot(t, boots[0]...)
		with := Unlock{PIN: "1", Signatures: s.signState(t, key, "")}
		token, err := s.Seal([]byte("secret"), p, with)
		require.NoError(t, err)
		text, err := token.MarshalJSON()
		require.NoError(t, err)
		require.Contains(t, string(text), `"type":"osmith-tpm2"`)
		token, err = ParseToken(text)
		require.NoError(t, err)
		for _, i := range []int{n - 1, n / 2} {
			s.reboot(t, boots[i]...)
			secret, err := s.Unseal(token, with)
			require.NoError(t, err, "%d of %d", i, n)
			require.Equal(t, "secret", string(secret))
		}
		s.extend(t, 4, []byte("another loader"))
		_, err = s.Unseal(token, with)
		var policy *PolicyError
		require.ErrorAs(t, err, &policy)
		assert.Equal(t, []int{4}, policy.PCRs)
	}
	_, err = s.Seal([]byte("secret"), Policy{PCRs: pcrs, Alternatives: []map[int][]byte{state(t, pcrs)}}, Unlock{})
	require.Error(t, err)
	_, err = s.Seal([]byte("secret"), Policy{PCRs: pcrs, Bank: crypto.SHA256, Alternatives: []map[int][]byte{state(t, pcrs), state(t, []int{4})}}, Unlock{})
	require.Error(t, err)
}

// TestReseal makes tokens for the systems that run, are staged and were before; they open the same
// slot.
func TestReseal(t *testing.T) {
	t.Parallel()
	s := newTPM(t)
	secret := (&Policy{}).NewSecret()
	old, err := s.Seal(secret, Policy{PCRs: []int{7}}, Unlock{})
	require.NoError(t, err)
	old.Keyslots = []int{1}
	boots := [][]measured{{{7, "running"}}, {{7, "staged"}}, {{7, "secure boot"}}}
	var policies []Policy
	for _, boot := range boots {
		policies = append(policies, Policy{Bank: crypto.SHA256, PCRs: []int{0, 7}, Values: state(t, []int{0, 7}, boot...)})
	}
	tokens, err := s.Reseal(old, Unlock{}, policies...)
	require.NoError(t, err)
	require.Len(t, tokens, 3)
	for i, boot := range boots {
		s.reboot(t, boot...)
		for j, token := range tokens {
			require.Equal(t, TokenType, token.Type())
			require.Equal(t, old.Keyslots, token.Keyslots)
			got, err := s.Unseal(token, Unlock{})
			if i != j {
				var policy *PolicyError
				require.ErrorAs(t, err, &policy)
				continue
			}
			require.NoError(t, err)
			require.Equal(t, secret, got)
		}
	}
	_, err = s.Reseal(tokens[0], Unlock{}, policies...)
	require.Error(t, err, "the machine is in another state")
}

func TestFloor(t *testing.T) {
	t.Parallel()
	s := newTPM(t)
	const index = 0x01800042
	_, err := s.Counter(index)
	require.ErrorIs(t, err, ErrNoIndex)
	_, err = s.DefineCounter(0x01000042)
	require.Error(t, err)
	first, err := s.DefineCounter(index)
	require.NoError(t, err)
	_, err = s.DefineCounter(index)
	require.Error(t, err, "there is one")

	old, err := s.Seal([]byte("old"), Policy{Floor: &Floor{index, first}}, Unlock{})
	require.NoError(t, err)
	fresh, err := s.Seal([]byte("new"), Policy{PCRs: []int{7}, Floor: &Floor{index, first + 2}}, Unlock{})
	require.NoError(t, err)
	text, err := fresh.MarshalJSON()
	require.NoError(t, err)
	fresh, err = ParseToken(text)
	require.NoError(t, err)
	require.Equal(t, OwnTokenType, fresh.Type())
	for _, token := range []*Token{old, fresh} {
		_, err := s.Unseal(token, Unlock{})
		require.NoError(t, err)
	}

	now, err := s.RaiseCounter(index, first+2)
	require.NoError(t, err)
	require.Equal(t, first+2, now)
	now, err = s.RaiseCounter(index, first)
	require.NoError(t, err)
	require.Equal(t, first+2, now, "never down")
	_, err = s.RaiseCounter(index, now+1001)
	require.Error(t, err)
	_, err = s.Unseal(old, Unlock{})
	require.ErrorIs(t, err, ErrFloor)
	_, err = s.Unseal(fresh, Unlock{})
	require.NoError(t, err)
	_, err = s.Seal([]byte("old"), Policy{Floor: &Floor{index, first}}, Unlock{})
	require.ErrorIs(t, err, ErrFloor, "the self test")

	require.NoError(t, s.RemoveCounter(index))
	_, err = s.Unseal(fresh, Unlock{})
	require.ErrorIs(t, err, ErrNoIndex)
	again, err := s.DefineCounter(index)
	require.NoError(t, err)
	require.Greater(t, again, now, "a counter does not start anew")
	_, err = s.Unseal(old, Unlock{})
	require.ErrorIs(t, err, ErrFloor)
}
