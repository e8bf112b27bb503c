package sealing

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	mathrand "math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// TestCheckAgreesWithTPM seals to random policies, moves the machine, takes things away, and asks
// both: what Check says of the state as the TPM reports it is what the TPM does. With less known, a
// yes and a no stay true.
func TestCheckAgreesWithTPM(t *testing.T) {
	t.Parallel()
	seed, rounds := uint64(1), 40
	if os.Getenv("OSMITH_LONG") != "" {
		seed, rounds = uint64(time.Now().UnixNano()), 400
	}
	t.Logf("seed %d", seed)
	g := &grid{simulator: newTPM(t), random: mathrand.New(mathrand.NewPCG(seed, 1))}
	var err error
	g.key, err = rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	g.floor, err = g.DefineCounter(0x01800001)
	require.NoError(t, err)
	chance := func(of int) bool { return g.random.IntN(of) == 0 }
	seen := map[Verdict]int{}
	for n := range rounds {
		p, moves := g.policy(t)
		with := Unlock{Signatures: g.signState(t, g.key, p.PublicKeyRef), PCRLock: p.PCRLock, PIN: p.PIN}
		token, err := g.Seal(p.NewSecret(), p, with)
		require.NoError(t, err)
		earlier := g.state(t, with)
		if token.Alternatives == nil && chance(2) { // as one of systemd's
			token.Values = nil
			if chance(2) {
				token.Bank, token.PrimaryAlgorithm = 0, ""
			}
		}
		if len(moves) > 0 && chance(2) {
			g.extend(t, moves[g.random.IntN(len(moves))], []byte(strconv.Itoa(n)))
		}
		switch g.random.IntN(8) {
		case 0:
			with.Signatures = policy.Signatures{}
		case 1:
			with.Signatures = g.signState(t, stranger, p.PublicKeyRef)
		case 2:
			with.Signatures = g.signState(t, g.key, p.PublicKeyRef+"x")
		case 3:
			// a vendor that has signed for this state, too
			with.Signatures = g.signState(t, g.key, p.PublicKeyRef)
		case 4:
			with.PIN = ""
		case 5:
			if p.Floor != nil {
				g.floor, err = g.RaiseCounter(p.Floor.Index, p.Floor.Most+uint64(g.random.IntN(2)))
				require.NoError(t, err)
			}
		}
		state := g.state(t, with)
		if chance(2) {
			state.Earlier = earlier.PCRs
		}
		_, err = g.Unseal(token, with)
		var mismatch *PolicyError
		require.True(t, err == nil || errors.As(err, &mismatch) || errors.Is(err, ErrNeedPIN), "%v", err)
		a, checkErr := token.Check(state)
		require.NoError(t, checkErr)
		want := VerdictOpens
		if err != nil {
			want = VerdictDoesNotOpen
		}
		require.Equal(t, want, a.Verdict, "%d: %+v: %v: %v", n, token, a.Reasons, err)
		if mismatch != nil && len(mismatch.PCRs) > 0 && token.Alternatives == nil {
			for _, pcr := range mismatch.PCRs {
				require.True(t, a.names(pcr), "%d: PCR %d: %v: %v", n, pcr, a.Reasons, err)
			}
		}
		for range 4 {
			less := state
			less.PCRs = map[crypto.Hash]map[int][]byte{}
			for _, h := range pcrbank.Hashes() {
				less.PCRs[h] = map[int][]byte{}
				for pcr, v := range state.PCRs[h] {
					if !chance(3) {
						less.PCRs[h][pcr] = v
					}
				}
			}
			if chance(3) {
				less.Signatures = nil
			}
			if chance(3) {
				less.PCRLock = nil
			}
			if chance(3) {
				less.Banks = nil
			}
			if chance(3) {
				less.Counters = nil
			}
			if a, err = token.Check(less); a.Verdict != VerdictUnknown {
				require.Equal(t, want, a.Verdict, "%d: %v", n, a.Reasons)
			}
			require.NoError(t, err)
			require.Equal(t, a.Verdict == VerdictOpens, len(a.Reasons) == 0)
			seen[a.Verdict]++
		}
		seen[want]++
	}
	for _, v := range []Verdict{VerdictUnknown, VerdictOpens, VerdictDoesNotOpen} {
		require.Greater(t, seen[v], rounds/8, "%v", v)
	}
}

// names reports whether a reason is about the PCR.
func (a *Answer) names(pcr int) bool {
	for _, r := range a.Reasons {
		for _, n := range r.PCRs {
			if n == pcr {
				return true
			}
		}
	}
	return false
}

// state is everything that Check may know of the TPM.
func (g *grid) state(t *testing.T, with Unlock) State {
	t.Helper()
	s := g.known(t, with)
	var err error
	s.Counters[0x01800001], err = g.Counter(0x01800001)
	require.NoError(t, err)
	return s
}

// known is what Check may know of a TPM without counters.
func (s *simulator) known(t *testing.T, with Unlock) State {
	t.Helper()
	out := State{PCRs: map[crypto.Hash]map[int][]byte{}, Signatures: with.Signatures, PCRLock: with.PCRLock, PIN: with.PIN != "", Counters: map[uint32]uint64{}}
	var err error
	out.Banks, err = s.Banks()
	require.NoError(t, err)
	for _, h := range out.Banks {
		out.PCRs[h], err = s.PCRs(h)
		require.NoError(t, err)
	}
	return out
}

// checks has Check say that a token opens, and that it does not when PCRs 0 to 15 are others.
func (s *simulator) checks(t *testing.T, token *Token, with Unlock) {
	t.Helper()
	state := s.known(t, with)
	a, err := token.Check(state)
	require.NoError(t, err)
	require.Equal(t, VerdictOpens, a.Verdict, "%v", a.Reasons)
	for _, values := range state.PCRs {
		for n := range values {
			values[n][0] ^= 0x80
		}
	}
	a, err = token.Check(state)
	require.NoError(t, err)
	want := VerdictOpens
	if len(token.allPCRs()) > 0 || token.PCRLock {
		want = VerdictDoesNotOpen
	}
	require.Equal(t, want, a.Verdict, "%v", a.Reasons)
}
