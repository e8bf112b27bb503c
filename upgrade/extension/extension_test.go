package extension_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/internal/cmstest"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade/extension"
	"github.com/osmith-dev/osmith/verity"
)

var seed = osmith.MustParseGUID("11111111-2222-3333-4444-555555555555")

const stated = "ID=acme\nVERSION_ID=2\nARCHITECTURE=x86-64\nSYSEXT_SCOPE=\"initrd system\"\n"

var host = extension.OS{Release: uki.OSRelease{"ID": "acme", "VERSION_ID": "2"}, Architecture: "amd64"}

// memory is a file in memory that several may write to.
type memory struct {
	mu sync.Mutex
	b  []byte
}

func (w *memory) WriteAt(p []byte, off int64) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := off + int64(len(p)); n > int64(len(w.b)) {
		w.b = append(w.b, make([]byte, n-int64(len(w.b)))...)
	}
	return copy(w.b[off:], p), nil
}

func (w *memory) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(w.b).ReadAt(p, off)
}

// signer is a key that is the same one in a run.
var signer = sync.OnceValues(func() (crypto.Signer, *x509.Certificate) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "Acme extensions"}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0)}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return key, cert
})

// fileSystem is an EROFS image with an extension-release file.
func fileSystem(t testing.TB, path, text string) []byte {
	t.Helper()
	name := filepath.Join(t.TempDir(), "x.erofs")
	require.NoError(t, acmeos.WriteImage(name, map[string][]byte{path: []byte(text)}))
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	return b
}

const releasePath = "/usr/lib/extension-release.d/extension-release.tool"

// image is an extension as a change of the usual one has it.
func image(t testing.TB, change func(*build.Extension)) []byte {
	t.Helper()
	key, cert := signer()
	x := build.Extension{FileSystem: bytes.NewReader(fileSystem(t, releasePath, stated)), Architecture: "amd64", Seed: seed, Key: key, Certificate: cert}
	if change != nil {
		change(&x)
	}
	var w memory
	_, err := build.WriteExtension(t.Context(), &w, x)
	require.NoError(t, err)
	return w.b
}

func unsigned(x *build.Extension) {
	x.Key, x.Certificate, x.UnsignedSoThatAnyoneCanReplaceIt = nil, nil, true
}

// edit changes the table of an image.
func edit(t testing.TB, b []byte, change func(*partition.Table)) []byte {
	t.Helper()
	b = bytes.Clone(b)
	table, err := partition.Read(bytes.NewReader(b), partition.ReadOptions{})
	require.NoError(t, err)
	change(table)
	require.NoError(t, table.Write(&memory{b: b}))
	return b
}

// part is where partition i of an image is.
func part(t testing.TB, b []byte, i int) []byte {
	t.Helper()
	table, err := partition.Read(bytes.NewReader(b), partition.ReadOptions{})
	require.NoError(t, err)
	off, size := table.Extent(i)
	return b[off : off+size]
}

func judge(t testing.TB, b []byte) (*extension.Judgement, error) {
	t.Helper()
	f := extension.File{Name: "tool.sysext.raw", Content: bytes.NewReader(b), Release: []byte(stated)}
	return f.Judge(t.Context(), host, extension.JudgeOptions{})
}

func TestRead(t *testing.T) {
	_, cert := signer()
	im, err := extension.Read(bytes.NewReader(image(t, nil)))
	require.NoError(t, err)
	require.Equal(t, extension.ProtectionSigned, im.Protection)
	require.Equal(t, "amd64", im.Architecture)
	require.Equal(t, cert.Raw, im.Signer.Raw)
	require.NoError(t, im.Verify(t.Context()))
	own, err := im.Trusted([]*x509.Certificate{cert})
	require.NoError(t, err)
	require.Equal(t, cert.Raw, own.Raw)
	_, err = im.Trusted(nil)
	require.ErrorIs(t, err, verity.ErrUntrusted)

	im, err = extension.Read(bytes.NewReader(image(t, func(x *build.Extension) { x.Usr, x.Architecture = true, "arm64" })))
	require.NoError(t, err)
	require.True(t, im.Usr)
	require.Equal(t, "arm64", im.Architecture)

	im, err = extension.Read(bytes.NewReader(image(t, unsigned)))
	require.NoError(t, err)
	require.Equal(t, extension.ProtectionVerity, im.Protection)
	require.NoError(t, im.Verify(t.Context()), "the root hash comes from the IDs of the partitions")
	_, err = im.Trusted([]*x509.Certificate{cert})
	require.ErrorIs(t, err, extension.ErrUnsigned)

	im, err = extension.Read(bytes.NewReader(edit(t, image(t, unsigned), func(table *partition.Table) { table.Partitions = table.Partitions[:1] })))
	require.NoError(t, err)
	require.Equal(t, extension.ProtectionNone, im.Protection)
	require.ErrorIs(t, im.Verify(t.Context()), extension.ErrUnprotected)

	im, err = extension.Read(bytes.NewReader(fileSystem(t, releasePath, stated)))
	require.NoError(t, err)
	require.Equal(t, extension.ProtectionNone, im.Protection)
	require.Equal(t, extension.ProtectionUnknown, new(extension.Image).Protection, "a zero value claims nothing")
}

