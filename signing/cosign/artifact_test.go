package cosign_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/signing/cosign"
)

// testKeys are one key of each kind, made once.
var testKeys = sync.OnceValue(func() map[string]crypto.Signer {
	must := func(key crypto.Signer, err error) crypto.Signer {
		if err != nil {
			panic(err)
		}
		return key
	}
	curve := func(c elliptic.Curve) crypto.Signer {
		key, err := ecdsa.GenerateKey(c, rand.Reader)
		return must(key, err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	rsaKey, rsaErr := rsa.GenerateKey(rand.Reader, 2048)
	return map[string]crypto.Signer{
		"p256":    curve(elliptic.P256()),
		"p384":    curve(elliptic.P384()),
		"p521":    curve(elliptic.P521()),
		"ed25519": must(ed, err),
		"rsa":     must(rsaKey, rsaErr),
	}
})

func public(names ...string) (keys []crypto.PublicKey) {
	for _, name := range names {
		keys = append(keys, testKeys()[name].Public())
	}
	return keys
}

func publicPEM(t testing.TB, key crypto.PublicKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// newArtifact makes a layout with an artifact of the name v1.
func newArtifact(t testing.TB) (path string, dir *cosign.Dir, artifact ocispec.Descriptor) {
	t.Helper()
	path = t.TempDir()
	dir, err := cosign.OpenDir(path)
	require.NoError(t, err)
	return path, dir, addArtifact(t, dir, "v1")
}

func addArtifact(t testing.TB, dir *cosign.Dir, name string) ocispec.Descriptor {
	t.Helper()
	layer, err := dir.WriteBlob("application/octet-stream", strings.NewReader("layer of "+name))
	require.NoError(t, err)
	config, err := dir.WriteBlob(ocispec.MediaTypeEmptyJSON, strings.NewReader("{}"))
	require.NoError(t, err)
	desc, err := dir.WriteManifest(ocispec.Manifest{
		ArtifactType: "application/vnd.example.os.v1",
		Config:       config,
		Layers:       []ocispec.Descriptor{layer},
	}, name)
	require.NoError(t, err)
	return desc
}

func layoutIndex(t testing.TB, dir string) (index ocispec.Index) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "index.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &index))
	return index
}
