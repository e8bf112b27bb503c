package main

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/swtpm"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/sealing"
)

// version is a boot of an OS.
func version(kernel string) []swtpm.Event {
	return []swtpm.Event{{PCR: 0, Data: "firmware"}, {PCR: 7, Data: "secure boot"}, {PCR: 11, Data: kernel}}
}

// fleet is a machine and a directory with references, kernels 1 and 2.
type fleet struct {
	*swtpm.TPM
	dir string
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{swtpm.Start(t), t.TempDir()}
	f.write(t, "v1.log", swtpm.EventLog(version("kernel 1")...))
	f.write(t, "v2.log", swtpm.EventLog(version("kernel 2")...))
	return f
}

func (f *fleet) path(name string) string { return filepath.Join(f.dir, name) }

func (f *fleet) write(t *testing.T, name string, data []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(f.path(name), data, 0o600))
}

// serve serves a reference whose keys are given in JSON.
func (f *fleet) serve(t *testing.T, keys string) (url string) {
	t.Helper()
	f.write(t, "ref.json", []byte(`{"schema": "osmith.attest-reference/1", "logs": ["v1.log", "v2.log"], "pcrs": [0, 7, 11], `+keys+`}`))
	r, err := readReference(f.path("ref.json"))
	require.NoError(t, err)
	server := httptest.NewServer(newVerifier(r, io.Discard).handler())
	t.Cleanup(server.Close)
	return server.URL
}

// prove runs prove with the log of the machine's firmware.
func (f *fleet) prove(t *testing.T, url string, log []byte, more ...string) (int, proveResult, string) {
	t.Helper()
	f.write(t, "machine.log", log)
	var out, stderr bytes.Buffer
	args := append([]string{"prove", "-json", "-to", url, "-tpm", "swtpm:" + f.Socket, "-log", f.path("machine.log")}, more...)
	status := program.Run(context.Background(), args, &out, &stderr)
	var r proveResult
	if status != 2 {
		dec := json.NewDecoder(&out)
		dec.DisallowUnknownFields()
		require.NoError(t, dec.Decode(&r))
		require.False(t, dec.More(), "one object")
		require.Equal(t, schema, r.Schema)
	}
	return status, r, stderr.String()
}

func TestTrusted(t *testing.T) {
	f := newFleet(t)
	url := f.serve(t, `"anyEndorsementKey": true`)
	key := f.path("ak.json")
	for _, kernel := range []string{"1", "2"} {
		log := f.Boot(t, version("kernel "+kernel)...)
		status, r, stderr := f.prove(t, url, log, "-key", key)
		require.Zero(t, status, stderr)
		require.True(t, r.Trusted)
		require.Equal(t, "v"+kernel+".log", r.Reference)
		require.Empty(t, r.Problems)
		require.Len(t, r.PCRs, 3)
	}
	// The endorsement key is the machine's.
	_, r, _ := f.prove(t, url, swtpm.EventLog(version("kernel 2")...))
	url = f.serve(t, `"endorsementKeys": ["`+r.EndorsementKey+`"]`)
	status, _, stderr := f.prove(t, url, swtpm.EventLog(version("kernel 2")...))
	require.Zero(t, status, stderr)
	url = f.serve(t, `"endorsementKeys": ["00"]`)
	status, r, _ = f.prove(t, url, swtpm.EventLog(version("kernel 2")...))
	require.Equal(t, 1, status)
	require.Equal(t, "endorsement-key", r.Problems[0].Code)
}

func TestExplained(t *testing.T) {
	f := newFleet(t)
	url := f.serve(t, `"anyEndorsementKey": true`)
	log := f.Boot(t, version("kernel 3")...)
	status, r, stderr := f.prove(t, url, log)
	require.Equal(t, 1, status)
	require.Equal(t, "attest: this machine is not trusted\n", stderr)
	require.Len(t, r.Problems, 1)
	assert.Equal(t, 11, *r.Problems[0].PCR)
	require.Len(t, r.Differences, 2)
	assert.Contains(t, r.Differences[0].Text, `missing: EV_IPL 'kernel 1'`)
	assert.Contains(t, r.Differences[1].Text, `not expected: EV_IPL 'kernel 3'`)

	// A log that tells of another boot helps nothing.
	status, r, _ = f.prove(t, url, swtpm.EventLog(version("kernel 1")...))
	require.Equal(t, 1, status)
	require.False(t, r.Trusted)
	assert.Equal(t, "log", r.Problems[len(r.Problems)-1].Code)
	assert.Contains(t, r.Problems[len(r.Problems)-1].Text, "does not account for")
	status, r, _ = f.prove(t, url, []byte("no log"))
	require.Equal(t, 1, status)
	assert.Equal(t, "log", r.Problems[len(r.Problems)-1].Code)
}

