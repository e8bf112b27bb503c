package sealing

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	mathrand "math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// TestGrid seals to random policies of everything that there is: the TPM comes to the digests that
// were computed without it, and after one of the PCRs has moved to others.
func TestGrid(t *testing.T) {
	t.Parallel()
	seed, rounds := uint64(1), 40
	if os.Getenv("OSMITH_LONG") != "" {
		seed, rounds = uint64(time.Now().UnixNano()), 400
	}
	t.Logf("seed %d", seed)
	g := &grid{simulator: newTPM(t), random: mathrand.New(mathrand.NewPCG(seed, 0))}
	var err error
	g.key, err = rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	g.floor, err = g.DefineCounter(0x01800001)
	require.NoError(t, err)
	for n := range rounds {
		p, moves := g.policy(t)
		with := Unlock{Signatures: g.signState(t, g.key, p.PublicKeyRef), PCRLock: p.PCRLock, PIN: p.PIN}
		secret := p.NewSecret()
		token, err := g.Seal(secret, p, with)
		require.NoError(t, err, "%d: %+v", n, p)
		text, err := token.MarshalJSON()
		require.NoError(t, err)
		token, err = ParseToken(text)
		require.NoError(t, err)
		for range 2 {
			got, err := g.Unseal(token, with)
			require.NoError(t, err, "%d: %+v", n, p)
			require.Equal(t, secret, got)
		}
		if len(moves) > 0 {
			g.extend(t, moves[g.random.IntN(len(moves))], []byte(strconv.Itoa(n)))
			_, err = g.Unseal(token, with)
			var mismatch *PolicyError
			require.ErrorAs(t, err, &mismatch, "%d: %+v", n, p)
		}
	}
}

type grid struct {
	*simulator
	random *mathrand.Rand
	key    *rsa.PrivateKey
	floor  uint64
}

// policy is a policy that holds, and the PCRs that it is about.
func (g *grid) policy(t *testing.T) (p Policy, moves []int) {
	t.Helper()
	chance := func() bool { return g.random.IntN(2) == 0 }
	p.Bank = []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512}[g.random.IntN(4)]
	if chance() {
		p.PCRs = g.some()
		if chance() {
			p.Alternatives = g.alternatives(t, p)
		}
	}
	moves = slices.Clone(p.PCRs)
	if chance() {
		p.PublicKey = &g.key.PublicKey
		p.PublicKeyRef = []string{"", "initrd"}[g.random.IntN(2)]
		moves = append(moves, tpm.PCRKernel)
	}
	if chance() {
		p.PIN = strconv.Itoa(g.random.IntN(1e6))
	}
	if chance() {
		p.Floor = &Floor{0x01800001, g.floor + uint64(g.random.IntN(3))}
	}
	if g.random.IntN(3) == 0 {
		p.PCRLock = g.lock(t)
		for n := range p.PCRLock.Values {
			moves = append(moves, n)
		}
	}
	return p, moves
}

// some are PCRs, at least one.
func (g *grid) some() (pcrs []int) {
	for len(pcrs) == 0 {
		for n := range 16 {
			if n != 10 && g.random.IntN(4) == 0 {
				pcrs = append(pcrs, n)
			}
		}
	}
	return pcrs
}

// alternatives are sets of values, one of which is the present one.
func (g *grid) alternatives(t *testing.T, p Policy) []map[int][]byte {
	t.Helper()
	now, err := g.PCRs(p.Bank, p.PCRs...)
	require.NoError(t, err)
	sets := make([]map[int][]byte, 2+g.random.IntN(20))
	for i := range sets {
		sets[i] = map[int][]byte{}
		for _, n := range p.PCRs {
			sets[i][n] = g.value(p.Bank)
		}
	}
	sets[g.random.IntN(len(sets))] = now
	return sets
}

func (g *grid) value(bank crypto.Hash) []byte {
	b := make([]byte, bank.Size())
	for i := range b {
		b[i] = byte(g.random.Uint32())
	}
	return b
}

// lock is a policy as of systemd-pcrlock, in an NV index that is written here.
func (g *grid) lock(t *testing.T) *policy.PCRLock {
	t.Helper()
	const index = 0x01800002
	lock := &policy.PCRLock{Bank: crypto.SHA256, NVIndex: index, Values: map[int][][]byte{}}
	for _, n := range g.some() {
		now, err := g.PCRs(lock.Bank, n)
		require.NoError(t, err)
		values := [][]byte{now[n]}
		for range g.random.IntN(4) {
			values = append(values, g.value(lock.Bank))
		}
		g.random.Shuffle(len(values), func(i, j int) { values[i], values[j] = values[j], values[i] })
		lock.Values[n] = values
	}
	digest, err := lock.Digest()
	require.NoError(t, err)
	contents := policy.ApprovedPolicy(digest)
	// The index is written under a policy that is easy to satisfy.
	calculator, err := tpm2.NewPolicyCalculator(tpm2.TPMAlgSHA256)
	require.NoError(t, err)
	require.NoError(t, tpm2.PolicyCommandCode{Code: tpm2.TPMCCNVWrite}.Update(calculator))
	n, err := g.readNV(index)
	if err != nil {
		require.ErrorIs(t, err, ErrNoIndex)
		_, err = execute(g.TPM, tpm2.NVDefineSpace{AuthHandle: tpm2.TPMRHOwner, PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
			NVIndex: index, NameAlg: tpm2.TPMAlgSHA256, Attributes: tpm2.TPMANV{PolicyWrite: true, OwnerRead: true},
			AuthPolicy: tpm2.TPM2BDigest{Buffer: calculator.Hash().Digest}, DataSize: uint16(len(contents)),
		})})
		require.NoError(t, err)
		n, err = g.readNV(index)
		require.NoError(t, err)
		_, err = g.Seal(make([]byte, 64), Policy{PCRLock: lock}, Unlock{})
		require.ErrorIs(t, err, ErrNotSupported, "not written yet")
	}
	session := tpm2.Policy(tpm2.TPMAlgSHA256, nonceSize, func(to transport.TPM, s tpm2.TPMISHPolicy, _ tpm2.TPM2BNonce) error {
		_, err := tpm2.PolicyCommandCode{PolicySession: s, Code: tpm2.TPMCCNVWrite}.Execute(to)
		return err
	})
	_, err = execute(g.TPM, tpm2.NVWrite{
		AuthHandle: tpm2.AuthHandle{Handle: n.handle, Name: n.named().Name, Auth: session}, NVIndex: n.named(),
		Data: tpm2.TPM2BMaxNVBuffer{Buffer: contents},
	})
	require.NoError(t, err)
	return lock
}
