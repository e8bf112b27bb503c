package registry_test

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/upgrade/release/registry"
)

// The versions of cosign and how they sign without a log.
var cosigns = []struct {
	name string
	root func(testing.TB) testtools.Root
	args []string
}{
	{"2.5", testtools.Trixie, []string{"--tlog-upload=false"}},
	{"3.1-simple", testtools.Forky, []string{"--new-bundle-format=false", "--use-signing-config=false", "--tlog-upload=false"}},
	{"3.1-bundle", testtools.Forky, []string{"--signing-config", "signing-config.json"}},
}

// cosign and skopeo work on what is pushed here, and what cosign signs in the registry is accepted
// here.
func TestInterop(t *testing.T) {
	for _, c := range cosigns {
		t.Run(c.name, func(t *testing.T) {
			root, dir := c.root(t), t.TempDir()
			run := func(args ...string) string {
				return root.Run(t, dir, "env", append([]string{"COSIGN_PASSWORD=secret", "cosign"}, args...)...)
			}
			run("generate-key-pair")
			if c.name == "3.1-bundle" {
				run("signing-config", "create", "--out", "signing-config.json")
			}
			text, err := os.ReadFile(filepath.Join(dir, "cosign.pub"))
			require.NoError(t, err)
			theirs, err := cosign.ParseKeys(text)
			require.NoError(t, err)

			ours := newKey(t)
			name := start(t, true, nil)
			repo := open(t, name, nil)
			store, d := signed(t, ours)
			require.NoError(t, repo.Push(t.Context(), store, d, registry.PushOptions{Tag: "v2"}))
			run(append(append([]string{"sign", "-y", "--key", "cosign.key"}, c.args...), name+"@"+d.Digest.String())...)
			result, err := cosign.Verify(t.Context(), repo, d, cosign.Policy{Threshold: 2, Authorities: []cosign.Authority{
				{Name: "ours", Keys: []crypto.PublicKey{ours.Public()}}, {Name: "theirs", Keys: theirs}}})
			require.NoError(t, err)
			require.Len(t, result.Signatures, 3)

			der, err := x509.MarshalPKIXPublicKey(ours.Public())
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, "ours.pub"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600))
			run("verify", "--key", "ours.pub", "--insecure-ignore-tlog=true", name+"@"+d.Digest.String())
		})
	}
}

// skopeo copies a release out of the registry into an archive, which opens as any layout does.
func TestSkopeo(t *testing.T) {
	root, dir := testtools.Trixie(t), t.TempDir()
	key := newKey(t)
	name := start(t, true, nil)
	repo := open(t, name, nil)
	store, d := signed(t, key)
	require.NoError(t, repo.Push(t.Context(), store, d, registry.PushOptions{Tag: "v2"}))
	out := root.Run(t, dir, "skopeo", "inspect", "--tls-verify=false", "--raw", "docker://"+name+":v2")
	require.Contains(t, out, release.ArtifactType)
	archive := filepath.Join(dir, "release.tar")
	root.Run(t, dir, "skopeo", "copy", "--insecure-policy", "--src-tls-verify=false", "docker://"+name+":v2", "oci-archive:"+archive+":v2")
	f, err := os.Open(archive)
	require.NoError(t, err)
	defer f.Close()
	info, err := f.Stat()
	require.NoError(t, err)
	layout, err := cosign.OpenTar(f, info.Size())
	require.NoError(t, err)
	got, err := layout.Resolve("v2")
	require.NoError(t, err)
	require.Equal(t, d.Digest, got.Digest, strings.TrimSpace(out))
	a, err := release.Read(t.Context(), layout, got)
	require.NoError(t, err)
	require.NoError(t, release.Pull(t.Context(), layout, a, filepath.Join(dir, "out"), release.PullOptions{}))
}
