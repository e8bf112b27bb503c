package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// blob is the file of a layout that has the content of another file.
func blob(t *testing.T, w workshop, layout, content string) string {
	t.Helper()
	return filepath.Join(w.path(layout), "blobs", "sha256", digest.FromBytes(read(t, w.path(content))).Encoded())
}

func damage(t *testing.T, name string) {
	t.Helper()
	b := read(t, name)
	b[len(b)/2] ^= 1
	require.NoError(t, os.WriteFile(name, b, 0o600))
}

func TestRefused(t *testing.T) {
	w := newWorkshop(t)
	one, two := w.pack(t, "1", "-arch", "amd64"), w.pack(t, "2")
	w.sign(t, "2")
	w.pack(t, "2", "-uki", w.path("uki2-arm64"), "-ref", "2-arm64")
	for _, copied := range []string{"tampered", "blobless", "damaged"} {
		require.NoError(t, os.CopyFS(w.path(copied), os.DirFS(w.path("layout"))))
	}
	damage(t, filepath.Join(w.path("tampered"), "blobs", "sha256", strings.TrimPrefix(two.Digest, "sha256:")))
	require.NoError(t, os.Remove(blob(t, w, "blobless", "root2")))
	damage(t, blob(t, w, "damaged", "root2"))
	policy := func(text string) string {
		name := digest.FromString(text).Encoded()[:8] + ".json"
		w.write(t, name, []byte(text))
		return w.path(name)
	}
	rule := func(rule string) string { return policy(`{"schema": "osmith.policy/1", "rules": [` + rule + `]}`) }
	empty, twice := rule(`{"repository": "**", "authorities": []}`), policy(`{"schema": "osmith.policy/1", "schema": ""}`)
	build, layout := "-key="+w.path("build.pub"), w.path("layout")
	identities := rule(`{"repository": "**", "authorities": [{"name": "ci", "keys": ["build.pub"],
		"identities": [{"issuer": "https://ci.example", "subject": "os"}]}]}`)
	elsewhere := rule(`{"repository": "updates.example/*", "authorities": [{"name": "build", "keys": ["build.pub"]}]}`)
	pack := func(args ...string) []string {
		base := []string{"pack", "-o", w.path("new"), "-uki", w.path("uki1"), "-root", w.path("root1"), "-tree", w.path("tree1")}
		return append(base, args...)
	}
	pull := func(from string, args ...string) []string {
		return append([]string{"pull", w.path(from), "2", "-o", w.path("new")}, args...)
	}
	before := names(t, string(w))
	tests := map[string]struct {
		args   []string
		status int
		want   string
	}{
		"nothing":           {nil, 2, "usage: release pack"},
		"verb":              {[]string{"frob"}, 2, `no verb "frob"`},
		"pack-no-root":      {[]string{"pack", "-o", w.path("new"), "-uki", w.path("uki1"), "-tree", w.path("tree1")}, 2, "-root is missing"},
		"pack-uki-alone":    {[]string{"pack", "-o", w.path("new"), "-uki", w.path("uki1")}, 1, "root hash of the UKI's command line is"},
		"pack-absent":       {pack("-sig", w.path("absent")), 2, "absent"},
		"pack-no-uki":       {pack("-uki", w.path("build.pub")), 1, "-uki "},
		"pack-other-tree":   {pack("-tree", w.path("tree2")), 1, "is not the hash tree of"},
		"pack-no-tree":      {pack("-tree", w.path("root1")), 1, "no verity superblock"},
		"pack-other-size":   {pack("-root", w.path("uki1")), 1, "is one of 262144 bytes, and"},
		"pack-roothash":     {pack("-roothash", two.RootHash), 1, "the root hash of"},
		"pack-not-hex":      {pack("-roothash", "xy"), 2, "-roothash: "},
		"pack-sig":          {pack("-sig", w.path("pcrs.json")), 1, "root hash signature: "},
		"pack-sbom":         {pack("-sbom", w.path("pcrs.json")), 1, "neither SPDX nor CycloneDX"},
		"pack-sbom-text":    {pack("-sbom", w.path("build.pub")), 1, "-sbom "},
		"index-no-arch":     {[]string{"index", "-o", layout, "-ref", "x", "2"}, 2, "want ARCH=REF"},
		"index-twice":       {[]string{"index", "-o", layout, "-ref", "x", "arm64=2-arm64", "arm64=2-arm64"}, 2, "two releases for arm64"},
		"index-other-arch":  {[]string{"index", "-o", layout, "-ref", "x", "arm64=1"}, 1, "the release is for amd64"},
		"index-versions":    {[]string{"index", "-o", layout, "-ref", "x", "amd64=1", "arm64=2-arm64"}, 1, "is acme 2, and another is acme 1"},
		"sign-nowhere":      {[]string{"sign", w.path("new"), "2", "-key", w.path("build.key")}, 2, "not the directory of a layout"},
		"sign-public":       {[]string{"sign", layout, "2", build}, 2, "private key"},
		"sign-encrypted":    {[]string{"sign", layout, "2", "-key", w.path("cosign.key")}, 2, "COSIGN_PASSWORD is not set"},
		"sign-tampered":     {[]string{"sign", w.path("tampered"), "2", "-key", w.path("build.key")}, 1, two.Digest},
		"sign-format":       {[]string{"sign", layout, "2", "-key", w.path("build.key"), "-format", "x"}, 2, "want legacy or bundle"},
		"attest-type":       {[]string{"attest", layout, "2", "-key", w.path("build.key"), "-predicate", w.path("sbom.json")}, 2, "-type is missing"},
		"attest-text":       {[]string{"attest", layout, "2", "-key", w.path("build.key"), "-predicate", w.path("build.pub"), "-type", "spdx"}, 2, "predicate"},
		"verify-no-layout":  {[]string{"verify", w.path("absent"), "2", build}, 2, "absent"},
		"verify-no-ref":     {[]string{"verify", layout, "3", build}, 2, `"3": not found`},
		"verify-no-tar":     {[]string{"verify", w.path("build.pub"), "2", build}, 2, "tar"},
		"verify-no-key":     {[]string{"verify", layout, "2"}, 2, "either -policy or -key"},
		"verify-both":       {[]string{"verify", layout, "2", build, "-policy", identities}, 2, "either -policy or -key"},
		"verify-private":    {[]string{"verify", layout, "2", "-key", w.path("build.key")}, 2, "PRIVATE KEY"},
		"verify-at":         {[]string{"verify", layout, "2", "-policy", empty, "-at", "x"}, 2, "-at: "},
		"verify-identities": {[]string{"verify", layout, "2", "-policy", identities}, 2, "-trusted-root is missing"},
		"verify-no-rule":    {[]string{"verify", layout, "2", "-policy", elsewhere}, 1, "no rule matches"},
		"verify-duplicate":  {[]string{"verify", layout, "2", "-policy", twice}, 2, "appears twice"},
		"verify-unsigned":   {[]string{"verify", layout, "1", build}, 1, one.Digest + ": not signed"},
		"verify-other-key":  {[]string{"verify", layout, "2", "-key", w.path("other.pub")}, 1, "no signature by a trusted key"},
		"verify-root":       {[]string{"verify", layout, "2", "-policy", identities, "-trusted-root", identities}, 2, "trusted root"},
		"verify-one":        {[]string{"verify", "layout", "-key", w.path("build.pub")}, 2, "want REGISTRY/REPO:TAG"},
		"verify-three":      {[]string{"verify", "a", "b", "c", build}, 2, "unexpected argument"},
		"verify-tampered":   {[]string{"verify", w.path("tampered"), "2", build}, 1, "the content has digest"},
		"inspect-tampered":  {[]string{"inspect", w.path("tampered"), "2"}, 1, "the content has digest"},
		"inspect-damaged":   {[]string{"inspect", w.path("damaged"), "2", "-check"}, 1, "the content has digest"},
		"inspect-blobless":  {[]string{"inspect", w.path("blobless"), "2", "-check"}, 1, "no such file"},
		"serve-nothing":     {[]string{"serve", string(w)}, 2, "not the directory of a layout"},
		"serve-address":     {[]string{"serve", layout, "-listen", "x"}, 2, "missing port"},
		"pull-unsigned":     {[]string{"pull", layout, "1", "-o", w.path("new"), build}, 1, "not signed"},
		"pull-other-key":    {pull("layout", "-key", w.path("other.pub")), 1, "no signature by a trusted key"},
		"pull-tampered":     {pull("tampered", build), 1, "the content has digest"},
		"pull-half-old":     {pull("layout", build, "-old-root", w.path("root1")), 2, "belong together"},
		"pull-no-old":       {pull("layout", build, "-o-root", w.path("x")), 2, "-o-root without -old-root"},
		"pull-old-no-tree":  {pull("layout", build, "-old-root", w.path("root1"), "-old-tree", w.path("root1")), 1, "no verity superblock"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			status, stdout, stderr := call3(t, tt.args...)
			assert.Equal(t, tt.status, status, stderr)
			assert.Empty(t, stdout)
			assert.Contains(t, stderr, tt.want)
			assert.NotContains(t, stderr, "release: release: ")
			assert.Equal(t, before, names(t, string(w)), "something was left behind")
		})
	}
	for _, args := range [][]string{{"-h"}, {"verify", "-h"}} {
		status, _, stderr := call3(t, args...)
		assert.Zero(t, status)
		assert.Contains(t, stderr, "example: release ")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var b bytes.Buffer
	assert.Equal(t, 2, program.Run(ctx, pack(), &b, &b))
	assert.Equal(t, before, names(t, string(w)))
}

