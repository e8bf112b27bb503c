package build

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/partition"
)

var seed = osmith.MustParseGUID("11111111-2222-3333-4444-555555555555")

// keyPair is that of the signature vectors of package verity.
func keyPair(t testing.TB) (crypto.Signer, *x509.Certificate) {
	t.Helper()
	der := func(name string) []byte {
		b, err := os.ReadFile("../verity/testdata/signature/" + name)
		require.NoError(t, err)
		block, _ := pem.Decode(b)
		require.NotNil(t, block)
		return block.Bytes
	}
	key, err := x509.ParsePKCS8PrivateKey(der("key.pem"))
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der("cert.pem"))
	require.NoError(t, err)
	return key.(crypto.Signer), cert
}

// repartTree is a tree with the files of a system and a configuration extension, and with what
// systemd-repart needs beside it: a key, and mkfs.erofs, which the Debian trees do not have.
func repartTree(t *testing.T) (dir string, env string) {
	t.Helper()
	mkfs := testtools.Require(t, "mkfs.erofs")
	dir = t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), mode))
	}
	for _, name := range []string{"key.pem", "cert.pem"} {
		b, err := os.ReadFile("../verity/testdata/signature/" + name)
		require.NoError(t, err)
		write(name, string(b), 0o600)
	}
	for kind, at := range map[string]string{"sysext": "usr/lib", "confext": "etc"} {
		write(kind+"/"+at+"/extension-release.d/extension-release.tool", "ID=_any\n", 0o644)
	}
	// The program of this machine, with its own libraries and their loader.
	out, err := exec.Command("ldd", mkfs).Output()
	require.NoError(t, err)
	for line := range strings.Lines(string(out)) {
		for _, f := range strings.Fields(line) {
			if strings.HasPrefix(f, "/") {
				b, err := os.ReadFile(f)
				require.NoError(t, err)
				write("lib/"+filepath.Base(f), string(b), 0o755)
			}
		}
	}
	b, err := os.ReadFile(mkfs)
	require.NoError(t, err)
	write("lib/mkfs.erofs", string(b), 0o755)
	loaders, err := filepath.Glob(filepath.Join(dir, "lib/ld-linux*"))
	require.NoError(t, err)
	require.Len(t, loaders, 1)
	write("bin/mkfs.erofs", fmt.Sprintf("#!/bin/sh\nexec %s --library-path %s/lib %s/lib/mkfs.erofs \"$@\"\n", loaders[0], dir, dir), 0o755)
	return dir, "PATH=" + dir + "/bin:/usr/bin:/usr/sbin:/bin"
}

// TestExtensionRepart has systemd-repart make extensions, and makes the same of their file systems:
// the images are the same, byte by byte but three in the MBR.
func TestExtensionRepart(t *testing.T) {
	forky := testtools.Forky(t)
	dir, env := repartTree(t)
	key, cert := keyPair(t)
	for _, kind := range []string{"sysext", "confext"} {
		for _, size := range []int{0, 100_000, 2_500_000, 9_000_000} {
			at := map[string]string{"sysext": "usr", "confext": "etc"}[kind]
			// What does not compress, so that each size is one of another layout.
			require.NoError(t, os.WriteFile(filepath.Join(dir, kind, at, "content"), noise(size), 0o644))
			name := filepath.Join(dir, fmt.Sprintf("%s-%d.raw", kind, size))
			forky.Run(t, dir, "env", env, "systemd-repart", "--make-ddi="+kind, "--copy-source="+filepath.Join(dir, kind), "--seed="+seed.String(), "--offline=yes",
				"--private-key="+filepath.Join(dir, "key.pem"), "--certificate="+filepath.Join(dir, "cert.pem"), name)
			theirs, err := os.ReadFile(name)
			require.NoError(t, err)
			table, err := partition.Read(bytes.NewReader(theirs), partition.ReadOptions{})
			require.NoError(t, err)
			require.Len(t, table.Partitions, 3)
			tree := make([]byte, 80)
			_, err = table.Section(bytes.NewReader(theirs), 1).ReadAt(tree, 0)
			require.NoError(t, err)
			// of the file system, in the superblock
			blocks := int64(tree[72]) | int64(tree[73])<<8 | int64(tree[74])<<16
			off, _ := table.Extent(0)
			var ours buffer
			im, err := WriteExtension(t.Context(), &ours, Extension{FileSystem: bytes.NewReader(theirs[off : off+blocks*4096]), Architecture: "amd64", Seed: seed, Key: key, Certificate: cert})
			require.NoError(t, err)
			require.Equal(t, int64(len(theirs)), im.Size)
			// The end of the disk in cylinders, heads and sectors, which nothing reads, is the most
			// that there can be in theirs, and true in ours (UEFI 2.10, table 5.4).
			copy(ours.b[0x1c3:0x1c6], theirs[0x1c3:0x1c6])
			for i := range theirs {
				if theirs[i] != ours.b[i] {
					t.Fatalf("%s of %d bytes: byte %#x: want %#x, got %#x", kind, size, i, theirs[i], ours.b[i])
				}
			}
		}
	}
}

// TestExtensionDissect asks systemd-dissect about our images: by policies that want them signed,
// and about tampered ones.
func TestExtensionDissect(t *testing.T) {
	forky := testtools.Forky(t)
	key, cert := keyPair(t)
	dir := t.TempDir()
	validate := func(x Extension, policy string) error {
		var b buffer
		_, err := WriteExtension(t.Context(), &b, x)
		require.NoError(t, err)
		name := filepath.Join(dir, "x.raw")
		require.NoError(t, os.WriteFile(name, b.b, 0o644))
		_, err = forky.Try(t, dir, "systemd-dissect", "--validate", "--image-policy="+policy, name)
		return err
	}
	for _, usr := range []bool{false, true} {
		where := map[bool]string{false: "root", true: "usr"}[usr]
		x := Extension{FileSystem: extensionFS(t), Usr: usr, Architecture: "amd64", Seed: seed, Key: key, Certificate: cert}
		require.NoError(t, validate(x, where+"=signed"))
		require.NoError(t, validate(x, where+"=signed+absent"))
		require.Error(t, validate(x, where+"=absent"))
		x.Key, x.Certificate, x.UnsignedSoThatAnyoneCanReplaceIt = nil, nil, true
		require.NoError(t, validate(x, where+"=verity"))
		require.Error(t, validate(x, where+"=signed"))
	}
}
