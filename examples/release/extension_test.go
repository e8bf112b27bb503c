package main

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/verity"
)

// extension writes a system extension whose extension-release has that text; unsigned, if it is to
// be.
func (w workshop) extension(t *testing.T, name, text string, signed bool) string {
	t.Helper()
	require.NoError(t, acmeos.WriteImage(w.path(name+".erofs"), map[string][]byte{"/usr/lib/extension-release.d/extension-release.tools": []byte(text)}))
	content, err := osmith.OpenFile(w.path(name + ".erofs"))
	require.NoError(t, err)
	defer content.Close()
	x := build.Extension{FileSystem: content, Architecture: "amd64", Seed: osmith.GUID{1}, UnsignedSoThatAnyoneCanReplaceIt: !signed}
	if signed {
		decode := func(name string) []byte {
			b, err := os.ReadFile("../../verity/testdata/signature/" + name)
			require.NoError(t, err)
			block, _ := pem.Decode(b)
			return block.Bytes
		}
		key, err := x509.ParsePKCS8PrivateKey(decode("key.pem"))
		require.NoError(t, err)
		x.Certificate, err = x509.ParseCertificate(decode("cert.pem"))
		require.NoError(t, err)
		rootHash, err := build.ExtensionRootHash(t.Context(), x)
		require.NoError(t, err)
		x.Signature, err = verity.SignRootHash(rootHash, key.(crypto.Signer), x.Certificate)
		require.NoError(t, err)
	}
	require.NoError(t, os.MkdirAll(w.path(name), 0o755))
	to, err := os.Create(w.path(name + "/tools.sysext.raw"))
	require.NoError(t, err)
	defer to.Close()
	_, err = build.WriteExtension(t.Context(), to, x)
	require.NoError(t, err)
	return to.Name()
}

func TestPackExtensions(t *testing.T) {
	w := newWorkshop(t)
	good := w.extension(t, "good", "ID=debian\nSYSEXT_SCOPE=initrd\n", true)
	r := w.pack(t, "2", "-extension", good)
	var i inspectResult
	object(t, &i, "inspect", w.path("layout"), r.Digest, "-check")
	assert.Equal(t, release.MediaTypeSysext, i.Layers[3].MediaType)
	assert.Equal(t, "tools.sysext.raw", i.Layers[3].Title)
	again := w.pack(t, "2", "-extension", good, "-ref", "again")
	assert.Equal(t, r.Digest, again.Digest)

	parts := []string{"pack", "-o", w.path("refused"), "-uki", w.path("uki2"), "-root", w.path("root2"), "-tree", w.path("tree2"), "-extension"}
	for name, c := range map[string]struct {
		file, want string
	}{
		"unsigned":      {w.extension(t, "unsigned", "ID=debian\n", false), "its root hash has no signature"},
		"of another OS": {w.extension(t, "other", "ID=fedora\n", true), `ID: want "debian", got "fedora"`},
		"no image":      {w.path("uki2"), "NAME.sysext.raw"},
	} {
		status, _, stderr := call3(t, append(parts, c.file)...)
		assert.NotZero(t, status, name)
		assert.Contains(t, stderr, c.want, name)
	}
	_, err := os.Stat(w.path("refused"))
	assert.ErrorIs(t, err, os.ErrNotExist)
}
