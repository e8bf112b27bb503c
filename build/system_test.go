package build_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/verity"
)

func ecKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

func parts() build.Parts {
	return build.Parts{Root: bytes.NewReader(bytes.Repeat([]byte("root"), 64<<10)), Seed: osmith.GUID{1}, UKI: build.UKIParts{Image: image()}, Loader: bytes.NewReader(petest.Loader("262"))}
}

// system makes a set that the test closes.
func system(t *testing.T, p build.Parts) *build.Set {
	t.Helper()
	set, err := build.System(t.Context(), t.TempDir(), p, testKeys())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, set.Close()) })
	return set
}

func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestSystem(t *testing.T) {
	keys := testKeys()
	dir := t.TempDir()
	var before [][]byte
	for range 2 { // the second replaces what the first has made, and is the same
		set, err := build.System(t.Context(), dir, parts(), keys)
		require.NoError(t, err)
		require.Equal(t, []string{"acme_1.efi", "acme_1.verity.raw"}, names(t, dir))
		require.Equal(t, []string{"acme", "1", "amd64"}, []string{set.ID, set.Version, set.Architecture})
		require.NoError(t, verity.Verify(t.Context(), set.Root, set.Tree, set.RootHash))
		s, err := set.Signature()
		require.NoError(t, err)
		_, err = s.Verify([]*x509.Certificate{keys.Verity.Cert})
		require.NoError(t, err)
		for _, src := range []osmith.Source{set.UKI, set.Loader} {
			_, err = authenticode.Verify(src, []*x509.Certificate{keys.SecureBoot.Cert})
			require.NoError(t, err)
		}
		usr, err := set.Usr()
		require.NoError(t, err)
		require.False(t, usr)
		require.NoError(t, set.Check(t.Context()))
		require.NoError(t, set.Close())
		var now [][]byte
		for _, name := range names(t, dir) {
			b, err := os.ReadFile(filepath.Join(dir, name))
			require.NoError(t, err)
			now = append(now, b)
		}
		if before != nil {
			require.Equal(t, before, now)
		}
		before = now
	}

	// A system that runs from its initrd, and one of /usr.
	p := parts()
	p.Root = nil
	require.Empty(t, system(t, p).RootHash)
	p = parts()
	p.Usr = true
	usr, err := system(t, p).Usr()
	require.NoError(t, err)
	require.True(t, usr)

	// A loader that has our signature stays as it is.
	loader, err := build.SignLoader(bytes.NewReader(petest.Loader("262")), keys)
	require.NoError(t, err)
	again, err := build.SignLoader(loader, keys)
	require.NoError(t, err)
	require.Equal(t, loader, again)
}

// After an error, nothing is left of what was begun, and what was there is as it was.
func TestSystemRefused(t *testing.T) {
	for text, change := range map[string]func(p *build.Parts, k *build.Keys){
		"neither a Seed nor":          func(p *build.Parts, _ *build.Keys) { p.Seed = osmith.GUID{} },
		"Usr without a Root":          func(p *build.Parts, _ *build.Keys) { p.Root, p.Usr = nil, true },
		"UKI: Linux: ":                func(p *build.Parts, _ *build.Keys) { p.UKI.Image.Linux = strings.NewReader("x") },
		"boot loader: ":               func(p *build.Parts, _ *build.Keys) { p.Loader = strings.NewReader("x") },
		"boot loader of 16777217 byt": func(p *build.Parts, _ *build.Keys) { p.Loader = bytes.NewReader(make([]byte, 16<<20+1)) },
		"hash tree: ":                 func(p *build.Parts, _ *build.Keys) { p.Root = strings.NewReader("no whole block") },
		"begins with its superblock":  func(p *build.Parts, _ *build.Keys) { p.Verity.NoSuperblock, p.Verity.Salt = true, []byte{1} },
		"the verity key has no cert":  func(_ *build.Parts, k *build.Keys) { k.Verity.Cert = nil },
		"IMAGE_VERSION":               func(p *build.Parts, _ *build.Keys) { p.UKI.Image.OSRelease = []byte("ID=acme\n") },
	} {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "acme_1.efi"), []byte("old"), 0o600))
		p, k := parts(), testKeys()
		change(&p, &k)
		set, err := build.System(t.Context(), dir, p, k)
		require.ErrorContains(t, err, text, text)
		require.Nil(t, set)
		require.Equal(t, []string{"acme_1.efi"}, names(t, dir), text)
		b, err := os.ReadFile(filepath.Join(dir, "acme_1.efi"))
		require.NoError(t, err)
		require.Equal(t, "old", string(b))
	}
}
