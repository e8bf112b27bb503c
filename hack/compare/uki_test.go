package compare

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/uki"
)

const (
	ukiCmdline   = "ro quiet"
	ukiOSRelease = "ID=test\nVERSION_ID=1\n"
	ukiReserve   = 16 << 10 // of .pcrsig: 16 signatures of RSA with 2048 bits
)

// The banks of a TPM.
var (
	banks     = []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512}
	bankNames = []string{"sha1", "sha256", "sha384", "sha512"}
)

// A ukiJob is one set of parts, as values for us and as options for ukify.
type ukiJob struct {
	dir   string
	image uki.Image
	args  []string // of ukify
	key   *rsa.PrivateKey
	cert  *x509.Certificate
}

func newUKIJob(b *testing.B, r testtools.Root, initrdSize int64) *ukiJob {
	dir := b.TempDir()
	initrd := noise(b, filepath.Join(dir, "initrd"), initrdSize)
	return &ukiJob{dir: dir,
		image: uki.Image{
			Stub:      source(open(b, r.Part(b, "stub"))),
			Linux:     source(open(b, r.Part(b, "kernel"))),
			Initrd:    []osmith.Source{source(initrd)},
			Cmdline:   ukiCmdline,
			OSRelease: []byte(ukiOSRelease),
		},
		args: []string{"build", "--linux=/opt/kernel/vmlinuz", "--initrd=" + initrd.Name(),
			"--cmdline=" + ukiCmdline, "--os-release=" + ukiOSRelease, "--output=" + filepath.Join(dir, "theirs")},
	}
}

// keys makes one key for both kinds of signatures.
func (j *ukiJob) keys(b *testing.B) {
	var err error
	j.key, err = rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(b, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "compare"},
		NotBefore: time.Unix(1_700_000_000, 0), NotAfter: time.Unix(2_000_000_000, 0)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &j.key.PublicKey, j.key)
	require.NoError(b, err)
	j.cert, err = x509.ParseCertificate(cert)
	require.NoError(b, err)
	private, err := x509.MarshalPKCS8PrivateKey(j.key)
	require.NoError(b, err)
	public, err := x509.MarshalPKIXPublicKey(&j.key.PublicKey)
	require.NoError(b, err)
	for name, block := range map[string]pem.Block{
		"key.pem":  {Type: "PRIVATE KEY", Bytes: private},
		"pub.pem":  {Type: "PUBLIC KEY", Bytes: public},
		"cert.pem": {Type: "CERTIFICATE", Bytes: cert},
	} {
		require.NoError(b, os.WriteFile(filepath.Join(j.dir, name), pem.EncodeToMemory(&block), 0o600))
	}
	j.args = append(j.args, "--signtool=systemd-sbsign", "--no-sign-kernel",
		"--secureboot-private-key="+filepath.Join(j.dir, "key.pem"), "--secureboot-certificate="+filepath.Join(j.dir, "cert.pem"))
}

// sides writes with write what the image is assembled to.
func (j *ukiJob) sides(b *testing.B, r testtools.Root, write func(f *os.File, a *uki.Assembled) error) sides {
	return sides{
		ours: func() error {
			return create(filepath.Join(j.dir, "ours"), func(f *os.File) error {
				assembled, err := j.image.Assemble()
				if err != nil {
					return err
				}
				return write(f, assembled)
			})
		},
		reference: inTree(b, r, j.dir, append([]string{"ukify"}, j.args...)...),
	}
}

func ukiAssemble(b *testing.B) sides {
	r := testtools.Forky(b)
	return newUKIJob(b, r, 100_000_000).sides(b, r, func(f *os.File, a *uki.Assembled) error {
		_, err := a.WriteTo(f)
		return err
	})
}

// signing has work write an image behind a signer.
func (j *ukiJob) signing(work func(w io.Writer, a *uki.Assembled) error) func(f *os.File, a *uki.Assembled) error {
	return func(f *os.File, a *uki.Assembled) error {
		s, err := authenticode.NewStreamSigner(f, j.key, j.cert, authenticode.SignOptions{})
		if err != nil {
			return err
		}
		if err := work(s, a); err != nil {
			return err
		}
		return s.Close()
	}
}

func ukiSigned(b *testing.B) sides {
	r := testtools.Forky(b)
	j := newUKIJob(b, r, 100_000_000)
	j.keys(b)
	return j.sides(b, r, j.signing(func(w io.Writer, a *uki.Assembled) error {
		_, err := a.WriteTo(w)
		return err
	}))
}

func ukiMeasuredAndSigned(b *testing.B) sides {
	r := testtools.Forky(b)
	j := newUKIJob(b, r, 100_000_000)
	j.keys(b)
	public, err := os.ReadFile(filepath.Join(j.dir, "pub.pem"))
	require.NoError(b, err)
	j.image.PCRPublicKey, j.image.PCRSignatureReserve = public, ukiReserve
	j.args = append(j.args, "--pcr-private-key="+filepath.Join(j.dir, "key.pem"), "--pcr-public-key="+filepath.Join(j.dir, "pub.pem"))
	for _, name := range bankNames {
		j.args = append(j.args, "--pcr-banks="+name)
	}
	o := uki.WriteOptions{Hashes: banks, Sign: func(variants []uki.VariantMeasurements) ([]byte, error) {
		states, err := tpm.PCR11States(variants[0].Sections, banks, nil)
		if err != nil {
			return nil, err
		}
		signed, err := policy.Sign(j.key, states, "")
		if err != nil {
			return nil, err
		}
		return signed.MarshalJSON()
	}}
	return j.sides(b, r, j.signing(func(w io.Writer, a *uki.Assembled) error {
		_, err := a.WriteStream(w, o)
		return err
	}))
}

// ukiMeasure computes what PCR 11 will hold from a finished image, systemd-measure from its
// sections.
func ukiMeasure(b *testing.B) sides {
	r := testtools.Forky(b)
	j := newUKIJob(b, r, 200_000_000)
	a, err := j.image.Assemble()
	require.NoError(b, err)
	image, err := os.Create(filepath.Join(j.dir, "image.efi"))
	require.NoError(b, err)
	b.Cleanup(func() { image.Close() })
	_, err = a.WriteTo(image)
	require.NoError(b, err)
	args := []string{"/usr/lib/systemd/systemd-measure", "calculate", "--json=short", "--phase=:"}
	f, err := uki.Open(source(image))
	require.NoError(b, err)
	for _, name := range []string{"linux", "osrel", "cmdline", "initrd", "uname", "sbat"} {
		s, ok := f.Section("." + name)
		require.True(b, ok, name)
		path := filepath.Join(j.dir, "section-"+name)
		require.NoError(b, create(path, func(out *os.File) error {
			_, err := io.Copy(out, s)
			return err
		}))
		args = append(args, "--"+name+"="+path)
	}
	for _, name := range bankNames {
		args = append(args, "--bank="+name)
	}
	return sides{
		ours: func() error {
			f, err := uki.Open(source(image))
			if err != nil {
				return err
			}
			ms, err := f.Measurements(banks...)
			if err != nil {
				return err
			}
			if len(ms) != 6 {
				return fmt.Errorf("%d sections measured", len(ms))
			}
			return nil
		},
		reference: inTree(b, r, j.dir, args...),
	}
}
