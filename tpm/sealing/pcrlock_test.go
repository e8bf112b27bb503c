package sealing

import (
	"crypto/sha256"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/tpm/policy"
)

// makePolicy has systemd-pcrlock write a policy that allows what simulators measure, and another
// PCR 7.
func (v *volume) makePolicy(t *testing.T) *policy.PCRLock {
	t.Helper()
	component := func(pcr int, data string) []byte {
		return fmt.Appendf(nil, `{"records":[{"pcr":%d,"digests":[{"hashAlg":"sha256","digest":"%x"}]}]}`, pcr, sha256.Sum256([]byte(data)))
	}
	require.NoError(t, os.MkdirAll(v.path("components/200-variables.pcrlock.d"), 0o700))
	v.write(t, "components/100-firmware.pcrlock", component(0, "firmware"))
	v.write(t, "components/200-variables.pcrlock.d/now.pcrlock", component(7, "secure boot"))
	v.write(t, "components/200-variables.pcrlock.d/next.pcrlock", component(7, "secure boot, next"))
	v.write(t, "firmware.log", eventLog([]measured{{0, "firmware"}, {7, "secure boot"}}))
	out, err := v.systemd(t, "", "env", "SYSTEMD_MEASURE_LOG_FIRMWARE="+v.path("firmware.log"), "SYSTEMD_MEASURE_LOG_USERSPACE=/dev/null",
		"systemd-pcrlock", "make-policy", "--components="+v.path("components"), "--location=900", "--policy="+v.path("pcrlock.json"))
	require.NoError(t, err)
	text, err := os.ReadFile(v.path("pcrlock.json"))
	require.NoError(t, err, out)
	lock, err := policy.ParsePCRLock(text)
	require.NoError(t, err)
	return lock
}

// TestPCRLock unseals what systemd-cryptenroll sealed to a policy of systemd-pcrlock, alone and
// with a signed policy, and the other way round.
func TestPCRLock(t *testing.T) {
	t.Parallel()
	for _, root := range []func(testing.TB) testtools.Root{testtools.Trixie, testtools.Forky} {
		root := root(t)
		t.Run(root.Name, func(t *testing.T) {
			t.Parallel()
			testPCRLock(t, root)
		})
	}
}

func testPCRLock(t *testing.T, root testtools.Root) {
	v := newVolume(t, root)
	direct := "--tpm2-with-pin=direct"
	if root.Name == "trixie" {
		direct = "--tpm2-with-pin=yes" // the same; there was no other way
	}
	lock := v.makePolicy(t)
	require.Len(t, lock.Values[7], 2)
	device := "--tpm2-device=" + v.device()
	with := Unlock{PCRLock: lock, Signatures: v.sign(t, ""), PIN: "1234"}
	for _, args := range [][]string{
		{"--tpm2-pcrlock=" + v.path("pcrlock.json"), device},
		{"--tpm2-pcrlock=" + v.path("pcrlock.json"), device, "--tpm2-public-key=" + v.path("pcr.pub")},
		{"--tpm2-pcrlock=" + v.path("pcrlock.json"), device, "--tpm2-public-key=" + v.path("pcr.pub"), direct},
	} {
		raw := v.enroll(t, "1234", args...)
		token, err := ParseToken(raw)
		require.NoError(t, err, "%s", raw)
		require.True(t, token.PCRLock)
		require.Len(t, token.Blobs, min(2, len(args)-1))
		again, err := token.MarshalJSON()
		require.NoError(t, err)
		require.JSONEq(t, string(raw), string(again))
		secret, err := v.Unseal(token, with)
		require.NoError(t, err, "%s", raw)
		v.opens(t, secret, token.Keyslots[0])
		v.checks(t, token, with)
		token.PCRLockNV = nil // as in a token of systemd 255
		v.checks(t, token, with)
		old, err := v.Unseal(token, with)
		require.NoError(t, err)
		require.Equal(t, secret, old)
		_, err = v.Unseal(token, Unlock{Signatures: with.Signatures, PIN: "1234"})
		require.ErrorIs(t, err, errNoPCRLock)
	}

	for name, p := range map[string]Policy{
		"pcrlock":              {PCRLock: lock},
		"pcrlock, signed, PIN": {PCRLock: lock, PublicKey: &v.key.PublicKey, PIN: "1234"},
	} {
		w := &volume{simulator: v.simulator, root: v.root, dir: t.TempDir(), key: v.key}
		w.format(t)
		text, err := os.ReadFile(v.path("pcrlock.json"))
		require.NoError(t, err)
		w.write(t, "pcrlock.json", text)
		w.sign(t, "")
		secret := p.NewSecret()
		token, err := w.Seal(secret, p, with)
		require.NoError(t, err, name)
		token.Keyslots = []int{1}
		w.add(t, token, secret)
		_, err = w.systemd(t, p.PIN, "systemd-cryptenroll", "--unlock-tpm2-device="+w.device(), "--recovery-key", w.path("vol"))
		require.NoError(t, err, name)
		require.Len(t, w.tokens(t), 2, name)
	}

	token, err := v.Seal([]byte("secret"), Policy{PCRLock: lock}, with)
	require.NoError(t, err)
	v.extend(t, 7, []byte("more"))
	_, err = v.Unseal(token, with)
	var policy *PolicyError
	require.ErrorAs(t, err, &policy)
	assert.Equal(t, []int{7}, policy.PCRs)
}
