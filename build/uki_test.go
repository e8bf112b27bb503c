package build_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/verity/dm"
)

// The keys of all tests: making them takes longer than the rest.
var testKeys = sync.OnceValue(func() build.Keys {
	when := time.Unix(1_767_225_600, 0)
	h, err := secureboot.Generate(nil, secureboot.GenerateOptions{CommonName: "Test", NotBefore: when, NotAfter: when.AddDate(10, 0, 0)})
	if err != nil {
		panic(err)
	}
	hierarchy = h
	return build.Keys{SecureBoot: h.DB, SignOptions: authenticode.SignOptions{Time: when.AddDate(0, 0, 10)}, PCR: []build.PCRKey{{Signer: h.PCR.Key}}, Verity: h.Verity}
})

// hierarchy is that of testKeys.
var hierarchy *secureboot.Hierarchy

// file is a file in memory.
type file struct {
	mu sync.Mutex
	b  []byte
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := off + int64(len(p)); n > int64(len(f.b)) {
		f.b = append(f.b, make([]byte, n-int64(len(f.b)))...)
	}
	return copy(f.b[off:], p), nil
}

const osRelease = "ID=acme\nIMAGE_ID=acme\nIMAGE_VERSION=1\n"

func image() uki.Image {
	source := func(b []byte) osmith.Source { return bytes.NewReader(b) }
	return uki.Image{Stub: source(petest.Stub("262")), Linux: source(petest.Kernel("6.18.0")), Initrd: []osmith.Source{strings.NewReader("initrd")}, Cmdline: "quiet", OSRelease: []byte(osRelease)}
}

// What is written is what the same steps write one after the other, and the parts are read once.
func TestUKI(t *testing.T) {
	keys := testKeys()
	hash := bytes.Repeat([]byte{7}, 32)
	var out file
	linux := &counted{Source: image().Linux}
	parts := build.UKIParts{Image: image(), RootHash: hash}
	parts.Image.Linux = linux
	_, err := parts.Image.Assemble() // which reads headers
	require.NoError(t, err)
	headers := linux.n
	linux.n = 0
	made, err := build.UKI(t.Context(), &out, parts, keys)
	require.NoError(t, err)
	require.LessOrEqual(t, linux.n, linux.Size()+2*headers, "the kernel is read once")
	require.EqualValues(t, len(out.b), made.Size)
	require.True(t, made.Signed)
	require.Empty(t, made.ToSign)

	im := image()
	im.Cmdline = "roothash=" + strings.Repeat("07", 32) + " quiet"
	im.PCRPublicKey, err = policy.MarshalPublicKey(keys.PCR[0].Signer.Public().(*rsa.PublicKey))
	require.NoError(t, err)
	measured, err := im.Measurements(tpm.Banks()...)
	require.NoError(t, err)
	states, err := tpm.PCR11States(measured, nil, nil)
	require.NoError(t, err)
	signatures, err := policy.Sign(keys.PCR[0].Signer, states, "")
	require.NoError(t, err)
	im.PCRSignature, err = signatures.MarshalJSON()
	require.NoError(t, err)
	assembled, err := im.Assemble()
	require.NoError(t, err)
	var want bytes.Buffer
	require.NoError(t, authenticode.Sign(&want, assembled, keys.SecureBoot.Key, keys.SecureBoot.Cert, keys.SignOptions))
	require.True(t, bytes.Equal(want.Bytes(), out.b))
	require.Equal(t, measured, made.Variants[0].Sections)
	sums, err := authenticode.Digests(assembled, crypto.SHA256, crypto.SHA384, crypto.SHA512)
	require.NoError(t, err)
	require.Equal(t, sums, made.Digests)

	// Without keys it is unsigned, and the same digests are what a signer elsewhere would sign.
	out = file{}
	parts = build.UKIParts{Image: image(), RootHash: hash, Usr: true}
	made, err = build.UKI(t.Context(), &out, parts, build.Keys{})
	require.NoError(t, err)
	require.False(t, made.Signed)
	require.EqualValues(t, len(out.b), made.Size)
	f, err := uki.Open(bytes.NewReader(out.b))
	require.NoError(t, err)
	text, _ := f.Cmdline()
	c, err := dm.ParseCmdline(text)
	require.NoError(t, err)
	require.Equal(t, hash, c.Usr.RootHash)
	require.Empty(t, c.Root.RootHash)
	sums, err = authenticode.Digests(bytes.NewReader(out.b), crypto.SHA256)
	require.NoError(t, err)
	require.Equal(t, sums[crypto.SHA256], made.Digests[crypto.SHA256])
}

// counted counts what is read.
type counted struct {
	osmith.Source
	mu sync.Mutex
	n  int64
}

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.Source.ReadAt(p, off)
	c.mu.Lock()
	c.n += int64(n)
	c.mu.Unlock()
	return n, err
}

// A key that is elsewhere leaves policies to be signed, with room for it.
func TestUKIElsewhere(t *testing.T) {
	keys := testKeys()
	public := keys.PCR[0].Signer.Public().(*rsa.PublicKey)
	var out file
	made, err := build.UKI(t.Context(), &out, build.UKIParts{Image: image(), Banks: []crypto.Hash{crypto.SHA256}}, build.Keys{PCR: []build.PCRKey{{Public: public}}})
	require.NoError(t, err)
	require.Len(t, made.ToSign, 4)
	signed, err := made.ToSign.Sign(keys.PCR[0].Signer)
	require.NoError(t, err)
	text, err := signed.MarshalJSON()
	require.NoError(t, err)
	f, err := uki.Open(bytes.NewReader(out.b))
	require.NoError(t, err)
	section, ok := f.Section(".pcrsig")
	require.True(t, ok)
	require.GreaterOrEqual(t, section.Size(), int64(len(text)))
}

