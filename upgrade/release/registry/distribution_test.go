package registry_test

import (
	"bytes"
	"crypto"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release/channel"
	"github.com/osmith-dev/osmith/upgrade/release/registry"
)

// distribution runs the registry of the CNCF's Distribution, as Debian's package docker-registry
// has it, and returns HOST:PORT.
func distribution(t *testing.T) string {
	t.Helper()
	program, dir := testtools.Require(t, "docker-registry"), t.TempDir()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	host := listener.Addr().String()
	require.NoError(t, listener.Close())
	config := filepath.Join(dir, "config.yml")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %q}\n", filepath.Join(dir, "data"), host), 0o600))
	server := exec.CommandContext(t.Context(), program, "serve", config)
	var log bytes.Buffer
	server.Stdout, server.Stderr = &log, &log
	require.NoError(t, server.Start())
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	for range 100 {
		if response, err := http.Get("http://" + host + "/v2/"); err == nil {
			require.NoError(t, response.Body.Close())
			return host
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("docker-registry does not answer")
	return ""
}

// A signed release goes through a real registry, signers at the same time lose nothing of each
// other's there, and a channel is beside it.
func TestDistribution(t *testing.T) {
	host := distribution(t)
	key := newKey(t)
	store, d := signed(t, key)
	repo := open(t, host+"/os/acme", func(o *registry.OpenOptions) { o.Attempts, o.Wait = 0, nil })
	require.NoError(t, repo.Push(t.Context(), store, d, registry.PushOptions{Tag: "v2"}))
	require.NoError(t, fetch(t, repo, t.TempDir(), policy(key.Public())))

	var group sync.WaitGroup
	authorities, failed := []cosign.Authority{}, make([]error, 6)
	for i := range failed {
		k := newKey(t)
		authorities = append(authorities, cosign.Authority{Name: fmt.Sprint(i), Keys: []crypto.PublicKey{k.Public()}})
		group.Go(func() { failed[i] = cosign.Sign(t.Context(), repo.Writer(t.Context()), d, k, cosign.SignOptions{}) })
	}
	group.Wait()
	for _, err := range failed {
		require.NoError(t, err)
	}
	result, err := cosign.Verify(t.Context(), repo, d, cosign.Policy{Authorities: authorities, Threshold: len(authorities)})
	require.NoError(t, err)
	require.Len(t, result.Signatures, 12)

	document := &channel.Document{Product: "acme", Channel: "stable", Sequence: 1, ValidUntil: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	require.NoError(t, document.Publish("2", d.Digest, channel.Cohorts))
	artifact, err := channel.Write(repo.Writer(t.Context()), "stable", document)
	require.NoError(t, err)
	require.NoError(t, cosign.Sign(t.Context(), repo.Writer(t.Context()), artifact, key, cosign.SignOptions{}))
	found, err := repo.Resolve(t.Context(), "stable")
	require.NoError(t, err)
	verified, err := cosign.Verify(t.Context(), repo, found, cosign.Policy{Keys: []crypto.PublicKey{key.Public()}})
	require.NoError(t, err)
	b, err := channel.Read(t.Context(), repo, verified.Subject)
	require.NoError(t, err)
	_, _, err = channel.Accept(b, channel.Request{Product: "acme", Channel: "stable", Now: time.Date(2029, 1, 1, 0, 0, 0, 0, time.UTC)})
	require.NoError(t, err)
}

// regctl copies a release with all that refers to it from a registry without a referrers API, where
// a list has the tag, to a layout and to another repository.
func TestRegctl(t *testing.T) {
	host := distribution(t)
	regctl := filepath.Join(t.TempDir(), "regctl")
	testtools.Run(t, "env", "GOWORK=off", "go", "build", "-C", filepath.Join("..", "..", "..", "hack", "tools"), "-o", regctl, "github.com/regclient/regclient/cmd/regctl")
	key := newKey(t)
	store, d := signed(t, key)
	repo := open(t, host+"/os/acme", nil)
	require.NoError(t, repo.Push(t.Context(), store, d, registry.PushOptions{Tag: "v2"}))
	run := func(args ...string) {
		t.Helper()
		testtools.Run(t, regctl, append(args, "--host", "reg="+host+",tls=disabled")...)
	}
	layout := filepath.Join(t.TempDir(), "layout")
	run("image", "copy", "--referrers", "--digest-tags", host+"/os/acme:v2", "ocidir://"+layout+":v2")
	copied, err := cosign.OpenLayout(os.DirFS(layout))
	require.NoError(t, err)
	got, err := copied.Resolve("v2")
	require.NoError(t, err)
	require.Equal(t, d.Digest, got.Digest)
	_, err = cosign.Verify(t.Context(), copied, got, policy(key.Public()))
	require.NoError(t, err)

	run("image", "copy", "--referrers", "--digest-tags", "ocidir://"+layout+":v2", host+"/mirror/acme:v2")
	require.NoError(t, fetch(t, open(t, host+"/mirror/acme", nil), t.TempDir(), policy(key.Public())))
}
