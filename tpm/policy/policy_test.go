package policy_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/swtpm"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// testKey is made once; its signatures are only compared with each other.
var testKey = func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
}()

// goldenStates are those of a UKI with these sections, of which systemd-measure 262 printed the
// policies below.
func goldenStates(t testing.TB, banks []crypto.Hash, paths [][]string) []map[crypto.Hash]map[int][]byte {
	t.Helper()
	var ms []osmith.Measurement
	for _, s := range [][2]string{{".linux", "kernel"}, {".osrel", "ID=test\nVERSION_ID=1\n"}, {".cmdline", "quiet ro"}, {".initrd", "\x00\x00\x00"}} {
		m := osmith.Measurement{Section: s[0], Size: int64(len(s[1])), Digests: map[crypto.Hash][]byte{}}
		for _, h := range tpm.Banks() {
			m.Digests[h] = pcrbank.Sum(h, []byte(s[1]))
		}
		ms = append(ms, m)
	}
	states, err := tpm.PCR11States(ms, banks, paths)
	require.NoError(t, err)
	return states
}

func value(b ...byte) []byte {
	digest := sha256.Sum256(b)
	return digest[:]
}

func TestPolicyPCRGolden(t *testing.T) {
	for bank, want := range map[crypto.Hash]string{
		crypto.SHA256: "b162986d4e896d9b209de8d3df8f0fdf6e6387f6697ba4fbf6d484fe3ba81728",
		crypto.SHA384: "4e704826970b50bb468b50f9d2f6b46771b8b55ca9522c95b3e90b979d638305",
	} {
		state := goldenStates(t, nil, [][]string{{tpm.PhaseEnterInitrd}})[0]
		d, err := policy.PolicyPCR(policy.Digest{}, bank, state[bank])
		require.NoError(t, err)
		assert.Equal(t, want, d.String())
		assert.Equal(t, want+"09e6c018d2c8c4903308613dd1b72484d57eadf12ec50ddc8f52e5accce470f2",
			hex.EncodeToString(policy.PCRPolicy{Digest: d, Ref: "initrd"}.TBS()))
	}
	for want, values := range map[string]map[int][]byte{
		"policy: PolicyPCR: no PCRs selected":                              {},
		"policy: PolicyPCR: PCR 24: want 0 to 23":                          {24: value()},
		"policy: PolicyPCR: PCR 7: a value of 1 bytes, want 32 for sha256": {7: {1}},
		"policy: PolicyPCR: PCR -1: want 0 to 23":                          {-1: value()},
		"policy: PolicyPCR: PCR 0: a value of 0 bytes, want 32 for sha256": {0: nil},
	} {
		_, err := policy.PolicyPCR(policy.Digest{}, crypto.SHA256, values)
		assert.EqualError(t, err, want)
	}
	_, err := policy.PolicyPCR(policy.Digest{}, crypto.MD5, map[int][]byte{7: value()})
	assert.EqualError(t, err, "policy: bank MD5: not a PCR bank that is known here")
	assert.ErrorIs(t, err, tpm.ErrBank)
}

func TestTree(t *testing.T) {
	for _, n := range []int{1, 2, 8, 9, 10, 64, 65, 100} {
		leaves := make([]policy.Digest, n)
		for i := range leaves {
			leaves[i] = policy.Digest{byte(i), 1}
		}
		tree, err := policy.NewTree(leaves...)
		require.NoError(t, err)
		for i := range leaves {
			path, err := tree.Path(i)
			require.NoError(t, err)
			d := leaves[i]
			for _, branches := range path {
				require.Contains(t, branches, d, "what the session has is a branch")
				d, err = policy.PolicyOR(branches...)
				require.NoError(t, err)
			}
			require.Equal(t, tree.Digest(), d)
		}
		_, err = tree.Path(n)
		assert.Error(t, err)
		_, err = tree.Path(-1)
		assert.Error(t, err)
	}
	_, err := policy.NewTree()
	assert.EqualError(t, err, "policy: PolicyOR: no policies")
	_, err = policy.PolicyOR(policy.Digest{})
	assert.EqualError(t, err, "policy: PolicyOR: 1 branches: want 2 to 8")
}

func TestAnyState(t *testing.T) {
	states := []map[int][]byte{{7: value(1)}, {7: value(2)}, {7: value(3)}}
	start := policy.Digest{1}
	tree, err := policy.AnyState(start, crypto.SHA256, states)
	require.NoError(t, err)
	path, err := tree.Path(2)
	require.NoError(t, err)
	require.Len(t, path, 1)
	for i, state := range states {
		want, err := policy.PolicyPCR(start, crypto.SHA256, state)
		require.NoError(t, err)
		assert.Equal(t, want, path[0][i], "in the order of the states")
	}
	_, err = policy.AnyState(start, crypto.SHA256, append(states, nil))
	assert.EqualError(t, err, "policy: state 3: PolicyPCR: no PCRs selected")
	_, err = policy.AnyState(start, crypto.SHA256, nil)
	assert.EqualError(t, err, "policy: PolicyOR: no policies")
}

