//go:build linux

package howto_test

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/verity"
)

// The shell lines of docs/hsm.md are run as they are, with SoftHSM; what they make is verified.
func TestHSM(t *testing.T) {
	for _, tool := range []string{"softhsm2-util", "pkcs11-tool", "openssl"} {
		testtools.Require(t, tool)
	}
	module := ""
	for _, pattern := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/*/softhsm/libsofthsm2.so"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			module = found[0]
		}
	}
	require.NotEmpty(t, module, "softhsm2 is installed without libsofthsm2.so")
	text, err := os.ReadFile("../../docs/hsm.md")
	require.NoError(t, err)
	_, block, ok := strings.Cut(string(text), "```sh\n")
	require.True(t, ok)
	script, _, ok := strings.Cut(block, "```")
	require.True(t, ok)

	bin, dir := t.TempDir(), t.TempDir()
	compile(t, bin, "keys-generate", "verity-format", "sign-pe-pkcs11", "sign-pe-elsewhere", "root-hash-elsewhere", "uki-pcrsig-elsewhere")
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"keys", "tokens"} {
		require.NoError(t, os.Mkdir(in(name), 0o700))
	}
	require.NoError(t, os.WriteFile(in("softhsm2.conf"), []byte("directories.tokendir = "+in("tokens")+"\n"), 0o600))
	require.NoError(t, os.WriteFile(in("root.raw"), make([]byte, 1<<20), 0o644))
	f, err := os.Create(in("acme_1.efi"))
	require.NoError(t, err)
	source := func(b []byte) osmith.Source { return bytes.NewReader(b) }
	image, err := (&uki.Image{
		Stub: source(petest.Stub("262")), Linux: source(petest.Kernel("6.18.0-acme")), Initrd: []osmith.Source{source([]byte("initrd"))},
		OSRelease: []byte("ID=acme\nIMAGE_VERSION=1\n"),
	}).Assemble()
	require.NoError(t, err)
	_, err = image.WriteTo(f)
	require.NoError(t, errors.Join(err, f.Close()))
	cmd := exec.CommandContext(t.Context(), "sh", "-euc", "keys-generate keys; verity-format root.raw\n"+script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "SOFTHSM2_CONF="+in("softhsm2.conf"), "MODULE="+module, "PIN=1234")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)

	read := func(name string) []byte {
		b, err := os.ReadFile(in(name))
		require.NoError(t, err)
		return b
	}
	certificate := func(name string) *x509.Certificate {
		block, _ := pem.Decode(read(name))
		require.NotNil(t, block)
		c, err := x509.ParseCertificate(block.Bytes)
		require.NoError(t, err)
		return c
	}
	signed, err := osmith.OpenFile(in("now.efi"))
	require.NoError(t, err)
	defer signed.Close()
	s, err := authenticode.Verify(signed, []*x509.Certificate{certificate("image.crt")})
	require.NoError(t, err)
	require.Equal(t, "CN=Acme OS images", s.Certificates[0].Subject.String())
	require.NoError(t, certificate("image.crt").CheckSignatureFrom(certificate("keys/db.crt")))

	root, err := hex.DecodeString(string(read("root.roothash")))
	require.NoError(t, err)
	_, err = verity.VerifySignature(read("root.roothash.p7s"), root, []*x509.Certificate{certificate("image.crt")})
	require.NoError(t, err)

	key, err := policy.ParsePublicKey(read("image.pub"))
	require.NoError(t, err)
	signatures, err := policy.ParseSignatures(read("acme_1.pcrsig"))
	require.NoError(t, err)
	require.Len(t, signatures, 4)
	for _, s := range signatures {
		require.NoError(t, s.Verify(key))
	}
}
