package authenticode_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/cms"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/internal/signedpe"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// What Debian 11 and 12 signed, and what Microsoft signed for them, verifies with the right
// certificate alone, strictly and by the model of edk2.
func TestOlderDebiansSignatures(t *testing.T) {
	r := testtools.Trixie(t)
	debian := vendorCertificate(t, readFile(t, r.Path("opt/signed/usr/lib/shim/shimx64.efi.signed")))
	microsoft := microsoftDB(t, r)
	for dir, want := range map[string]int{ // with fwupd, GRUB (four files each) and shim
		// shim for arm64 is not signed there
		"bullseye-amd64": 6, "bullseye-arm64": 5, "bullseye-i386": 6, "bullseye-armhf": 1,
		"bookworm-amd64": 6, "bookworm-arm64": 6, "bookworm-i386": 6, "bookworm-armhf": 1,
	} {
		t.Run(dir, func(t *testing.T) {
			found := 0
			err := filepath.WalkDir(r.Path("opt", "signed-"+dir), func(path string, e fs.DirEntry, err error) error {
				if err != nil || e.IsDir() || !strings.HasSuffix(path, ".signed") {
					return err
				}
				b := readFile(t, path)
				sigs, err := authenticode.Signatures(bytes.NewReader(b))
				require.NoError(t, err, path)
				if len(sigs) == 0 {
					require.Equal(t, "bullseye-arm64", dir)
					require.Equal(t, "shimaa64.efi.signed", filepath.Base(path))
					return nil
				}
				found++
				right, wrong := []*x509.Certificate{debian}, microsoft
				if strings.Contains(path, "/shim/shim") {
					right, wrong = wrong, right
				}
				checkSigned(t, path, b, right, wrong...)
				for _, c := range []struct {
					db []*x509.Certificate
					ok bool
				}{{right, true}, {wrong, false}} {
					var lists []secureboot.SignatureList
					for _, cert := range c.db {
						lists = append(lists, secureboot.CertificateList(osmith.GUID{}, cert))
					}
					db, err := secureboot.AppendSignatureLists(nil, lists...)
					require.NoError(t, err)
					v := evaluate(t, osmith.FirmwareVariables{SecureBoot: []byte{1}, DB: db}, b)
					require.Equal(t, c.ok, v.Allowed, "%s: %s", path, v.Reason)
				}
				return nil
			})
			require.NoError(t, err)
			require.Equal(t, want, found)
		})
	}
}

// The type that old pesign wrote into SpcIndirectData is accepted, no other one is.
func TestTypeOfOldPesign(t *testing.T) {
	id := newIdentity(t, "rsa1", "self", nil)
	img := petest.Stub("262-1")
	sum, err := authenticode.Digest(bytes.NewReader(img), crypto.SHA256)
	require.NoError(t, err)
	content, err := signedpe.EncodeIndirectData(crypto.SHA256, sum)
	require.NoError(t, err)
	usual := []byte{0x2b, 6, 1, 4, 1, 0x82, 0x37, 2, 1, 15}
	for last, want := range map[byte]bool{15: true, 21: true, 22: false, 30: false} {
		changed := bytes.Clone(usual)
		changed[len(changed)-1] = last
		c := cms.Template{ContentType: signedpe.OIDIndirectData, Content: bytes.Replace(content, usual, changed, 1), Attributes: true, Certificate: id.cert}
		p, err := c.Prepare()
		require.NoError(t, err)
		signature, err := cms.SignDigest(id.key, id.cert, p.Hash, p.Digest)
		require.NoError(t, err)
		message, err := c.Join(signature)
		require.NoError(t, err)
		var out bytes.Buffer
		err = authenticode.Attach(&out, bytes.NewReader(img), message)
		if !want {
			require.ErrorContains(t, err, "want a PE image (1.3.6.1.4.1.311.2.1.15)")
			continue
		}
		require.NoError(t, err)
		_, err = authenticode.Verify(bytes.NewReader(out.Bytes()), id.list())
		require.NoError(t, err)
		im, err := secureboot.ReadImage(bytes.NewReader(out.Bytes()))
		require.NoError(t, err)
		db, err := secureboot.AppendSignatureLists(nil, secureboot.CertificateList(osmith.GUID{}, id.cert))
		require.NoError(t, err)
		machine := osmith.FirmwareVariables{SecureBoot: []byte{1}, DB: db}
		require.True(t, secureboot.Evaluate(machine, im, secureboot.EvaluateOptions{}).Allowed)
		uboot := secureboot.Evaluate(machine, im, secureboot.EvaluateOptions{Firmware: secureboot.FirmwareUBoot202610})
		require.Equal(t, last == 15, uboot.Allowed, uboot.Reason)
		require.Equal(t, last == 21, uboot.Unknown)
	}
}
