package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/upgrade/release"
)

func TestPack(t *testing.T) {
	w := newWorkshop(t)
	r := w.pack(t, "2", "-arch", "amd64", "-roothash", string(read(t, w.path("hash2"))), "-loader", w.path("uki1"), "-addon", w.path("debug.addon.efi"),
		"-pcrs", w.path("pcrs.json"), "-sbom", w.path("sbom.json"), "-sbom", w.path("bom.json"))
	assert.Equal(t, "osmith.release-report/1", r.Schema)
	assert.Equal(t, []string{"acme", "2", "2", string(read(t, w.path("hash2")))}, []string{r.ID, r.Version, r.Ref, r.RootHash})
	again := w.pack(t, "2", "-id", "acme", "-version", "2", "-ref", "other")
	assert.Equal(t, []string{"acme", "2", "other"}, []string{again.ID, again.Version, again.Ref})

	var i inspectResult
	object(t, &i, "inspect", w.path("layout"), "2", "-check")
	assert.Equal(t, r.Digest, i.Digest)
	assert.Equal(t, []string{"release", "acme", "2", "amd64", r.RootHash}, []string{i.Kind, i.ID, i.Version, i.Arch, i.RootHash})
	assert.True(t, i.Checked)
	assert.Equal(t, r.Size, i.Size)
	var types []string
	for _, l := range i.Layers {
		types = append(types, l.MediaType)
	}
	assert.Equal(t, []string{release.MediaTypeUKI, release.MediaTypeRoot, release.MediaTypeTree, release.MediaTypeLoader, release.MediaTypeAddon,
		release.MediaTypePCRs, release.MediaTypeSPDX, release.MediaTypeCycloneDX, release.MediaTypeUKISections}, types)
	assert.Equal(t, "debug.addon.efi", i.Layers[4].Title)

	text := ok(t, "inspect", w.path("layout"), r.Digest)
	for _, want := range []string{"release acme 2", r.Digest, r.RootHash, "acme_2.root.raw", "not verified: 0"} {
		assert.Contains(t, text, want)
	}
	assert.Equal(t, "acme 2\n"+r.Digest+"\n", ok(t, "pack", "-o", w.path("layout"), "-uki", w.path("uki2"), "-root", w.path("root2"), "-tree", w.path("tree2"),
		"-arch", "amd64", "-loader", w.path("uki1"), "-addon", w.path("debug.addon.efi"),
		"-pcrs", w.path("pcrs.json"), "-sbom", w.path("sbom.json"), "-sbom", w.path("bom.json")), "the same parts, the same digest")
}

func TestSignAndVerify(t *testing.T) {
	w := newWorkshop(t)
	r := w.pack(t, "2")
	t.Setenv("COSIGN_PASSWORD", "secret")
	var s signResult
	object(t, &s, "sign", w.path("layout"), "2", "-key", w.path("cosign.key"), "-format", "legacy", "-reference", "registry.example/os")
	assert.Equal(t, []string{"legacy"}, s.Formats)
	assert.Equal(t, r.Digest, s.Digest)
	object(t, &s, "sign", w.path("layout"), "2", "-key", w.path("other.key"))
	assert.Equal(t, []string{"legacy", "bundle"}, s.Formats)
	other := s.Key
	object(t, &s, "attest", w.path("layout"), "2", "-key", w.path("build.key"), "-type", "spdx", "-predicate", w.path("sbom.json"))
	assert.Equal(t, "https://spdx.dev/Document", s.Type)
	w.write(t, "policy.json", []byte(`{"schema": "osmith.policy/1", "rules": [{"repository": "updates.example/acme", "threshold": 2,
		"authorities": [{"name": "build", "keys": ["build.pub"]}, {"name": "other", "keys": ["other.pub"], "notAfter": "2030-01-01T00:00:00Z"}],
		"attestations": [{"predicateTypes": ["https://spdx.dev/Document"], "authorities": ["build"]}]}]}`))
	verify := []string{"verify", w.path("layout"), "2", "-policy", w.path("policy.json"), "-repository", "updates.example/acme"}

	var v verifyResult
	object(t, &v, append(verify, "-at", "2026-01-01T00:00:00Z")...)
	assert.True(t, v.Verified)
	assert.Equal(t, r.Digest, v.Digest)
	assert.Len(t, v.Signatures, 3)
	assert.Equal(t, s.Key, v.Attestations[0].Key)
	assert.Equal(t, "build", v.Attestations[0].Authority)
	text := ok(t, append(verify, "-at", "2026-01-01T00:00:00Z")...)
	assert.Contains(t, text, `signed by "other", key `+other+" (bundle, sha256:")
	assert.Contains(t, text, `https://spdx.dev/Document by "build", key `)

	v = verifyResult{}
	status, stdout, stderr := call3(t, append(verify, "-at", "2031-01-01T00:00:00Z", "-json")...)
	require.Equal(t, 1, status)
	decode(t, stdout, &v)
	assert.Equal(t, "untrusted", v.Reason)
	assert.False(t, v.Verified)
	assert.Equal(t, "notValid", v.Rejected[0].Reason)
	assert.Contains(t, stderr, "want signatures of 2 of 2 authorities")

	var i inspectResult
	object(t, &i, "inspect", w.path("layout"), "2")
	assert.Len(t, i.Signatures, 3)
}

