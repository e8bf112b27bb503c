package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/verity"
)

func call3(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	status = program.Run(context.Background(), args, &out, &err)
	return status, out.String(), err.String()
}

// ok runs what must work and returns what it prints.
func ok(t *testing.T, args ...string) string {
	t.Helper()
	status, stdout, stderr := call3(t, args...)
	require.Zero(t, status, stderr)
	require.Empty(t, stderr)
	return stdout
}

// object runs what must work with -json and decodes the one object.
func object(t *testing.T, into any, args ...string) {
	t.Helper()
	text := ok(t, append(args, "-json")...)
	decode(t, text, into)
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	require.NoError(t, dec.Decode(into), text)
	require.False(t, dec.More(), "one object")
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	return b
}

// names lists a directory, to find what was left behind.
func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// A workshop is a directory with two versions of a system (uki1, uki1-arm64, root1, tree1, hash1,
// ...), keys (build.key, build.pub, other.key, other.pub, cosign.key, which is build.key as cosign
// keeps it) and documents (sbom.json, pcrs.json, addon.efi).
type workshop string

func (w workshop) path(name string) string { return filepath.Join(string(w), name) }

func (w workshop) write(t *testing.T, name string, b []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(w.path(name), b, 0o600))
}

func assembled(t *testing.T, of interface {
	Assemble() (*uki.Assembled, error)
}) []byte {
	t.Helper()
	a, err := of.Assemble()
	require.NoError(t, err)
	var b bytes.Buffer
	_, err = a.WriteTo(&b)
	require.NoError(t, err)
	return b.Bytes()
}

func newWorkshop(t *testing.T) workshop {
	t.Helper()
	w := workshop(t.TempDir())
	old := make([]byte, 64*4096)
	_, _ = mathrand.NewChaCha8([32]byte{1}).Read(old)
	next := append(bytes.Repeat([]byte{7}, 4096), old[:63*4096]...)
	for v, root := range map[string][]byte{"1": old, "2": next} {
		w.write(t, "root"+v, root)
		f, err := os.Create(w.path("tree" + v))
		require.NoError(t, err)
		hash, err := verity.Format(t.Context(), f, bytes.NewReader(root), verity.Params{Salt: []byte{1}, UUID: [16]byte{2}})
		require.NoError(t, err)
		require.NoError(t, f.Close())
		w.write(t, "hash"+v, []byte(hex.EncodeToString(hash)))
		image := uki.Image{Stub: bytes.NewReader(petest.Stub("262")), Linux: bytes.NewReader(petest.Kernel("6.12.0")), Cmdline: "roothash=" + hex.EncodeToString(hash),
			OSRelease: []byte("ID=debian\nIMAGE_ID=acme\nIMAGE_VERSION=" + v + "\n")}
		unified := assembled(t, &image)
		w.write(t, "uki"+v, unified)
		// for another machine, as far as its header goes
		binary.LittleEndian.PutUint16(unified[binary.LittleEndian.Uint32(unified[0x3c:])+4:], 0xaa64)
		w.write(t, "uki"+v+"-arm64", unified)
	}
	build, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	_, other, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	for name, key := range map[string]crypto.Signer{"build": build, "other": other} {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		require.NoError(t, err)
		w.write(t, name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
		public, err := cryptoutils.MarshalPublicKeyToPEM(key.Public())
		require.NoError(t, err)
		w.write(t, name+".pub", public)
	}
	der, err := cryptoutils.MarshalPrivateKeyToEncryptedDER(build, cryptoutils.StaticPasswordFunc([]byte("secret")))
	require.NoError(t, err)
	w.write(t, "cosign.key", cryptoutils.PEMEncode(cryptoutils.EncryptedSigstorePrivateKeyPEMType, der))
	w.write(t, "sbom.json", []byte(`{"spdxVersion":"SPDX-2.3"}`))
	w.write(t, "bom.json", []byte(`{"bomFormat":"CycloneDX"}`))
	w.write(t, "pcrs.json", []byte(`{}`))
	w.write(t, "debug.addon.efi", assembled(t, &uki.Addon{Stub: bytes.NewReader(petest.AddonStub("262")), Cmdline: "debug"}))
	return w
}

// pack packs a version, with more flags.
func (w workshop) pack(t *testing.T, version string, more ...string) (r packResult) {
	t.Helper()
	object(t, &r, append([]string{"pack", "-o", w.path("layout"), "-uki", w.path("uki" + version), "-root", w.path("root" + version),
		"-tree", w.path("tree" + version)}, more...)...)
	return r
}

func (w workshop) sign(t *testing.T, ref string, more ...string) {
	t.Helper()
	ok(t, append([]string{"sign", w.path("layout"), ref, "-key", w.path("build.key")}, more...)...)
}
