package verity

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
)

// keyPair reads the key and the certificate of testdata, with which the vectors of the signature
// were made.
func keyPair(t testing.TB) (crypto.Signer, *x509.Certificate) {
	t.Helper()
	return readKey(t, "testdata/signature/key.pem"), readCertificate(t, "testdata/signature/cert.pem")
}

func readKey(t testing.TB, name string) crypto.Signer {
	t.Helper()
	key, err := x509.ParsePKCS8PrivateKey(readPEM(t, name))
	require.NoError(t, err)
	return key.(crypto.Signer)
}

func readCertificate(t testing.TB, name string) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(readPEM(t, name))
	require.NoError(t, err)
	return cert
}

func readPEM(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	block, _ := pem.Decode(b)
	require.NotNil(t, block, name)
	return block.Bytes
}

// TestSignatureRepart has systemd-repart make a signed image and compares the content of its
// signature partition with what this package writes for the same root hash, key and certificate.
func TestSignatureRepart(t *testing.T) {
	for name, debian := range map[string]func(testing.TB) testtools.Root{"trixie": testtools.Trixie, "forky": testtools.Forky} {
		t.Run(name, func(t *testing.T) {
			root := debian(t)
			dir := t.TempDir()
			write := func(name, text string) {
				t.Helper()
				require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
			}
			for _, f := range []string{"key.pem", "cert.pem"} {
				b, err := os.ReadFile(filepath.Join("testdata/signature", f))
				require.NoError(t, err)
				write(f, string(b))
			}
			write("defs/10-root.conf", fmt.Sprintf("[Partition]\nType=root-x86-64\nCopyBlocks=%s\nVerity=data\nVerityMatchKey=root\n", filepath.Join(dir, "image")))
			write("defs/20-tree.conf", "[Partition]\nType=root-x86-64-verity\nVerity=hash\nVerityMatchKey=root\n")
			write("defs/30-sig.conf", "[Partition]\nType=root-x86-64-verity-sig\nVerity=signature\nVerityMatchKey=root\nSplitName=sig\n")
			write("image", string(bytes.Repeat([]byte("osmith. "), 128<<10)))
			root.Run(t, dir, "systemd-repart", "--offline=yes", "--empty=create", "--size=auto", "--dry-run=no", "--split=yes",
				"--seed=11111111-2222-3333-4444-555555555555", "--definitions="+filepath.Join(dir, "defs"),
				"--private-key="+filepath.Join(dir, "key.pem"), "--certificate="+filepath.Join(dir, "cert.pem"), filepath.Join(dir, "disk.raw"))
			theirs, err := os.ReadFile(filepath.Join(dir, "disk.sig.raw"))
			require.NoError(t, err)
			golden, err := os.ReadFile("testdata/signature/repart.raw")
			require.NoError(t, err)
			// Version 262 does not pad the file that it splits off.
			require.Equal(t, string(golden[:len(theirs)]), string(theirs))
			require.Empty(t, bytes.Trim(golden[len(theirs):], "\x00"))
		})
	}
}

// TestSignatureGolden writes the partition that systemd-repart 257 wrote with the same key.
func TestSignatureGolden(t *testing.T) {
	golden, err := os.ReadFile("testdata/signature/repart.raw")
	require.NoError(t, err)
	key, cert := keyPair(t)
	theirs, err := ReadSignature(bytes.NewReader(golden))
	require.NoError(t, err)
	ours, err := SignRootHash(theirs.RootHash, key, cert)
	require.NoError(t, err)
	require.Equal(t, theirs, ours)
	b, err := ours.Partition(int64(len(golden)))
	require.NoError(t, err)
	require.True(t, bytes.Equal(golden, b))
	short, err := ours.Partition(0)
	require.NoError(t, err)
	require.Len(t, short, 4096)
	signer, err := theirs.Verify([]*x509.Certificate{cert})
	require.NoError(t, err)
	require.True(t, signer.Equal(cert))
}