// Names that are none are refused by every command that takes one.
func TestNames(t *testing.T) {
	for command, f := range map[string]func([]byte) error{
		"PolicyAuthorizeNV": func(n []byte) error { _, err := policy.PolicyAuthorizeNV(n); return err },
		"PolicyNV": func(n []byte) error {
			_, err := policy.PolicyNV(policy.Digest{}, n, []byte{1}, 0, policy.ComparisonEqual)
			return err
		},
	} {
		for _, bad := range [][]byte{nil, {1, 2, 3}, make([]byte, 34), {0, 0x0b, 1}} {
			assert.ErrorContains(t, f(bad), "policy: "+command+": a name of ")
		}
		assert.NoError(t, f(append([]byte{0, 0x0b}, make([]byte, 32)...)), command)
	}
	_, err := policy.PolicyNV(policy.Digest{}, append([]byte{0, 0x0b}, make([]byte, 32)...), nil, 0, policy.ComparisonEqual)
	assert.ErrorContains(t, err, "operand of 0 bytes")
	_, err = policy.NVPublic{Index: 1}.Name()
	assert.ErrorContains(t, err, "want 0x01000000")
	_, err = policy.ObjectName([]byte{0, 1})
	assert.EqualError(t, err, "policy: TPM public area at 0x2: the input ends inside it")
	_, err = policy.ObjectName([]byte{0, 1, 0, 0})
	assert.ErrorIs(t, err, policy.ErrBank)
	_, err = policy.ParseApprovedPolicy([]byte{0, 0x0b})
	assert.Error(t, err)
	d, err := policy.ParseApprovedPolicy(policy.ApprovedPolicy(policy.Digest{1}))
	require.NoError(t, err)
	assert.Equal(t, policy.Digest{1}, d)
}

func TestPublicKey(t *testing.T) {
	text, err := policy.MarshalPublicKey(&testKey.PublicKey)
	require.NoError(t, err)
	key, err := policy.ParsePublicKey(text)
	require.NoError(t, err)
	assert.Equal(t, &testKey.PublicKey, key)
	_, err = policy.ParsePublicKey([]byte("key"))
	assert.EqualError(t, err, "policy: PCR signing key: want a PEM block PUBLIC KEY")
	_, err = policy.ParsePublicKey([]byte("-----BEGIN PUBLIC KEY-----\nMDA=\n-----END PUBLIC KEY-----\n"))
	assert.ErrorContains(t, err, "policy: PCR signing key: ")
	_, err = policy.MarshalPublicKey(&rsa.PublicKey{N: testKey.N, E: 3})
	assert.EqualError(t, err, "policy: PCR signing key: exponent 3: not an RSA key with exponent 65537")
	_, err = policy.KeyName(nil)
	assert.ErrorIs(t, err, policy.ErrKey)
}

// FuzzParseNVPublic: what is read is written back as it was.
func FuzzParseNVPublic(f *testing.F) {
	b, err := policy.NVPublic{Index: 0x1800001, Attributes: policy.NVCounter, Policy: make([]byte, 32), Size: 8}.AppendBinary(nil)
	require.NoError(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := policy.ParseNVPublic(raw)
		if err != nil {
			require.Zero(t, p)
			return
		}
		b, err := p.AppendBinary(nil)
		require.NoError(t, err)
		require.True(t, bytes.Equal(raw, b))
	})
}

func read(t testing.TB, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	require.NoError(t, err)
	return b
}

func policyOf(t *testing.T, chip transport.TPM, session tpm2.Session) []byte {
	t.Helper()
	d, err := tpm2.PolicyGetDigest{PolicySession: session.Handle()}.Execute(chip)
	require.NoError(t, err)
	return d.PolicyDigest.Buffer
}

func tpmAlg(t *testing.T, h crypto.Hash) tpm2.TPMAlgID {
	t.Helper()
	a, ok := pcrbank.ByHash(h)
	require.True(t, ok)
	return tpm2.TPMAlgID(a.ID)
}

// startTPM runs a software TPM for the test.
func startTPM(t *testing.T) transport.TPM {
	t.Helper()
	conn, err := net.Dial("unix", swtpm.Start(t).Socket)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return transport.FromReadWriter(conn)
}
