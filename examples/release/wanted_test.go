package main

import (
	"bytes"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/ocilayout"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// rename lets another name in a layout's index stand for what has a name there, as the server of
// the layout can.
func rename(t *testing.T, layout, from, to string) {
	t.Helper()
	name := filepath.Join(layout, "index.json")
	const key = `"org.opencontainers.image.ref.name":`
	text := strings.ReplaceAll(string(read(t, name)), key+`"`+from+`"`, key+`"`+to+`"`)
	require.Contains(t, text, key+`"`+to+`"`)
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
}

// A mirror has good signatures of everything the vendor ever released. What it hands out under
// another name, or for another machine, is not what was asked for.
func TestPullIsWhatWasAskedFor(t *testing.T) {
	w := newWorkshop(t)
	one, two := w.pack(t, "1"), w.pack(t, "2")
	elsewhere := w.pack(t, "2", "-uki", w.path("uki2-arm64"), "-ref", "2-arm64")
	object(t, new(packResult), "index", "-o", w.path("layout"), "-ref", "v2", "amd64=2", "arm64=2-arm64")
	for _, ref := range []string{"1", "2", "2-arm64", "v2"} {
		w.sign(t, ref)
	}
	mirror := w.path("mirror")
	require.NoError(t, os.CopyFS(mirror, os.DirFS(w.path("layout"))))
	rename(t, mirror, "2-arm64", "2-amd64")
	rename(t, mirror, "2", "latest")
	rename(t, mirror, "v2", "6")
	rename(t, mirror, "1", "5")
	server := httptest.NewServer(http.FileServer(http.Dir(mirror)))
	defer server.Close()
	key := "-key=" + w.path("build.pub")
	for _, from := range []string{mirror, server.URL} {
		for name, tt := range map[string]struct {
			args []string
			want string // empty: it is taken
		}{
			"old under a new name":      {[]string{"5"}, `the release named "5" has version "1", want the same: if that is what you want, say -version 1`},
			"index under a new name":    {[]string{"6", "-arch", "amd64"}, `the release named "6" has version "2", want the same`},
			"version that is said":      {[]string{"5", "-version", "5"}, `version: want "5", got "1"`},
			"other architecture's":      {[]string{"2-amd64", "-arch", "amd64"}, `architecture: want "amd64", got "arm64"`},
			"not for this architecture": {[]string{one.Digest, "-arch", "arm64"}, `architecture: want "arm64", got "amd64"`},
			"product":                   {[]string{one.Digest, "-id", "other"}, `product: want "other", got "acme"`},
			"variant":                   {[]string{one.Digest, "-variant", "server"}, `variant: got none, want "server"`},
			"a name that says nothing":  {[]string{"latest", "-arch", "amd64"}, `the release named "latest" has version "2", want the same`},
			"another machine's":         {[]string{map[bool]string{true: two.Digest, false: elsewhere.Digest}[runtime.GOARCH == "arm64"]}, `architecture: want "` + runtime.GOARCH + `"`},
			"by its version":            {[]string{"5", "-version", "1", "-arch", "amd64"}, ""},
			"by its digest":             {[]string{two.Digest, "-version", "2", "-id", "acme", "-arch", "amd64"}, ""},
			"whatever it is":            {[]string{"latest", "-accept-any-version", "-arch", "amd64"}, ""},
		} {
			t.Run(name, func(t *testing.T) {
				to := filepath.Join(t.TempDir(), "to")
				status, stdout, stderr := call3(t, append([]string{"pull", from, key, "-o", to}, tt.args...)...)
				if tt.want == "" {
					require.Zero(t, status, stderr)
					return
				}
				assert.Equal(t, 1, status, stderr)
				assert.Contains(t, stderr, tt.want)
				assert.Empty(t, stdout)
				assert.NoDirExists(t, to, "nothing is fetched")
			})
		}
		var v verifyResult
		status, stdout, stderr := call3(t, "verify", from, "5", key, "-json")
		assert.Equal(t, 1, status)
		decode(t, stdout, &v)
		assert.Equal(t, "wanted", v.Reason)
		assert.False(t, v.Verified)
		assert.Contains(t, stderr, `the release named "5" has version "1", want the same`)
		status, _, stderr = call3(t, "verify", from, "6", key)
		assert.Equal(t, 1, status)
		assert.Contains(t, stderr, `the release named "6" has version "2", want the same`)
		ok(t, "verify", from, "5", "-version", "1", key)
		ok(t, "verify", from, "6", "-version", "2", key)
	}
}

// What does not belong together is neither packed nor called good.
func TestPackJudges(t *testing.T) {
	w := newWorkshop(t)
	pack := []string{"pack", "-o", w.path("layout"), "-uki", w.path("uki2"), "-root", w.path("root2"), "-tree", w.path("tree2")}
	for name, tt := range map[string]struct {
		more []string
		want string
	}{
		"other UKI":    {[]string{"-uki", w.path("uki1")}, "root hash of the UKI's command line is " + string(read(t, w.path("hash1")))},
		"version":      {[]string{"-version", "3"}, `the release has version "3", but its UKI has "2"`},
		"product":      {[]string{"-id", "other"}, `the release has product "other", but its UKI has "acme"`},
		"variant":      {[]string{"-variant", "debug"}, `the release has variant "debug", but its UKI has ""`},
		"architecture": {[]string{"-arch", "arm64"}, `the release has architecture "arm64", but its UKI has "amd64"`},
	} {
		status, stdout, stderr := call3(t, append(pack, tt.more...)...)
		assert.Equal(t, 1, status, "%s: %s", name, stderr)
		assert.Contains(t, stderr, "the parts of the release do not belong together: "+tt.want, name)
		assert.Empty(t, stdout, name)
		assert.NoDirExists(t, w.path("layout"), name)
	}
}

// What another program has packed is judged, too, in a directory and behind a server, and so is
// what an index says about it.
func TestInspectJudges(t *testing.T) {
	w := newWorkshop(t)
	part := func(name string) *bytes.Reader { return bytes.NewReader(read(t, w.path(name))) }
	hash, err := hex.DecodeString(string(read(t, w.path("hash2"))))
	require.NoError(t, err)
	good := w.pack(t, "2")
	_, err = release.Pack(w.path("layout"), "bad", &release.Release{ID: "acme", Version: "2", UKI: part("uki1"), Root: part("root2"), Tree: part("tree2"), RootHash: hash})
	require.NoError(t, err)
	one := w.pack(t, "1", "-uki", w.path("uki1-arm64"))
	l, err := cosign.OpenLayout(os.DirFS(w.path("layout")))
	require.NoError(t, err)
	entries := map[string]ocispec.Descriptor{}
	for _, d := range []string{good.Digest, one.Digest} {
		entries[d], err = l.Resolve(d)
		require.NoError(t, err)
	}
	for ref, index := range map[string]map[string]ocispec.Descriptor{
		"good-index": {"amd64": entries[good.Digest]}, "bad-arch": {"arm64": entries[good.Digest]}, "bad-version": {"amd64": entries[good.Digest], "arm64": entries[one.Digest]},
	} {
		_, err := release.PackIndex(w.path("layout"), ref, index)
		require.NoError(t, err)
	}
	server := httptest.NewServer(http.FileServer(http.Dir(w.path("layout"))))
	defer server.Close()
	for _, from := range []string{w.path("layout"), server.URL} {
		for _, ref := range []string{"2", "good-index"} {
			assert.Contains(t, ok(t, "inspect", from, ref, "-check"), "and the parts belong together")
		}
		for ref, want := range map[string]string{
			"bad":         `the release has version "2", but its UKI has "1"`,
			"bad-arch":    `architecture: want "arm64", got "amd64"`,
			"bad-version": `version: want "2", got "1"`,
		} {
			status, stdout, stderr := call3(t, "inspect", from, ref, "-check")
			assert.Equal(t, 1, status, ref)
			assert.Contains(t, stderr, want, ref)
			assert.Empty(t, stdout, ref)
			ok(t, "inspect", from, ref)
		}
	}
}

// An index of no release is none of a version, however it is signed, and no channel offers it.
func TestIndexOfNothing(t *testing.T) {
	w := newWorkshop(t)
	layout, err := ocilayout.Create(w.path("layout"))
	require.NoError(t, err)
	for ref, manifests := range map[string][]ocispec.Descriptor{"5": {}, "6": nil} {
		d, err := layout.WriteIndex(ocispec.Index{ArtifactType: release.ArtifactType, Manifests: manifests}, ref)
		require.NoError(t, err)
		w.sign(t, ref)
		for _, args := range [][]string{{"verify", w.path("layout"), ref}, {"verify", w.path("layout"), ref, "-version", ref}, {"verify", w.path("layout"), d.Digest.String(), "-version", ref}} {
			status, stdout, stderr := call3(t, append(args, "-key", w.path("build.pub"))...)
			assert.Equal(t, 1, status, args)
			assert.Empty(t, stdout, args)
			assert.Contains(t, stderr, "an index of 0 releases, want 1 to 100", args)
		}
		ok(t, "inspect", w.path("layout"), ref)
		status, _, stderr := call3(t, "inspect", w.path("layout"), ref, "-check")
		assert.Equal(t, 1, status)
		assert.Contains(t, stderr, "an index of 0 releases, want 1 to 100")
	}
}
