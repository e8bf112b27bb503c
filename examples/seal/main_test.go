package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/internal/swtpm"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/tpm/sealing"
)

// bench is a TPM and a directory with the secret of the test.
type bench struct {
	*swtpm.TPM
	dir string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{swtpm.Start(t), t.TempDir()}
	b.Extend(t, 0, []byte("firmware"))
	b.Extend(t, 7, []byte("secure boot"))
	b.write(t, "secret", []byte("a secret"))
	return b
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bench) write(t *testing.T, name string, data []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(b.path(name), data, 0o600))
}

// run calls a verb with the TPM and, as standard input, a PIN.
func (b *bench) run(t *testing.T, pin, verb string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	stdin = strings.NewReader(pin + "\n")
	var out, err bytes.Buffer
	status = program.Run(context.Background(), append([]string{verb, "-tpm", "swtpm:" + b.Socket}, args...), &out, &err)
	return status, out.String(), err.String()
}

func (b *bench) ok(t *testing.T, pin, verb string, args ...string) string {
	t.Helper()
	status, stdout, stderr := b.run(t, pin, verb, args...)
	require.Zero(t, status, stderr)
	require.Empty(t, stderr)
	return stdout
}

// no is a negative answer, and what it says.
func (b *bench) no(t *testing.T, pin, verb string, args ...string) string {
	t.Helper()
	status, _, stderr := b.run(t, pin, verb, args...)
	require.Equal(t, 1, status, stderr)
	return stderr
}

func object(t *testing.T, text string, into any) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	require.NoError(t, dec.Decode(into), text)
	require.False(t, dec.More(), "one object")
}

// signature signs PCR 11 as it is at present.
func (b *bench) signature(t *testing.T, key *rsa.PrivateKey) {
	t.Helper()
	device, err := sealing.Open("swtpm:" + b.Socket)
	require.NoError(t, err)
	defer device.Close()
	pcrs, err := sealing.New(device).PCRs(crypto.SHA256, 11)
	require.NoError(t, err)
	digest, err := policy.PolicyPCR(policy.Digest{}, crypto.SHA256, pcrs)
	require.NoError(t, err)
	fingerprint, err := policy.Fingerprint(&key.PublicKey)
	require.NoError(t, err)
	signatures, err := policy.PCRPolicies{{Bank: crypto.SHA256, PCRs: []int{11}, Fingerprint: fingerprint, Digest: digest}}.Sign(key)
	require.NoError(t, err)
	text, err := signatures.MarshalJSON()
	require.NoError(t, err)
	b.write(t, "pcrsig.json", text)
}