// What is not whole is refused, and is never taken for less protected than it was made (R24: an
// extension fails closed).
func TestReadRefuses(t *testing.T) {
	good := image(t, nil)
	flip := func(i int, at int) func([]byte) []byte {
		return func(b []byte) []byte {
			b = bytes.Clone(b)
			part(t, b, i)[at] ^= 1
			return b
		}
	}
	digit := func(at int) func([]byte) []byte { // of a number in the signature's text: another one
		return func(b []byte) []byte {
			b = bytes.Clone(b)
			if p := part(t, b, 2); p[at] == '0' {
				p[at] = '1'
			} else {
				p[at] = '0'
			}
			return b
		}
	}
	table := func(change func(*partition.Table)) func([]byte) []byte {
		return func(b []byte) []byte { return edit(t, b, change) }
	}
	for _, c := range []struct {
		name   string
		damage func([]byte) []byte
		want   string
	}{
		{"nothing", func([]byte) []byte { return nil }, "does not begin with EROFS"},
		{"zeros", func(b []byte) []byte { return make([]byte, len(b)) }, "does not begin with EROFS"},
		{"cut off", func(b []byte) []byte { return b[:len(b)-512] }, "(backup)"},
		{"primary table", func(b []byte) []byte { b = bytes.Clone(b); b[512+16]++; return b }, "(primary)"},
		{"root hash in the signature", digit(len(`{"rootHash":"`)), "partition ID of the file system"},
		{"end of the root hash in the signature", digit(len(`{"rootHash":"`) + 63), "partition ID of the hash tree"},
		{"fingerprint", digit(len(`{"rootHash":"","certificateFingerprint":"`) + 64), "names the certificate"},
		{"signature", func(b []byte) []byte {
			b = bytes.Clone(b)
			p := part(t, b, 2)
			at := bytes.LastIndexByte(p, '}') - 9
			p[at] ^= 2
			return b
		}, "signature of the root hash"},
		{"no signature in its partition", func(b []byte) []byte { b = bytes.Clone(b); clear(part(t, b, 2)); return b }, "signature of the root hash"},
		{"rubbish behind the signature", flip(2, 16000), "signature of the root hash"},
		{"no hash tree", table(func(x *partition.Table) { x.Partitions = append(x.Partitions[:1:1], x.Partitions[2]) }), "a signature and no hash tree"},
		{"no file system", table(func(x *partition.Table) { x.Partitions = x.Partitions[1:] }), "no partition with the file system"},
		{"another data ID", table(func(x *partition.Table) { x.Partitions[0].ID[0]++ }), "partition ID of the file system"},
		{"another tree ID", table(func(x *partition.Table) { x.Partitions[1].ID[15]++ }), "partition ID of the hash tree"},
		{"two of a type", table(func(x *partition.Table) {
			p := x.Partitions[2]
			p.ID[0]++
			p.Number = 0
			p.LastLBA = p.FirstLBA + 7
			x.Partitions[2].FirstLBA += 8
			x.Partitions = append(x.Partitions, p)
		}), "the type is present twice: want one partition"},
		{"two architectures", table(func(x *partition.Table) { x.Partitions[1].Type = partition.RootARM64Verity }), "want one architecture"},
		{"root and usr", table(func(x *partition.Table) { x.Partitions[2].Type = partition.UsrX8664VeritySig }), "root and for usr"},
		{"no-auto", table(func(x *partition.Table) { x.Partitions[0].Attributes |= partition.AttrNoAuto }), "no-auto"},
		{"empty slot", table(func(x *partition.Table) { x.Partitions[0].Name = partition.EmptyName }), "systemd ignores it"},
		{"other partitions", table(func(x *partition.Table) {
			for i := range x.Partitions {
				x.Partitions[i].Type = partition.LinuxGeneric
			}
		}), "no root partition and no usr partition"},
		{"superblock", flip(1, 0), "hash tree"},
		{"more data than there is", func(b []byte) []byte {
			b = bytes.Clone(b)
			part(t, b, 1)[72+3] = 1 // of the number of blocks
			return b
		}, "of the file system's partition"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := c.damage(good)
			im, err := extension.Read(bytes.NewReader(b))
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, "extension: ")
			require.Nil(t, im)
			_, err = judge(t, b)
			require.Error(t, err)
		})
	}
	_, err := extension.Read(nil)
	require.ErrorContains(t, err, "no image")
	_, err = extension.Read(large{})
	require.ErrorContains(t, err, "at most 4294967295 are handed over")
}