// What a server alters after the manifest was verified is refused, and what was fetched so far can
// be gone on with.
func TestPullDamaged(t *testing.T) {
	w := newWorkshop(t)
	w.pack(t, "2")
	w.sign(t, "2")
	good := read(t, blob(t, w, "layout", "root2"))
	name := blob(t, w, "layout", "root2")
	// The first block is new, so that a patch has to fetch it.
	bad := bytes.Clone(good)
	bad[100] ^= 1
	require.NoError(t, os.WriteFile(name, bad, 0o600))
	pull := []string{"pull", w.path("layout"), "2", "-key", w.path("build.pub"), "-o", w.path("new")}
	old := []string{"-old-root", w.path("root1"), "-old-tree", w.path("tree1")}
	for _, more := range [][]string{nil, old, append(old, "-o-root", w.path("root"))} {
		status, stdout, stderr := call3(t, append(pull, more...)...)
		assert.Equal(t, 1, status, stderr)
		assert.Empty(t, stdout)
		status, _, stderr = call3(t, "inspect", w.path("new"), "2")
		assert.Equal(t, 2, status, "%s: it must not be listed", stderr)
		require.NoFileExists(t, w.path("root"))
	}
	require.NoError(t, os.WriteFile(name, good, 0o600))
	ok(t, pull...)
	ok(t, "inspect", w.path("new"), "2", "-check")
}
