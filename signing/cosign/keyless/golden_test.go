package keyless_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/signing/cosign/keyless"
	"github.com/osmith-dev/osmith/signing/cosign/keyless/internal/sigstoretest"
	"github.com/osmith-dev/osmith/upgrade/release"
)

var update = flag.Bool("update", false, "make testdata/identities anew")

// writeGolden makes a layout with two releases, of which release@acme.example has signed the first,
// and the trusted roots of the Sigstore instance that says so and of another one.
func writeGolden(t *testing.T, dir string) {
	t.Helper()
	require.NoError(t, os.RemoveAll(dir))
	layout, err := cosign.OpenDir(filepath.Join(dir, "layout"))
	require.NoError(t, err)
	r := &release.Release{ID: "acme", Version: "2", UKI: strings.NewReader("uki"), Root: strings.NewReader("root"),
		Tree: strings.NewReader("tree"), RootHash: make([]byte, 32)}
	d, err := release.PackInto(layout, "2", r)
	require.NoError(t, err)
	r.Version = "3"
	_, err = release.PackInto(layout, "3", r)
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
	require.NoError(t, os.WriteFile(filepath.Join(dir, "trusted_root.json"), s.TrustedRoot(t), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "other_root.json"), sigstoretest.New(t).TrustedRoot(t), 0o644))
}

// What was signed once is verified for ever, however long ago its certificate expired. The program
// examples/release has the same files to verify.
func TestGolden(t *testing.T) {
	dir := filepath.Join("testdata", "identities")
	if *update {
		writeGolden(t, dir)
	}
	layout, err := cosign.OpenLayout(os.DirFS(filepath.Join(dir, "layout")))
	require.NoError(t, err)
	for name, want := range map[string]error{"trusted_root.json": nil, "other_root.json": cosign.ErrUntrusted} {
		root, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		verifier, err := keyless.New(root, private)
		require.NoError(t, err)
		d, err := layout.Resolve("2")
		require.NoError(t, err)
		result, err := cosign.Verify(t.Context(), layout, d, cosign.Policy{Identities: verifier, Authorities: []cosign.Authority{
			{Name: "ci", Identities: []cosign.Identity{{Issuer: "https://issuer.example", Subject: "release@acme.example"}}}}})
		require.ErrorIs(t, err, want)
		if want == nil {
			assert.Equal(t, "release@acme.example", result.Signatures[0].Identity.Subject)
		}
	}
}
