package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/releasecli"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/signing/cosign/keyless/internal/sigstoretest"
	"github.com/osmith-dev/osmith/upgrade/release"
)

func call3(args ...string) (status int, stdout, stderr string) {
	var out, err bytes.Buffer
	status = run(context.Background(), args, &out, &err)
	return status, out.String(), err.String()
}

func TestVerify(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	layout, err := cosign.OpenDir(path("layout"))
	require.NoError(t, err)
	contents := &release.Release{ID: "acme", Version: "2", UKI: strings.NewReader("uki"), Root: strings.NewReader("root"),
		Tree: strings.NewReader("tree"), RootHash: make([]byte, 32)}
	d, err := release.PackInto(layout, "2", contents)
	require.NoError(t, err)
	contents.Version = "3"
	unsigned, err := release.PackInto(layout, "3", contents)
	require.NoError(t, err)

	s := sigstoretest.New(t)
	e, err := s.Attest("release@acme.example", "https://issuer.example", fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1",
		"subject":[{"digest":{"sha256":"%s"}}],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}`, d.Digest.Encoded()))
	require.NoError(t, err)
	layer, err := layout.WriteBlob("application/vnd.dev.sigstore.bundle.v0.3+json", bytes.NewReader(sigstoretest.BundleJSON(t, s.BundleOf(t, e, "0.1"))))
	require.NoError(t, err)
	config, err := layout.WriteBlob(ocispec.MediaTypeEmptyJSON, strings.NewReader("{}"))
	require.NoError(t, err)
	_, err = layout.WriteManifest(ocispec.Manifest{Config: config, Layers: []ocispec.Descriptor{layer}, Subject: &d}, "")
	require.NoError(t, err)

	policy := func(subject string) string {
		name := path(subject + ".json")
		require.NoError(t, os.WriteFile(name, fmt.Appendf(nil, `{"schema": "osmith.policy/1", "rules": [{"repository": "**",
			"authorities": [{"name": "ci", "identities": [{"issuer": "https://issuer.example", "subject": %q}]}]}]}`, subject), 0o600))
		return name
	}
	good, root := policy("release@acme.example"), path("trusted_root.json")
	require.NoError(t, os.WriteFile(root, s.TrustedRoot(t), 0o600))
	require.NoError(t, os.WriteFile(path("other_root.json"), sigstoretest.New(t).TrustedRoot(t), 0o600))
	server := httptest.NewServer(http.FileServer(http.Dir(path("layout"))))
	defer server.Close()
	verify := func(from, ref, policy, root string, more ...string) []string {
		return append([]string{"verify", from, ref, "-policy", policy, "-trusted-root", root, "-without-certificate-timestamps"}, more...)
	}

	for _, from := range []string{path("layout"), server.URL} {
		status, stdout, stderr := call3(verify(from, "2", good, root, "-json")...)
		require.Zero(t, status, stderr)
		var r struct {
			Schema, Verb string
			releasecli.Verification
		}
		require.NoError(t, json.Unmarshal([]byte(stdout), &r))
		assert.Equal(t, releasecli.Schema, r.Schema)
		assert.True(t, r.Verified)
		assert.Equal(t, d.Digest.String(), r.Digest)
		assert.Equal(t, "release@acme.example", r.Signatures[0].Subject)
		assert.Equal(t, "ci", r.Signatures[0].Authority)
	}
	status, stdout, stderr := call3(verify(path("layout"), "2", good, root)...)
	require.Zero(t, status, stderr)
	assert.Contains(t, stdout, `signed by "ci", release@acme.example of https://issuer.example (bundle, sha256:`)

	for name, tt := range map[string]struct {
		args   []string
		status int
		want   string
	}{
		"nothing":        {nil, 2, "usage: release verify"},
		"help":           {[]string{"-h"}, 0, "example: release verify"},
		"flags":          {[]string{"verify", "-h"}, 0, "-trusted-root"},
		"no ref":         {[]string{"verify", "x"}, 2, "want LAYOUT REF"},
		"no root":        {[]string{"verify", "x", "y", "-policy", good}, 2, "-trusted-root is missing"},
		"not a root":     {verify(path("layout"), "2", good, good), 2, "trusted root"},
		"other identity": {verify(path("layout"), "2", policy("evil@acme.example"), root), 1, "signed by release@acme.example of https://issuer.example"},
		"other root":     {verify(path("layout"), "2", good, path("other_root.json")), 1, d.Digest.String()},
		"unsigned":       {verify(path("layout"), "3", good, root), 1, unsigned.Digest.String() + ": not signed"},
		"no layout":      {verify(path("x"), "2", good, root), 2, "no such file"},
		"not there":      {verify(path("layout"), "9", good, root), 2, "not found"},
		"all proofs":     {[]string{"verify", path("layout"), "2", "-policy", good, "-trusted-root", root}, 1, "certificate timestamp"},
	} {
		status, stdout, stderr := call3(tt.args...)
		assert.Equal(t, tt.status, status, "%s: %s", name, stderr)
		assert.Contains(t, stderr, tt.want, name)
		assert.Empty(t, stdout, name)
	}
}
