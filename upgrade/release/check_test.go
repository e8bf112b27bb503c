package release_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"io"
	"math/big"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/verity"
)

type image []byte

func (m *image) WriteAt(b []byte, off int64) (int, error) {
	if need := int(off) + len(b); need > len(*m) {
		*m = append(*m, make([]byte, need-len(*m))...)
	}
	return copy((*m)[off:], b), nil
}

func bytesOf(a *uki.Assembled, err error) []byte {
	if err != nil {
		panic(err)
	}
	var b bytes.Buffer
	if _, err := a.WriteTo(&b); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// unified is a UKI with that os-release and command line.
func unified(osRelease, cmdline string) []byte {
	im := uki.Image{Stub: bytes.NewReader(petest.Stub("262")), Linux: bytes.NewReader(petest.Kernel("6.12.0")), OSRelease: []byte(osRelease), Cmdline: cmdline}
	return bytesOf(im.Assemble())
}

func addonOf(cmdline string) []byte {
	a := uki.Addon{Stub: bytes.NewReader(petest.AddonStub("262")), Cmdline: cmdline}
	return bytesOf(a.Assemble())
}

const osRelease = "ID=debian\nIMAGE_ID=acme\nVARIANT_ID=server\nIMAGE_VERSION=2\n"

// consistent is a release whose parts belong together.
func consistent() *release.Release {
	root := bytes.Repeat([]byte("0123456789abcdef"), 4*256)
	var tree image
	hash, err := verity.Format(context.Background(), &tree, bytes.NewReader(root), verity.Params{Salt: []byte{1}, UUID: [16]byte{2}})
	if err != nil {
		panic(err)
	}
	return &release.Release{ID: "acme", Version: "2", Variant: "server", Architecture: "amd64", RootHash: hash,
		UKI: bytes.NewReader(unified(osRelease, "quiet roothash="+hex.EncodeToString(hash))), Root: bytes.NewReader(root), Tree: bytes.NewReader(tree)}
}

// signatureOver is the content of a partition with a signature.
func signatureOver(hash []byte) []byte {
	content, err := signed(hash).Partition(0)
	if err != nil {
		panic(err)
	}
	return content
}

func signed(hash []byte) *verity.Signature {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "verity"}, NotAfter: time.Unix(4e9, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	s, err := verity.SignRootHash(hash, key, cert)
	if err != nil {
		panic(err)
	}
	return s
}

// What a machine would refuse whatever it is, the judge refuses before it is packed.
func TestCheck(t *testing.T) {
	other := bytes.Repeat([]byte{0xab}, 32)
	for name, tt := range map[string]struct {
		change func(r *release.Release)
		want   string // empty: they belong together
	}{
		"as it is":         {func(*release.Release) {}, ""},
		"nothing said":     {func(r *release.Release) { r.ID, r.Version, r.Variant, r.Architecture = "", "", "", "" }, ""},
		"larger partition": {func(r *release.Release) { r.Root = bytes.NewReader(append(readAll(r.Root), make([]byte, 9000)...)) }, ""},
		"signed":           {func(r *release.Release) { r.RootHashSignature = bytes.NewReader(signatureOver(r.RootHash)) }, ""},
		"signed, PKCS #7":  {func(r *release.Release) { r.RootHashSignature = bytes.NewReader(signed(r.RootHash).PKCS7) }, ""},
		"bound by an add-on": {func(r *release.Release) {
			r.UKI = bytes.NewReader(unified(osRelease, "quiet"))
			r.Addons = []release.Addon{{Name: "slot.addon.efi", Content: bytes.NewReader(addonOf("roothash=" + hex.EncodeToString(r.RootHash)))}}
		}, ""},
		"other root hash in an add-on": {func(r *release.Release) {
			r.UKI = bytes.NewReader(unified(osRelease, "quiet"))
			r.Addons = []release.Addon{{Name: "slot.addon.efi", Content: bytes.NewReader(addonOf("roothash=" + hex.EncodeToString(other)))}}
		}, "root hash of the command line of UKI and add-ons is abab"},
		"an add-on moves the root": {func(r *release.Release) {
			r.Addons = []release.Addon{{Name: "x.addon.efi", Content: bytes.NewReader(addonOf("systemd.verity_root_data=/dev/sda9"))}}
		}, "takes the file system from /dev/sda9"},
		"other root hash": {func(r *release.Release) {
			r.UKI = bytes.NewReader(unified(osRelease, "roothash="+hex.EncodeToString(other)))
		}, "root hash of the UKI's command line is abab"},
		"no root hash":    {func(r *release.Release) { r.UKI = bytes.NewReader(unified(osRelease, "quiet")) }, "roothash="},
		"no command line": {func(r *release.Release) { r.UKI = bytes.NewReader(unified(osRelease, "")) }, "the UKI has no command line, so nothing binds it to a root file system"},
		"verity off": {func(r *release.Release) {
			r.UKI = bytes.NewReader(unified(osRelease, "systemd.verity=no roothash="+hex.EncodeToString(r.RootHash)))
		}, "verity"},
		"version":          {func(r *release.Release) { r.Version = "3" }, `the release has version "3", but its UKI has "2"`},
		"product":          {func(r *release.Release) { r.ID = "other" }, `the release has product "other", but its UKI has "acme"`},
		"variant":          {func(r *release.Release) { r.Variant = "debug" }, `the release has variant "debug", but its UKI has "server"`},
		"architecture":     {func(r *release.Release) { r.Architecture = "arm64" }, `the release has architecture "arm64", but its UKI has "amd64"`},
		"no version in it": {func(r *release.Release) { r.UKI = bytes.NewReader(unified("ID=acme\n", "quiet")) }, "names no IMAGE_ID or no IMAGE_VERSION"},
		"two root hashes": {func(r *release.Release) {
			r.UKI = bytes.NewReader(unified(osRelease, "roothash="+hex.EncodeToString(r.RootHash)+" usrhash="+hex.EncodeToString(other)))
		}, "the command line names two root hashes"},
		"would be misread in a file name": {func(r *release.Release) {
			r.UKI, r.ID = bytes.NewReader(unified("ID=a/b\nIMAGE_VERSION=2\n", "quiet")), ""
		}, `"a/b" of the UKI's os-release cannot be part of a file name`},
		"name of an add-on": {func(r *release.Release) {
			r.Addons = []release.Addon{{Name: "x.efi", Content: bytes.NewReader(addonOf("a"))}}
		}, "add-on \"x.efi\": want a name that ends with .addon.efi, or the stub ignores it"},
		"no UKI":             {func(r *release.Release) { r.UKI = r.Root }, "uki: "},
		"no tree":            {func(r *release.Release) { r.Tree = r.Root }, "verity: "},
		"nothing":            {func(r *release.Release) { r.Tree = nil }, "a release needs"},
		"short root hash":    {func(r *release.Release) { r.RootHash = r.RootHash[:20] }, "root hash of the release: 20 bytes"},
		"a byte of the root": {func(r *release.Release) { b := readAll(r.Root); b[5000] ^= 1; r.Root = bytes.NewReader(b) }, "verity: "},
		"a byte of the tree": {func(r *release.Release) { b := readAll(r.Tree); b[4096] ^= 1; r.Tree = bytes.NewReader(b) }, "verity: "},
		"shorter root":       {func(r *release.Release) { r.Root = bytes.NewReader(readAll(r.Root)[:4096]) }, "verity: "},
		"other signature":    {func(r *release.Release) { r.RootHashSignature = bytes.NewReader(signatureOver(other)) }, "root hash of the root hash signature is abab"},
		"another's signature": {func(r *release.Release) {
			s := signed(r.RootHash)
			s.PKCS7 = signed(other).PKCS7
			content, err := s.Partition(0)
			require.NoError(t, err)
			r.RootHashSignature = bytes.NewReader(content)
		}, "root hash signature: verity: signature: the signature is not over this root hash"},
		"no signature": {func(r *release.Release) { r.RootHashSignature = bytes.NewReader([]byte("x")) }, "root hash signature: "},
	} {
		t.Run(name, func(t *testing.T) {
			r := consistent()
			tt.change(r)
			err := r.Check(t.Context())
			if tt.want == "" {
				require.NoError(t, err)
				return
			}
			var inconsistent *release.InconsistentError
			require.ErrorAs(t, err, &inconsistent)
			assert.ErrorContains(t, inconsistent.Err, tt.want)
			assert.ErrorContains(t, err, "release: the parts of the release do not belong together: ")
			var hash *release.RootHashError
			assert.Equal(t, bytes.Contains([]byte(tt.want), []byte("root hash of")), errors.As(err, &hash))
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, consistent().Check(ctx), context.Canceled)
}

// What is read back belongs together as what was packed did.
func TestCheckOpened(t *testing.T) {
	dir := t.TempDir()
	d, err := release.Pack(dir, "2", consistent())
	require.NoError(t, err)
	r, err := release.Open(t.Context(), os.DirFS(dir), d)
	require.NoError(t, err)
	defer r.Close()
	require.NoError(t, r.Check(t.Context()))
}

func readAll(src osmith.Source) []byte {
	b := make([]byte, src.Size())
	if _, err := src.ReadAt(b, 0); err != nil && err != io.EOF {
		panic(err)
	}
	return b
}

// Of a partition that is larger than the file system in it, what the tree is over is what a machine
// gets.
func TestOpenNarrows(t *testing.T) {
	r := consistent()
	root, tree := readAll(r.Root), readAll(r.Tree)
	r.Root, r.Tree = bytes.NewReader(append(root, make([]byte, 1<<20)...)), bytes.NewReader(append(tree, bytes.Repeat([]byte{7}, 8192)...))
	dir := t.TempDir()
	d, err := release.Pack(dir, "2", r)
	require.NoError(t, err)
	opened, err := release.Open(t.Context(), os.DirFS(dir), d)
	require.NoError(t, err)
	defer opened.Close()
	assert.Equal(t, root, readAll(opened.Root))
	assert.Equal(t, tree, readAll(opened.Tree))
	require.NoError(t, opened.Check(t.Context()))
}