func TestSealAndUnseal(t *testing.T) {
	b := newBench(t)
	token, out := b.path("token.json"), b.path("out")
	text := b.ok(t, "", "seal", "-secret", b.path("secret"), "-pcrs", "7,0", "-keyslot", "2", "-o", token)
	require.Contains(t, text, "type: systemd-tpm2\nbank: sha256\nPCRs: [0 7]\nPIN: false\npolicy: ")
	require.Equal(t, "a secret", b.ok(t, "", "unseal", token))
	require.Empty(t, b.ok(t, "", "unseal", token, "--o", out))
	got, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, "a secret", string(got))
	info, err := os.Stat(out)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	var r unsealResult
	object(t, b.ok(t, "", "unseal", "-json", "-passphrase", token), &r)
	secret, err := base64.StdEncoding.DecodeString(r.Secret)
	require.NoError(t, err)
	require.Equal(t, string(sealing.Passphrase([]byte("a secret"))), string(secret))
	require.Equal(t, schema, r.Schema)

	var sealed struct {
		Values map[string]string `json:"osmith_pcr_values"`
	}
	raw, err := os.ReadFile(token)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(raw, &sealed))
	check := func(status int, pcrs string) (c checkResult) {
		var out, stderr bytes.Buffer
		require.Equal(t, status, program.Run(context.Background(), []string{"check", "-json", token, "-pcr", pcrs}, &out, &stderr), stderr.String())
		object(t, out.String(), &c)
		return c
	}
	require.Equal(t, sealing.VerdictOpens, check(0, "0="+sealed.Values["0"]+",7="+sealed.Values["7"]).Verdict)
	reason := check(1, "0="+sealed.Values["0"]+",7="+sealed.Values["0"]).Tokens[0].Reasons[0]
	require.Equal(t, []string{sealed.Values["7"]}, reason.Want)
	require.Equal(t, sealed.Values["0"], reason.Got)

	b.Extend(t, 7, []byte("dbx"))
	require.Contains(t, b.no(t, "", "unseal", token), "sha256 PCR 7 is ")
	require.Contains(t, b.no(t, "", "seal", "-secret", b.path("secret"), "-pcrs", "7", "-bank", "sha512", "-o", b.path("t2")), "all zero")
	_, err = os.Stat(b.path("t2"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestSigned(t *testing.T) {
	b := newBench(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	require.NoError(t, err)
	b.write(t, "pcr.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	b.signature(t, key)
	token, sig := b.path("token.json"), b.path("pcrsig.json")
	var r sealResult
	object(t, b.ok(t, "1234", "seal", "-json", "-secret", b.path("secret"), "-public-key", b.path("pcr.pub"), "-signature", sig, "-pin", "-o", token), &r)
	require.Equal(t, []int{11}, r.Token.SignedPCRs)
	require.True(t, r.Token.PIN)
	require.Equal(t, "a secret", b.ok(t, "1234", "unseal", "-signature", sig, "-pin", token))
	require.Contains(t, b.no(t, "4321", "unseal", "-signature", sig, "-pin", token), "wrong PIN")
	require.Contains(t, b.no(t, "", "unseal", "-signature", sig, token), "a PIN is required")
	require.Contains(t, b.no(t, "1234", "unseal", "-pin", token), "no signature")
	b.Extend(t, 11, []byte("leave-initrd"))
	require.Contains(t, b.no(t, "1234", "unseal", "-pin", "-signature", sig, token), "no signature")
}

func TestStatus(t *testing.T) {
	b := newBench(t)
	var r statusResult
	object(t, b.ok(t, "", "status", "-json"), &r)
	require.Len(t, r.Banks, 4)
	require.Equal(t, bankObject{Name: "sha256", Usable: true}, r.Banks[1])
	require.False(t, r.Banks[3].Usable)
	require.False(t, r.Lockout.Locked)
	require.EqualValues(t, 3, r.Lockout.Most)

	token := b.path("token.json")
	b.ok(t, "1", "seal", "-secret", b.path("secret"), "-pin", "-o", token)
	require.Contains(t, b.ok(t, "", "status", token), "PIN: true")
	for range 3 {
		b.no(t, "2", "unseal", "-pin", token)
	}
	require.Contains(t, b.no(t, "1", "unseal", "-pin", token), "locked out after 3 of 3")
	object(t, b.ok(t, "", "status", "-json"), &r)
	require.True(t, r.Lockout.Locked)
	require.EqualValues(t, 1000, r.Lockout.Wait)

	other := newBench(t)
	require.Contains(t, other.no(t, "", "status", token), "the TPM lacks the storage key")
}

// TestSealForSets seals for the set that runs and one that is staged; the answer names what
// differs.
func TestSealForSets(t *testing.T) {
	b := newBench(t)
	token, log := b.path("token.json"), b.Boot(t, swtpm.Event{PCR: 0, Data: "firmware"}, swtpm.Event{PCR: 7, Data: "secure boot"})
	var now struct {
		PCRs map[string]map[string]string `json:"pcrs"`
	}
	device, err := sealing.Open("swtpm:" + b.Socket)
	require.NoError(t, err)
	values, err := sealing.New(device).PCRs(crypto.SHA256)
	require.NoError(t, err)
	require.NoError(t, device.Close())
	now.PCRs = map[string]map[string]string{"sha256": {}}
	for n, v := range values {
		now.PCRs["sha256"][strconv.Itoa(n)] = hex.EncodeToString(v)
	}
	now.PCRs["sha256"]["4"] = strings.Repeat("44", 32)
	staged, err := json.Marshal(now)
	require.NoError(t, err)
	b.write(t, "staged.json", staged)
	var r struct {
		cli.Header
		Token  tokenResult `json:"token"`
		File   string      `json:"file"`
		States struct {
			Bank   string `json:"bank"`
			PCRs   []int  `json:"pcrs"`
			States []struct {
				Names   []string          `json:"names"`
				Values  map[string]string `json:"values"`
				Differs []int             `json:"differs"`
			} `json:"states"`
		} `json:"states"`
	}
	seal := []string{"-secret", b.path("secret"), "-pcrs", "4,7", "-bank", "sha256", "-o", token, "-for", "running=now"}
	object(t, b.ok(t, "", "seal", append(seal, "-json", "-for", "staged="+b.path("staged.json"))...), &r)
	require.Equal(t, 2, r.Token.Alternatives)
	require.Len(t, r.States.States, 2)
	require.Equal(t, []string{"staged"}, r.States.States[1].Names)
	require.Equal(t, []int{4}, r.States.States[1].Differs)
	require.Equal(t, "a secret", b.ok(t, "", "unseal", token))
	check := func(status int, pcrs ...string) string {
		var out, stderr bytes.Buffer
		require.Equal(t, status, program.Run(t.Context(), append([]string{"check", token}, pcrs...), &out, &stderr), stderr.String())
		return out.String()
	}
	check(0, "-pcrs", b.path("staged.json"))
	require.Contains(t, check(1, "-pcrs", b.path("staged.json"), "-pcr", "4="+strings.Repeat("45", 32)), "sha256 PCR 4 is 4545")

	// One state is a token for systemd.
	text := b.ok(t, "", "seal", append(seal, "-for", "again=now")...)
	require.Contains(t, text, "type: systemd-tpm2\n")
	require.Contains(t, text, "1 state of the sha256 PCRs [4 7]\n1: running, again\n")

	b.write(t, "log", log)
	b.write(t, "sha1.json", []byte(`{"sha1": {}}`))
	for args, want := range map[string]string{
		"-for x": "want NAME=F", "-for x=": "want NAME=F", "-for x=" + b.path("none"): "none", "-for x=" + b.path("log"): "no coverage", "-for running=now": "want a unique name",
		"-for x=" + b.path("sha1.json"): `state "x": PCR 4 is unknown`,
	} {
		status, _, stderr := b.run(t, "", "seal", append(seal, strings.Fields(args)...)...)
		require.Equal(t, 2, status, args)
		require.Contains(t, stderr, want, args)
	}
	for _, args := range []string{"-pcrs 4 -for x=now", "-bank sha256 -for x=now", "-bank sha256 -pcrs 4=" + strings.Repeat("44", 32) + " -for x=now"} {
		status, _, stderr := b.run(t, "", "seal", append([]string{"-secret", b.path("secret"), "-o", token}, strings.Fields(args)...)...)
		require.Equal(t, 2, status, args)
		require.Contains(t, stderr, "want -pcrs without values, and a -bank", args)
	}
}

// TestInterrupt ends a call to a TPM that was asked, as control-C does.
func TestInterrupt(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, stderr bytes.Buffer
	status := program.Run(ctx, []string{"status", "-tpm", "swtpm:" + b.Socket}, &out, &stderr)
	require.Equal(t, 2, status)
	require.Contains(t, stderr.String(), "context canceled")
	require.Empty(t, out.String())
}

func TestUsage(t *testing.T) {
	b := newBench(t)
	for _, args := range [][]string{
		{"seal", "-o", "x"},
		{"seal", "-secret", b.path("secret"), "-o", b.path("x"), "-pcrs", "24"},
		{"seal", "-secret", b.path("secret"), "-o", b.path("x"), "-pcrs", "7=00"},
		{"seal", "-secret", b.path("secret"), "-o", b.path("x"), "-pcrs", "7=00", "-bank", "sha256"},
		{"seal", "-secret", b.path("secret"), "-o", b.path("x"), "-bank", "md5"},
		{"seal", "-secret", b.path("none"), "-o", b.path("x")},
		{"unseal"},
		{"unseal", b.path("none")},
	} {
		status, stdout, stderr := b.run(t, "", args[0], args[1:]...)
		require.Equal(t, 2, status, "%v: %s", args, stderr)
		require.Empty(t, stdout)
	}
	status, stdout, stderr := b.run(t, "", "unseal", b.path("secret"))
	require.Equal(t, 1, status, "a file that is not a token: %s", stderr)
	require.Empty(t, stdout)
	status, _, stderr = b.run(t, "", "seal", "-secret", b.path("secret"), "-o", b.path("x"), "-pin")
	require.Equal(t, 2, status, stderr)
}
