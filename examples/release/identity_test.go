package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// signed is the test data of package keyless: release@acme.example has signed release 2; release 3
// is unsigned.
var signed = filepath.Join("..", "..", "signing", "cosign", "keyless", "testdata", "identities")

// A policy that names identities is verified and pulled by, from files and from a web server.
func TestIdentities(t *testing.T) {
	dir := t.TempDir()
	policy := func(subject string) string {
		name := filepath.Join(dir, subject+".json")
		require.NoError(t, os.WriteFile(name, fmt.Appendf(nil, `{"schema": "osmith.policy/1", "rules": [{"repository": "**",
			"authorities": [{"name": "ci", "identities": [{"issuer": "https://issuer.example", "subject": %q}]}]}]}`, subject), 0o600))
		return name
	}
	layout, root, good := filepath.Join(signed, "layout"), filepath.Join(signed, "trusted_root.json"), policy("release@acme.example")
	server := httptest.NewServer(http.FileServer(http.Dir(layout)))
	defer server.Close()
	trusting := func(verb, from, ref, policy, root string, more ...string) []string {
		return append([]string{verb, from, ref, "-policy", policy, "-trusted-root", root, "-without-certificate-timestamps"}, more...)
	}
	for i, from := range []string{layout, server.URL} {
		var v verifyResult
		object(t, &v, trusting("verify", from, "2", good, root)...)
		assert.True(t, v.Verified)
		assert.Equal(t, []string{"osmith.release-report/1", "verify"}, []string{v.Schema, v.Verb})
		require.Len(t, v.Signatures, 1)
		assert.Equal(t, []string{"ci", "release@acme.example", "https://issuer.example", "bundle"},
			[]string{v.Signatures[0].Authority, v.Signatures[0].Subject, v.Signatures[0].Issuer, v.Signatures[0].Format})

		to := filepath.Join(dir, fmt.Sprint("to", i))
		var p pullResult
		object(t, &p, trusting("pull", from, "2", good, root, "-o", to)...)
		assert.Equal(t, v.Digest, p.Digest)
		assert.Contains(t, ok(t, trusting("verify", to, "2", good, root)...), `signed by "ci", release@acme.example of https://issuer.example (bundle, sha256:`)
	}
	for name, tt := range map[string]struct {
		args   []string
		status int
		want   string
	}{
		"flags":          {[]string{"verify", "-h"}, 0, "-trusted-root"},
		"no root":        {[]string{"verify", layout, "2", "-policy", good}, 2, "-trusted-root is missing"},
		"not a root":     {trusting("verify", layout, "2", good, good), 2, "trusted root"},
		"other identity": {trusting("verify", layout, "2", policy("evil@acme.example"), root), 1, "signed by release@acme.example of https://issuer.example"},
		"other root":     {trusting("verify", layout, "2", good, filepath.Join(signed, "other_root.json")), 1, "no signature by a trusted key"},
		"unsigned":       {trusting("verify", layout, "3", good, root), 1, ": not signed"},
		"no layout":      {trusting("verify", filepath.Join(dir, "x"), "2", good, root), 2, "no such file"},
		"not there":      {trusting("verify", layout, "9", good, root), 2, "not found"},
		"all proofs":     {[]string{"verify", layout, "2", "-policy", good, "-trusted-root", root}, 1, "certificate timestamp"},
	} {
		status, stdout, stderr := call3(t, tt.args...)
		assert.Equal(t, tt.status, status, "%s: %s", name, stderr)
		assert.Contains(t, stderr, tt.want, name)
		assert.Empty(t, stdout, name)
	}
}
