package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/upgrade/release"
)

// ask runs a verb about a registry with -json and decodes the one object.
func ask(t *testing.T, status int, args ...string) (r registryResult) {
	t.Helper()
	got, stdout, stderr := call3(t, append(args, "-json", "-plain-http")...)
	require.Equal(t, status, got, stderr)
	dec := json.NewDecoder(strings.NewReader(stdout))
	dec.DisallowUnknownFields()
	require.NoError(t, dec.Decode(&r), stdout)
	return r
}

// newKey writes a key pair and returns the names of its files.
func newKey(t *testing.T, dir, name string) (private, public string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	private, public = filepath.Join(dir, name+".key"), filepath.Join(dir, name+".pub")
	require.NoError(t, os.WriteFile(private, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	der, err = x509.MarshalPKIXPublicKey(key.Public())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600))
	return private, public
}

func TestRegistry(t *testing.T) {
	server := httptest.NewServer(ggcr.New(ggcr.WithReferrersSupport(true), ggcr.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	repo := strings.TrimPrefix(server.URL, "http://") + "/os/acme"
	dir := t.TempDir()
	layout := filepath.Join(dir, "layout")
	d, err := release.Pack(layout, "2-amd64", &release.Release{ID: "acme", Version: "2", UKI: strings.NewReader("uki"), Root: strings.NewReader("root"),
		Tree: strings.NewReader("tree"), RootHash: make([]byte, 32), Architecture: "amd64"})
	require.NoError(t, err)
	index, err := release.PackIndex(layout, "2", map[string]ocispec.Descriptor{"amd64": d})
	require.NoError(t, err)
	private, public := newKey(t, dir, "build")
	_, other := newKey(t, dir, "other")
	policy := filepath.Join(dir, "policy.json")
	require.NoError(t, os.WriteFile(policy, []byte(`{"schema": "osmith.policy/1", "rules": [{"repository": "*/os/*",
		"authorities": [{"name": "build", "keys": ["build.pub"]}]}]}`), 0o600))
	identities := filepath.Join(dir, "identities.json")
	require.NoError(t, os.WriteFile(identities, []byte(`{"schema": "osmith.policy/1", "rules": [{"repository": "**",
		"authorities": [{"name": "ci", "identities": [{"issuer": "a", "subject": "b"}]}]}]}`), 0o600))

	assert.Equal(t, index.Digest.String(), ask(t, 0, "push", layout, "2", repo+":2").Digest)
	assert.Equal(t, "unsigned", ask(t, 1, "verify", repo+":2", "-policy", policy).Verification.Reason)
	s := ask(t, 0, "sign", repo+":2", "-key", private)
	assert.Equal(t, []string{"legacy", "bundle"}, s.Formats)
	v := ask(t, 0, "verify", repo+"@"+index.Digest.String(), "-policy", policy)
	assert.Equal(t, repo, v.Name)
	assert.Equal(t, "build", v.Verification.Signatures[0].Authority)
	assert.Len(t, v.Verification.Signatures, 2)
	assert.Equal(t, "untrusted", ask(t, 1, "verify", repo+":2", "-key", other).Verification.Reason)

	i := ask(t, 0, "inspect", repo+":2")
	assert.Equal(t, []indexed{{"amd64", d.Digest.String()}}, i.Manifests)
	assert.Len(t, i.Signatures, 2)
	i = ask(t, 0, "inspect", repo+"@"+d.Digest.String())
	assert.Equal(t, "acme", i.Release.ID)
	assert.Len(t, i.Release.Layers, 3)

	to := filepath.Join(dir, "to")
	p := ask(t, 0, "pull", repo+":2", "-policy", policy, "-arch", "amd64", "-o", to)
	assert.Equal(t, d.Digest.String(), p.Release.Digest)
	rel, err := release.Open(t.Context(), os.DirFS(to), d)
	require.NoError(t, err)
	require.NoError(t, rel.Close())
	// With its signatures it can go on to the next registry.
	ask(t, 0, "push", to, "2", repo+"-mirror:2")
	assert.Len(t, ask(t, 0, "verify", repo+"-mirror:2", "-key", public).Verification.Signatures, 2)
	status, stdout, _ := call3(t, "verify", repo+":2", "-key", public, "-plain-http")
	assert.Zero(t, status)
	assert.Contains(t, stdout, index.Digest.String()+"\nsigned by key "+s.Key)

	for name, tt := range map[string]struct {
		args   []string
		status int
		want   string
	}{
		"operands":   {[]string{"push", "a", "b"}, 2, "2 operands: want LAYOUTDIR REF REGISTRY"},
		"no tag":     {[]string{"verify", repo}, 2, "want REGISTRY/REPO:TAG"},
		"no name":    {[]string{"verify", ":2"}, 2, "registry: "},
		"not there":  {[]string{"verify", repo + ":9", "-key", public}, 2, "not"},
		"no key":     {[]string{"verify", repo + ":2"}, 2, "either -policy or -key"},
		"identities": {[]string{"verify", repo + ":2", "-policy", identities}, 2, "-trusted-root is missing"},
		"no rule":    {[]string{"verify", repo + ":2", "-policy", policy, "-repository", "x"}, 1, "no rule matches"},
		"other key":  {[]string{"pull", repo + ":2", "-key", other, "-o", filepath.Join(dir, "x")}, 1, "no signature by a trusted key"},
		"arch":       {[]string{"pull", repo + ":2", "-key", public, "-o", filepath.Join(dir, "x"), "-arch", "m68k"}, 1, "no release for this architecture"},
		"no out":     {[]string{"pull", repo + ":2", "-key", public}, 2, "-o is missing"},
		"no signer":  {[]string{"sign", repo + ":2"}, 2, "-key is missing"},
		"public":     {[]string{"sign", repo + ":2", "-key", public}, 2, "private key"},
		"format":     {[]string{"sign", repo + ":2", "-key", private, "-format", "x"}, 2, "want legacy or bundle"},
		"no layout":  {[]string{"push", dir, "2", repo + ":2"}, 2, "oci-layout"},
		"by digest":  {[]string{"push", layout, "2", repo + "@" + d.Digest.String()}, 2, "a tag, not a digest"},
	} {
		args := tt.args
		if args != nil {
			args = append(args, "-plain-http")
		}
		status, stdout, stderr := call3(t, args...)
		assert.Equal(t, tt.status, status, "%s: %s", name, stderr)
		assert.Contains(t, stderr, tt.want, name)
		assert.Empty(t, stdout, name)
	}
	assert.NoDirExists(t, filepath.Join(dir, "x"))
	status, _, stderr := call3(t, "pull", "-h")
	assert.Zero(t, status)
	assert.Contains(t, stderr, "example: release pull")
}