// TestForged judges evidence that a machine has tampered with.
func TestForged(t *testing.T) {
	f := newFleet(t)
	f.serve(t, `"anyEndorsementKey": true`)
	reference, err := readReference(f.path("ref.json"))
	require.NoError(t, err)
	log := f.Boot(t, version("kernel 1")...)
	device, err := sealing.Open("swtpm:" + f.Socket)
	require.NoError(t, err)
	defer device.Close()
	machine := sealing.New(device)
	key, err := machine.CreateAttestationKey()
	require.NoError(t, err)
	ek, err := machine.EndorsementKey()
	require.NoError(t, err)
	s, challenge, err := reference.begin(challengeRequest{ek, key.Public}, []byte("nonce"))
	require.NoError(t, err)
	answer, err := machine.Answer(key, challenge)
	require.NoError(t, err)
	quote := func(nonce string, pcrs ...int) *evidence {
		q, err := machine.Quote(key, []byte(nonce), map[crypto.Hash][]int{crypto.SHA256: pcrs})
		require.NoError(t, err)
		return &evidence{Answer: answer, Attest: q.Attest, Signature: q.Signature, PCRs: encodePCRs(q.PCRs[crypto.SHA256]), Log: log}
	}
	require.True(t, reference.judge(s, quote("nonce", 0, 7, 11)).Trusted)
	for name, tt := range map[string]struct {
		e    *evidence
		code string
		bend func(*evidence)
	}{
		"old nonce":     {quote("other", 0, 7, 11), "quote", nil},
		"fewer PCRs":    {quote("nonce", 0, 7), "quote", nil},
		"answer":        {quote("nonce", 0, 7, 11), "challenge", func(e *evidence) { e.Answer = []byte("guess") }},
		"no answer":     {quote("nonce", 0, 7, 11), "challenge", func(e *evidence) { e.Answer = nil }},
		"other values":  {quote("nonce", 0, 7, 11), "quote", func(e *evidence) { e.PCRs["11"] = strings.Repeat("00", 32) }},
		"no values":     {quote("nonce", 0, 7, 11), "quote", func(e *evidence) { e.PCRs = nil }},
		"signature":     {quote("nonce", 0, 7, 11), "quote", func(e *evidence) { e.Signature[20] ^= 1 }},
		"quote":         {quote("nonce", 0, 7, 11), "quote", func(e *evidence) { e.Attest[20] ^= 1 }},
		"no quote":      {quote("nonce", 0, 7, 11), "quote", func(e *evidence) { e.Attest = nil }},
		"not a number":  {quote("nonce", 0, 7, 11), "quote", func(e *evidence) { e.PCRs["x"] = "" }},
		"not any bytes": {quote("nonce", 0, 7, 11), "quote", func(e *evidence) { e.PCRs["11"] = "x" }},
	} {
		if tt.bend != nil {
			tt.bend(tt.e)
		}
		v := reference.judge(s, tt.e)
		require.False(t, v.Trusted, name)
		require.Equal(t, tt.code, v.Problems[0].Code, name)
	}
	_, _, err = reference.begin(challengeRequest{key.Public, key.Public}, []byte("nonce"))
	require.Error(t, err, "not an endorsement key")
	_, _, err = reference.begin(challengeRequest{ek, ek}, []byte("nonce"))
	require.Error(t, err, "not an attestation key")
}

func TestServer(t *testing.T) {
	f := newFleet(t)
	url := f.serve(t, `"anyEndorsementKey": true`)
	for path, want := range map[string]int{"/challenge": 400, "/evidence": 400, "/": 404} {
		response, err := http.Post(url+path, "application/json", strings.NewReader("x"))
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, want, response.StatusCode, path)
	}
	response, err := http.Post(url+"/evidence", "application/json", strings.NewReader(`{"session":"none"}`))
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusForbidden, response.StatusCode)

	v := newVerifier(&reference{}, io.Discard)
	require.True(t, v.remember("a", &session{}))
	require.NotNil(t, v.take("a"))
	require.Nil(t, v.take("a"), "once")
	for n := range maxSessions {
		require.True(t, v.remember(string(rune('b'+n)), &session{}))
	}
	require.False(t, v.remember("a", &session{}))

	// The real program, until it is interrupted.
	ctx, stop := context.WithCancel(context.Background())
	out, in := io.Pipe()
	status := make(chan int)
	go func() {
		status <- program.Run(ctx, []string{"serve", "-json", "-reference", f.path("ref.json"), "-listen", "127.0.0.1:0"}, in, io.Discard)
	}()
	var r serveResult
	require.NoError(t, json.NewDecoder(out).Decode(&r))
	got, p, stderr := f.prove(t, "http://"+r.Address, f.Boot(t, version("kernel 1")...))
	require.Zero(t, got, stderr)
	require.True(t, p.Trusted)
	stop()
	require.Zero(t, <-status)
}

func TestReferences(t *testing.T) {
	f := newFleet(t)
	head := `{"schema": "osmith.attest-reference/1", "logs": ["v1.log"], "pcrs": [7]`
	for text, want := range map[string]string{
		`{}`:                                  "schema",
		head + `}`:                            "either endorsementKeys or anyEndorsementKey",
		head + `, "anyEndorsementKey": true}`: "",
		head + `, "endorsementKeys": ["0"], "anyEndorsementKey": true}`:          "either",
		head + `, "bank": "sha512", "anyEndorsementKey": true}`:                  "v1.log",
		head + `, "bank": "md5", "anyEndorsementKey": true}`:                     "md5",
		head + `, "anyEndorsementKey": true, "more": 1}`:                         "more",
		strings.Replace(head, "[7]", "[]", 1) + `, "anyEndorsementKey": true}`:   "no pcrs",
		strings.Replace(head, "[7]", "[99]", 1) + `, "anyEndorsementKey": true}`: "PCR 99",
		strings.Replace(head, "v1", "v9", 1) + `, "anyEndorsementKey": true}`:    "v9.log",
	} {
		r, err := parseReference([]byte(text), f.dir)
		if want == "" {
			require.NoError(t, err)
			require.Equal(t, crypto.SHA256, r.bank)
			continue
		}
		require.ErrorContains(t, err, want, text)
	}
	for _, args := range [][]string{
		{"serve", "-reference", "x"}, {"serve", "-reference", "x", "-listen", "0.0.0.0:1"}, {"serve", "-reference", "x", "-listen", "127.0.0.1:0"},
		{"prove"}, {"prove", "-to", "http://127.0.0.1:1", "-log", f.path("none")},
	} {
		require.Equal(t, 2, program.Run(context.Background(), args, io.Discard, io.Discard), args)
	}
	_, err := tpm.ParseLog(swtpm.EventLog(version("x")...))
	require.NoError(t, err)
}
