package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/verity"
)

// buffer is a file in memory.
type buffer struct {
	mu sync.Mutex
	b  []byte
}

func (w *buffer) WriteAt(p []byte, off int64) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := off + int64(len(p)); n > int64(len(w.b)) {
		w.b = append(w.b, make([]byte, n-int64(len(w.b)))...)
	}
	return copy(w.b[off:], p), nil
}

// noise are bytes that do not compress, the same ones every time.
func noise(n int) []byte {
	b := make([]byte, n)
	if _, err := rand.NewChaCha8([32]byte{1}).Read(b); err != nil {
		panic(err)
	}
	return b
}

// extensionFS is the file system of a small system extension.
func extensionFS(t testing.TB) *bytes.Reader {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "x.erofs"))
	require.NoError(t, err)
	tree := fstest.MapFS{"usr/lib/extension-release.d/extension-release.tool": {Data: []byte("ID=_any\n"), Mode: 0o644}}
	require.NoError(t, WriteEROFS(t.Context(), f, tree, EROFSOptions{TempDir: t.TempDir()}))
	require.NoError(t, f.Close())
	b, err := os.ReadFile(f.Name())
	require.NoError(t, err)
	return bytes.NewReader(b)
}

func TestExtensionIsDeterministic(t *testing.T) {
	key, cert := keyPair(t)
	// no whole number of blocks
	x := Extension{FileSystem: bytes.NewReader(noise(70_000)), Architecture: "arm64", Seed: seed, Key: key, Certificate: cert}
	var a, b buffer
	first, err := WriteExtension(t.Context(), &a, x)
	require.NoError(t, err)
	second, err := WriteExtension(t.Context(), &b, x)
	require.NoError(t, err)
	require.Equal(t, first, second)
	require.Equal(t, sha256.Sum256(a.b), sha256.Sum256(b.b))
	require.Equal(t, first.Size, int64(len(a.b)))

	// The key is elsewhere.
	rootHash, err := ExtensionRootHash(t.Context(), x)
	require.NoError(t, err)
	require.Equal(t, first.RootHash, rootHash)
	s, err := verity.SignRootHash(rootHash, key, cert)
	require.NoError(t, err)
	joined := x
	joined.Key, joined.Signature = nil, s
	var c buffer
	_, err = WriteExtension(t.Context(), &c, joined)
	require.NoError(t, err)
	require.Equal(t, sha256.Sum256(a.b), sha256.Sum256(c.b))

	other := x
	other.Seed[0]++
	var d buffer
	im, err := WriteExtension(t.Context(), &d, other)
	require.NoError(t, err)
	require.NotEqual(t, first.RootHash, im.RootHash)
}

func TestExtensionIsRefused(t *testing.T) {
	key, cert := keyPair(t)
	good := Extension{FileSystem: bytes.NewReader(noise(8192)), Architecture: "amd64", Seed: seed, Key: key, Certificate: cert}
	foreign, err := verity.SignRootHash(make([]byte, 32), key, cert)
	require.NoError(t, err)
	rootHash, err := ExtensionRootHash(t.Context(), good)
	require.NoError(t, err)
	forged := &verity.Signature{RootHash: rootHash, CertificateFingerprint: foreign.CertificateFingerprint, PKCS7: foreign.PKCS7}
	for _, c := range []struct {
		name   string
		change func(*Extension)
		want   string
	}{
		{"no file system", func(x *Extension) { x.FileSystem = nil }, "no file system"},
		{"empty", func(x *Extension) { x.FileSystem = bytes.NewReader(nil) }, "an empty one"},
		{"no seed", func(x *Extension) { x.Seed = [16]byte{} }, "no Seed"},
		{"no architecture", func(x *Extension) { x.Architecture = "" }, `architecture ""`},
		{"systemd's name", func(x *Extension) { x.Architecture = "x86-64" }, `architecture "x86-64"`},
		{"no key", func(x *Extension) { x.Key = nil }, "no Key and Certificate"},
		{"no certificate", func(x *Extension) { x.Certificate = nil }, "no Key and Certificate"},
		{"signed and unsigned", func(x *Extension) { x.UnsignedSoThatAnyoneCanReplaceIt = true }, "Unsigned is set together with"},
		{"signature of another", func(x *Extension) { x.Signature = foreign }, "sign that of ExtensionRootHash"},
		{"forged signature", func(x *Extension) { x.Signature = forged }, "the signature is not over this root hash"},
		{"too large", func(x *Extension) { x.FileSystem = huge{} }, "want at most 4294967295, which the stub hands over"},
		{"unreadable", func(x *Extension) { x.FileSystem = short{} }, "EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := good
			c.change(&x)
			var w buffer
			im, err := WriteExtension(t.Context(), &w, x)
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, "build: ")
			require.Nil(t, im)
			require.Empty(t, w.b, "nothing was written")
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = WriteExtension(ctx, new(buffer), good)
	require.ErrorIs(t, err, context.Canceled)
}

// huge is a source that says to be larger than any extension, which is refused before anything is
// read.
type huge struct{}

func (huge) Size() int64                       { return 1 << 33 }
func (huge) ReadAt([]byte, int64) (int, error) { return 0, errors.New("it was read") }

// short has less than it says.
type short struct{}

func (short) Size() int64                       { return 8192 }
func (short) ReadAt([]byte, int64) (int, error) { return 0, io.EOF }

// A signature by a certificate that is not the one that is given is refused.
func TestExtensionOfAnotherCertificate(t *testing.T) {
	key, cert := keyPair(t)
	x := Extension{FileSystem: bytes.NewReader(noise(8192)), Architecture: "amd64", Seed: seed, Certificate: &x509.Certificate{Raw: []byte("another"), RawSubject: []byte{1}}}
	rootHash, err := ExtensionRootHash(t.Context(), x)
	require.NoError(t, err)
	x.Signature, err = verity.SignRootHash(rootHash, key, cert)
	require.NoError(t, err)
	_, err = WriteExtension(t.Context(), new(buffer), x)
	require.ErrorIs(t, err, verity.ErrUntrusted)
}