// large is larger than what the stub hands over.
type large struct{}

func (large) Size() int64                       { return 1 << 32 }
func (large) ReadAt([]byte, int64) (int, error) { return 0, errors.New("must not be read") }

// Whatever byte that counts is changed, the image is not what was signed any more.
func TestEveryByteCounts(t *testing.T) {
	b := image(t, nil)
	_, err := judge(t, b)
	require.NoError(t, err)
	im, err := extension.Read(bytes.NewReader(b))
	require.NoError(t, err)
	tried := 0
	for i, n := range []int{int(im.FileSystem().Size()), 4096, bytes.LastIndexByte(part(t, b, 2), '}') + 1} {
		p := part(t, b, i)
		for at := 0; at < n; at += 61 {
			// Of the superblock only what decides about the tree: the UUID is not protected, and
			// behind the salt is nothing.
			if i == 1 && (at >= 16 && at < 32 || at >= 88+32) {
				continue
			}
			p[at] ^= 0x10
			_, err := judge(t, b)
			require.Error(t, err, "partition %d, byte %d", i, at)
			p[at] ^= 0x10
			tried++
		}
	}
	require.Greater(t, tried, 60)
}

// A signature without its certificate can be checked by who has it, and is not known until then.
func TestUnknownSigner(t *testing.T) {
	key, cert := signer()
	var root []byte
	b := image(t, func(x *build.Extension) {
		var err error
		root, err = build.ExtensionRootHash(t.Context(), *x)
		require.NoError(t, err)
		s, err := verity.SignRootHash(root, key, cert)
		require.NoError(t, err)
		s.PKCS7 = cmstest.WithoutCertificates(t, s.PKCS7)
		x.Key, x.Certificate, x.Signature = nil, nil, s
	})
	j, err := judge(t, b)
	require.NoError(t, err)
	require.Equal(t, extension.ProtectionUnknown, j.Image.Protection)
	require.Nil(t, j.Image.Signer)
	_, err = j.Image.Trusted([]*x509.Certificate{cert})
	require.NoError(t, err)
	_, err = j.Image.Trusted(nil)
	require.ErrorIs(t, err, verity.ErrUntrusted)
}

