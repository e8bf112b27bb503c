package release_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/upgrade/extension"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// lockedImage takes writes of several.
type lockedImage struct {
	mu sync.Mutex
	image
}

func (m *lockedImage) WriteAt(b []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.image.WriteAt(b, off)
}

// extensionImage is a signed extension, or an unsigned one.
func extensionImage(t *testing.T, signed bool) *bytes.Reader {
	t.Helper()
	x := build.Extension{FileSystem: bytes.NewReader(make([]byte, 8192)), Architecture: "amd64", Seed: [16]byte{1}, UnsignedSoThatAnyoneCanReplaceIt: !signed}
	if signed {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Unix(4e9, 0)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		require.NoError(t, err)
		x.Key = key
		x.Certificate, err = x509.ParseCertificate(der)
		require.NoError(t, err)
	}
	var w lockedImage
	_, err := build.WriteExtension(t.Context(), &w, x)
	require.NoError(t, err)
	return bytes.NewReader(w.image)
}

// Extensions are layers of types of their own, with what is stated of them.
func TestExtensions(t *testing.T) {
	dir := t.TempDir()
	c := contents()
	c.Extensions = []extension.File{
		{Name: "site.confext.raw", Content: strings.NewReader("confext")},
		{Name: "tools.sysext.raw", Content: strings.NewReader("sysext"), Release: []byte("ID=acme\nVERSION_ID=2\n")},
	}
	d, err := release.Pack(dir, "v2", c)
	require.NoError(t, err)
	r, err := release.Open(t.Context(), os.DirFS(dir), d)
	require.NoError(t, err)
	defer r.Close()
	require.Len(t, r.Extensions, 2) // in the order of the manifest: system extensions first
	for i, want := range []extension.File{c.Extensions[1], c.Extensions[0]} {
		require.Equal(t, want.Name, r.Extensions[i].Name)
		require.Equal(t, want.Release, r.Extensions[i].Release)
		b, err := io.ReadAll(io.NewSectionReader(r.Extensions[i].Content, 0, r.Extensions[i].Content.Size()))
		require.NoError(t, err)
		require.Equal(t, readAll(want.Content), b)
	}
	for name, x := range map[string]extension.File{
		`file name "tools.raw"`:                      {Name: "tools.raw", Content: strings.NewReader("x")},
		"there are two of the name":                  {Name: "tools.sysext.raw", Content: strings.NewReader("x")},
		`configuration extension "x.confext.raw"`:    {Name: "x.confext.raw"},
		`system extension "a b.sysext.raw": charact`: {Name: "a b.sysext.raw", Content: strings.NewReader("x")},
	} {
		bad := *c
		bad.Extensions = append(bad.Extensions[:2:2], x)
		_, err := release.Pack(t.TempDir(), "v2", &bad)
		require.ErrorContains(t, err, name)
	}
}

// A manifest whose extension has a name of the other kind, or of none, is no release: the stub goes
// by the name.
func TestExtensionNamesOfManifest(t *testing.T) {
	dir := t.TempDir()
	d, err := release.Pack(dir, "v2", contents())
	require.NoError(t, err)
	blob := func(d digest.Digest) string { return filepath.Join(dir, "blobs", "sha256", d.Encoded()) }
	for title, want := range map[string]string{"tools.confext.raw": "want a name NAME.sysext.raw or NAME.confext.raw", "tools.raw": "want a name NAME.sysext.raw or NAME.confext.raw", "": "0 characters"} {
		b, err := os.ReadFile(blob(d.Digest))
		require.NoError(t, err)
		var m ocispec.Manifest
		require.NoError(t, json.Unmarshal(b, &m))
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: release.MediaTypeSysext, Digest: digest.FromString("uki"), Size: 3, Annotations: map[string]string{ocispec.AnnotationTitle: title}})
		b, err = json.Marshal(m)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(blob(digest.FromBytes(b)), b, 0o644))
		_, err = release.Open(t.Context(), os.DirFS(dir), ocispec.Descriptor{Digest: digest.FromBytes(b), Size: int64(len(b))})
		require.ErrorContains(t, err, want)
	}
}

func TestCheckExtensions(t *testing.T) {
	signed := extensionImage(t, true)
	damaged := readAll(signed)
	damaged[40*512+100] ^= 1
	for name, c := range map[string]struct {
		x    extension.File
		want string
	}{
		"as it is":        {extension.File{Name: "tools.sysext.raw", Content: signed, Release: []byte("ID=debian\n")}, ""},
		"for any":         {extension.File{Name: "tools.confext.raw", Content: signed, Release: []byte("ID=_any\nARCHITECTURE=x86-64\n")}, ""},
		"nothing stated":  {extension.File{Name: "tools.sysext.raw", Content: signed}, "is not stated"},
		"of another OS":   {extension.File{Name: "tools.sysext.raw", Content: signed, Release: []byte("ID=fedora\n")}, `ID: want "debian", got "fedora"`},
		"another machine": {extension.File{Name: "tools.sysext.raw", Content: signed, Release: []byte("ID=_any\nARCHITECTURE=arm64\n")}, "ARCHITECTURE"},
		"unsigned":        {extension.File{Name: "tools.sysext.raw", Content: extensionImage(t, false), Release: []byte("ID=_any\n")}, "its root hash has no signature, so any program that can write to the boot partition could replace it"},
		"damaged":         {extension.File{Name: "tools.sysext.raw", Content: bytes.NewReader(damaged), Release: []byte("ID=_any\n")}, "data is damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			r := consistent()
			r.Extensions = []extension.File{c.x}
			err := r.Check(t.Context())
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, "extension "+c.x.Name)
			require.ErrorAs(t, err, new(*release.InconsistentError))
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := consistent()
	r.Extensions = []extension.File{{Name: "tools.sysext.raw", Content: signed, Release: []byte("ID=_any\n")}}
	require.ErrorIs(t, r.Check(ctx), context.Canceled)
}