// A machine fetches the release of a multi-architecture index from a web server, whole and by its
// old root, and can verify again what it has.
func TestPull(t *testing.T) {
	w := newWorkshop(t)
	one := w.pack(t, "2", "-arch", "amd64", "-ref", "2-amd64")
	w.pack(t, "2", "-arch", "arm64", "-uki", w.path("uki2-arm64"), "-ref", "2-arm64", "-loader", w.path("uki1"))
	var index packResult
	object(t, &index, "index", "-o", w.path("layout"), "-ref", "2", "amd64=2-amd64", "arm64=2-arm64")
	w.sign(t, "2")
	fetched := map[string]int{} // whole files and parts of them
	files := http.FileServer(http.Dir(w.path("layout")))
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		fetched[path.Base(r.URL.Path)]++
		files.ServeHTTP(rw, r)
	}))
	defer server.Close()
	pull := func(to string, more ...string) (r pullResult) {
		object(t, &r, append([]string{"pull", server.URL, "2", "-key", w.path("build.pub"), "-arch", "amd64", "-o", w.path(to)}, more...)...)
		assert.Equal(t, index.Digest, r.Digest)
		assert.Equal(t, one.Digest, r.Release)
		assert.Len(t, r.Signatures, 2)
		assert.Equal(t, one.RootHash, r.RootHash)
		assert.Contains(t, ok(t, "verify", w.path(to), "2", "-key", w.path("build.pub")), index.Digest)
		return r
	}
	for range 2 { // again fetches nothing
		assert.Nil(t, pull("whole").Patch)
		ok(t, "inspect", w.path("whole"), one.Digest, "-check")
	}
	clear(fetched)
	r := pull("patched", "-old-root", w.path("root1"), "-old-tree", w.path("tree1"))
	for _, name := range []string{"root2", "tree2", "uki2"} {
		// of the root file system, the part that is new
		sum := sha256.Sum256(read(t, w.path(name)))
		assert.Equal(t, 1, fetched[hex.EncodeToString(sum[:])], name)
	}
	assert.Equal(t, &patched{Reused: 63 * 4096, Fetched: 4096, Requests: 1}, r.Patch)
	ok(t, "inspect", w.path("patched"), one.Digest, "-check")
	assert.Equal(t, names(t, w.path("whole/blobs/sha256")), names(t, w.path("patched/blobs/sha256")))

	clear(fetched)
	uki := pull("uki", "-old-uki", w.path("uki1"))
	size := int64(len(read(t, w.path("uki2"))))
	require.NotNil(t, uki.UKIPatch)
	assert.Equal(t, size, uki.UKIPatch.Reused+uki.UKIPatch.Fetched)
	assert.Greater(t, uki.UKIPatch.Reused, size/4)
	sum := sha256.Sum256(read(t, w.path("uki2")))
	assert.EqualValues(t, uki.UKIPatch.Requests, fetched[hex.EncodeToString(sum[:])])
	ok(t, "inspect", w.path("uki"), one.Digest, "-check")
	status, _, stderr := call3(t, "pull", server.URL, "2", "-key", w.path("build.pub"), "-arch", "amd64", "-o", w.path("none"), "-old-uki", w.path("root1"))
	assert.Zero(t, status)
	assert.Contains(t, stderr, "release: old UKI: ")
	assert.Contains(t, stderr, "not a PE image: all of the UKI is fetched")
	ok(t, "inspect", w.path("none"), one.Digest, "-check")

	pull("slot", "-old-root", w.path("root1"), "-old-tree", w.path("tree1"), "-o-root", w.path("new-root"))
	assert.Equal(t, read(t, w.path("root2")), read(t, w.path("new-root")))
	status, _, stderr = call3(t, "inspect", w.path("slot"), one.Digest, "-check")
	assert.Equal(t, 1, status, stderr)

	text := ok(t, "pull", w.path("whole"), "2", "-key", w.path("build.pub"), "-arch", "amd64", "-o", w.path("copy"))
	assert.Contains(t, text, "acme 2\n"+one.Digest+"\nsigned by key ")
	text = ok(t, "inspect", server.URL+"/", "2")
	assert.Contains(t, text, "index of 2 releases")
}

// A server without ranges costs more, and nothing else.
func TestPullWithoutRanges(t *testing.T) {
	w := newWorkshop(t)
	packed := w.pack(t, "2")
	w.sign(t, "2")
	files := http.FileServer(http.Dir(w.path("layout")))
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		r.Header.Del("Range")
		files.ServeHTTP(rw, r)
	}))
	defer server.Close()
	pull := []string{"pull", server.URL, "2", "-key", w.path("build.pub"), "-o", w.path("to"), "-old-root", w.path("root1"), "-old-tree", w.path("tree1")}
	status, _, stderr := call3(t, append(pull, "-o-root", w.path("new-root"))...)
	assert.Equal(t, 2, status)
	assert.Contains(t, stderr, release.ErrNoRanges.Error())
	assert.NoFileExists(t, w.path("new-root"))
	status, stdout, stderr := call3(t, pull...)
	assert.Zero(t, status, stderr)
	assert.Contains(t, stderr, "all of the root file system is fetched")
	assert.Contains(t, stdout, packed.Digest)
	ok(t, "inspect", w.path("to"), "2", "-check")
}

func TestServe(t *testing.T) {
	w := newWorkshop(t)
	w.pack(t, "2")
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	r, wr, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	ended := make(chan int)
	go func() {
		ended <- program.Run(ctx, []string{"serve", w.path("layout"), "-json"}, wr, wr)
	}()
	b := make([]byte, 1000)
	n, err := r.Read(b)
	require.NoError(t, err)
	var s serveResult
	decode(t, string(b[:n]), &s)
	assert.Contains(t, ok(t, "inspect", s.URL, "2", "-check"), "every blob is what its digest says")
	stop()
	assert.Zero(t, <-ended)
	require.NoError(t, wr.Close())
}