func TestJudge(t *testing.T) {
	good := image(t, nil)
	opened := fstest.MapFS{releasePath[1:]: {Data: []byte(stated)}}
	open := func(fsys fs.FS) func(osmith.Source) (fs.FS, error) {
		return func(osmith.Source) (fs.FS, error) { return fsys, nil }
	}
	file := extension.File{Name: "tool.sysext.raw", Content: bytes.NewReader(good), Release: []byte(stated)}
	j, err := file.Judge(t.Context(), host, extension.JudgeOptions{})
	require.NoError(t, err)
	require.False(t, j.Compared)
	require.Equal(t, "2", j.Release.VersionID)
	j, err = file.Judge(t.Context(), host, extension.JudgeOptions{FileSystem: open(opened)})
	require.NoError(t, err)
	require.True(t, j.Compared)
	silent := file
	silent.Release = nil
	j, err = silent.Judge(t.Context(), host, extension.JudgeOptions{})
	require.NoError(t, err)
	require.Nil(t, j.Release, "what is neither stated nor read is not known")
	j, err = silent.Judge(t.Context(), host, extension.JudgeOptions{FileSystem: open(opened)})
	require.NoError(t, err)
	require.Equal(t, "acme", j.Release.ID)

	var mismatch *extension.MismatchError
	for _, c := range []struct {
		name   string
		change func(*extension.File, *extension.OS, *extension.JudgeOptions)
		want   string
		as     any
	}{
		{"another version", func(_ *extension.File, os *extension.OS, _ *extension.JudgeOptions) {
			os.Release = uki.OSRelease{"ID": "acme", "VERSION_ID": "3"}
		}, `VERSION_ID: want "3", got "2"`, &mismatch},
		{"another machine", func(_ *extension.File, os *extension.OS, _ *extension.JudgeOptions) { os.Architecture = "arm64" }, "architecture of the partitions", &mismatch},
		{"a file for another version", func(_ *extension.File, os *extension.OS, o *extension.JudgeOptions) {
			o.FileSystem = open(fstest.MapFS{releasePath[1:]: {Data: []byte("ID=acme\nVERSION_ID=1\n")}})
		}, "not the one that is stated", nil},
		{"no file", func(_ *extension.File, _ *extension.OS, o *extension.JudgeOptions) {
			o.FileSystem = open(fstest.MapFS{})
		}, "extension-release: open", nil},
		{"no file system", func(_ *extension.File, _ *extension.OS, o *extension.JudgeOptions) {
			o.FileSystem = func(osmith.Source) (fs.FS, error) { return nil, errors.New("no EROFS") }
		}, "file system: no EROFS", nil},
		{"unsigned", func(f *extension.File, _ *extension.OS, _ *extension.JudgeOptions) {
			f.Content = bytes.NewReader(image(t, unsigned))
		}, extension.ErrUnsigned.Error(), nil},
		{"a file system alone", func(f *extension.File, _ *extension.OS, _ *extension.JudgeOptions) {
			f.Content = bytes.NewReader(fileSystem(t, releasePath, stated))
		}, extension.ErrUnsigned.Error(), nil},
		{"a damaged block", func(f *extension.File, _ *extension.OS, _ *extension.JudgeOptions) {
			b := bytes.Clone(good)
			part(t, b, 0)[1030] ^= 1
			f.Content = bytes.NewReader(b)
		}, "data is damaged", nil},
		{"a configuration extension in usr", func(f *extension.File, _ *extension.OS, _ *extension.JudgeOptions) {
			f.Name, f.Content = "tool.confext.raw", bytes.NewReader(image(t, func(x *build.Extension) { x.Usr = true }))
		}, "in a root partition", nil},
		{"no kind", func(f *extension.File, _ *extension.OS, _ *extension.JudgeOptions) { f.Name = "tool.raw" }, `file name "tool.raw"`, nil},
		{"no content", func(f *extension.File, _ *extension.OS, _ *extension.JudgeOptions) { f.Content = nil }, "no content", nil},
		{"no statement", func(f *extension.File, _ *extension.OS, _ *extension.JudgeOptions) { f.Release = []byte("what\n") }, "KEY=VALUE", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, os, o := file, host, extension.JudgeOptions{}
			c.change(&f, &os, &o)
			j, err := f.Judge(t.Context(), os, o)
			require.ErrorContains(t, err, c.want)
			require.Nil(t, j)
			if c.as != nil {
				require.ErrorAs(t, err, c.as)
			}
		})
	}
}

func TestParseName(t *testing.T) {
	name, kind, err := extension.ParseName("a.b_1.sysext.raw")
	require.NoError(t, err)
	require.Equal(t, "a.b_1", name)
	require.Equal(t, extension.KindSysext, kind)
	_, kind, err = extension.ParseName("a.confext.raw")
	require.NoError(t, err)
	require.Equal(t, extension.KindConfext, kind)
	for _, bad := range []string{"", "a", "a.raw", ".sysext.raw", "..sysext.raw", "a/b.sysext.raw", `a\b.confext.raw`, "a.SYSEXT.RAW"} {
		_, _, err := extension.ParseName(bad)
		require.Error(t, err, bad)
	}
}