// A profile with a command line of its own starts the same file system, and one without has that of
// the image.
func TestUKIProfiles(t *testing.T) {
	p := build.UKIParts{Image: image(), RootHash: bytes.Repeat([]byte{7}, 32)}
	p.Image.Profiles = []uki.Profile{{Profile: []byte("ID=debug"), Cmdline: "debug"}, {Profile: []byte("ID=same"), OSRelease: []byte(osRelease + "X=1\n")}}
	var out file
	_, err := build.UKI(t.Context(), &out, p, testKeys())
	require.NoError(t, err)
	require.Equal(t, "debug", p.Image.Profiles[0].Cmdline, "the caller's parts stay as they are")
	f, err := uki.Open(bytes.NewReader(out.b))
	require.NoError(t, err)
	for i, want := range []string{"quiet", "debug", "quiet"} {
		text, err := f.ProfileCmdline(i)
		require.NoError(t, err)
		require.Equal(t, "roothash="+strings.Repeat("07", 32)+" "+want, text)
	}
	p.Image.Profiles[0].Cmdline = "roothash=" + strings.Repeat("08", 32)
	_, err = build.UKI(t.Context(), &file{}, p, testKeys())
	require.ErrorContains(t, err, "profile 1: UKI: both the command line")
}

// What two points of a boot have in common is signed once.
func TestUKISignsOnce(t *testing.T) {
	k := testKeys()
	k.SecureBoot = secureboot.KeyPair{}
	k.PCR = []build.PCRKey{{Public: k.PCR[0].Signer.Public().(*rsa.PublicKey), Phases: [][]string{{"enter-initrd"}, {"enter-initrd"}}}}
	made, err := build.UKI(t.Context(), &file{}, build.UKIParts{Image: image(), Banks: []crypto.Hash{crypto.SHA256, crypto.SHA384}}, k)
	require.NoError(t, err)
	require.Len(t, made.ToSign, 2)

	// Of two keys none is chosen for systemd.
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	var out file
	_, err = build.UKI(t.Context(), &out, build.UKIParts{Image: image()}, build.Keys{PCR: []build.PCRKey{k.PCR[0], {Public: &other.PublicKey}}})
	require.NoError(t, err)
	f, err := uki.Open(bytes.NewReader(out.b))
	require.NoError(t, err)
	_, ok := f.Section(".pcrpkey")
	require.False(t, ok)
}

func TestUKIRefused(t *testing.T) {
	keys := testKeys()
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	public := keys.PCR[0].Signer.Public().(*rsa.PublicKey)
	for text, change := range map[string]func(p *build.UKIParts, k *build.Keys){
		"the Secure Boot key has no certificate (Cert)":                         func(_ *build.UKIParts, k *build.Keys) { k.SecureBoot.Cert = nil },
		"the Secure Boot key has a certificate and no Key":                      func(_ *build.UKIParts, k *build.Keys) { k.SecureBoot.Key = nil },
		"PCR key 1 has neither Signer nor Public":                               func(_ *build.UKIParts, k *build.Keys) { k.PCR = []build.PCRKey{{}} },
		"PCR key 1: Public is not the public half of Signer":                    func(_ *build.UKIParts, k *build.Keys) { k.PCR = []build.PCRKey{{Signer: other, Public: public}} },
		"PCR key 2 is the same as key 1":                                        func(_ *build.UKIParts, k *build.Keys) { k.PCR = append(k.PCR[:1:1], k.PCR[0]) },
		"leave out Keys.SecureBoot":                                             func(_ *build.UKIParts, k *build.Keys) { k.PCR = []build.PCRKey{{Public: public}} },
		"TPM policies are signed with RSA":                                      func(_ *build.UKIParts, k *build.Keys) { k.PCR = []build.PCRKey{{Signer: ecKey(t)}} },
		"Usr without a RootHash":                                                func(p *build.UKIParts, _ *build.Keys) { p.Usr = true },
		"UKI: both Image.PCRSignature and PCR keys are given: want one of them": func(p *build.UKIParts, _ *build.Keys) { p.Image.PCRSignature = []byte("{}") },
		"and RootHash give a root hash: want one of them": func(p *build.UKIParts, _ *build.Keys) {
			p.RootHash, p.Image.Cmdline = make([]byte, 32), "usrhash="+strings.Repeat("00", 32)
		},
		"Linux: ": func(p *build.UKIParts, _ *build.Keys) { p.Image.Linux = strings.NewReader("no kernel") },
	} {
		p, k := build.UKIParts{Image: image()}, testKeys()
		change(&p, &k)
		var out file
		made, err := build.UKI(t.Context(), &out, p, k)
		require.ErrorContains(t, err, text)
		require.True(t, strings.HasPrefix(err.Error(), "build: "), err)
		require.Nil(t, made)
		require.Empty(t, out.b, text)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = build.UKI(ctx, &file{}, build.UKIParts{Image: image()}, keys)
	require.ErrorIs(t, err, context.Canceled)
	_, err = build.UKI(t.Context(), full{}, build.UKIParts{Image: image()}, keys)
	require.ErrorIs(t, err, errFull)
}

var errFull = errors.New("no space left")

type full struct{}

func (full) WriteAt([]byte, int64) (int, error) { return 0, errFull }

var _ io.WriterAt = full{}
