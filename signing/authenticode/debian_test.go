package authenticode_test

import (
	"bytes"
	"crypto/x509"
	"debug/pe"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/varstore"

	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

var roots = map[string]func(testing.TB) testtools.Root{"trixie": testtools.Trixie, "forky": testtools.Forky}

// Real stubs, loaders and kernels, signed by us, pass sbverify and osslsigncode; the kernels,
// signed by Debian before, then have two signatures.
func TestSignRealParts(t *testing.T) {
	testtools.Require(t, "sbverify")
	id := newIdentity(t, "rsa1", "self", nil)
	for name, root := range roots {
		for part, before := range map[string]int{"stub": 0, "addon-stub": 0, "loader": 0, "kernel": 1} {
			t.Run(name+"/"+part, func(t *testing.T) {
				b, err := os.ReadFile(root(t).Part(t, part))
				require.NoError(t, err)
				sigs, err := authenticode.Signatures(bytes.NewReader(b))
				require.NoError(t, err)
				require.Len(t, sigs, before)
				signed := sign(t, b, id, authenticode.SignOptions{Time: when})
				path := write(t, part, signed)
				_, cert := id.files(t)
				testtools.Run(t, "sbverify", "--cert", cert, path)
				if before == 0 { // osslsigncode reads tables of one entry only
					out := osslsigncode(t, "verify", "-CAfile", cert, "-time", "994000000", "-ignore-timestamp", "-in", path)
					require.NotContains(t, out, "MISMATCH")
				}
				_, err = authenticode.Verify(bytes.NewReader(signed), id.list())
				require.NoError(t, err)
			})
		}
	}
}

// Parts of other versions and another architecture: the stubs of 252, which have a symbol table
// behind their sections, and of 254, and those for arm64 with a kernel.
func TestSignOtherParts(t *testing.T) {
	testtools.Require(t, "sbverify")
	r := testtools.Trixie(t)
	id := newIdentity(t, "rsa1", "self", nil)
	_, cert := id.files(t)
	for pattern, want := range map[string]int{
		"stub-252/usr/lib/systemd/boot/efi/*.efi*":  2,
		"stub-254/usr/lib/systemd/boot/efi/*.efi*":  3,
		"arm64/usr/lib/systemd/boot/efi/*aa64.efi*": 2,
		"arm64/boot/vmlinuz*":                       1,
	} {
		files, err := filepath.Glob(r.Path("opt", pattern))
		require.NoError(t, err)
		require.GreaterOrEqual(t, len(files), want, pattern)
		for _, path := range files {
			t.Run(filepath.Base(path)+" "+pattern[:8], func(t *testing.T) {
				plain := readFile(t, path)
				sigs, err := authenticode.Signatures(bytes.NewReader(plain))
				require.NoError(t, err)
				var file memoryFile
				s, err := authenticode.NewStreamSigner(&file, id.key, id.cert, authenticode.SignOptions{Time: when})
				require.NoError(t, err)
				_, err = s.Write(plain)
				require.NoError(t, err)
				require.NoError(t, s.Close())
				require.True(t, bytes.Equal(sign(t, plain, id, authenticode.SignOptions{Time: when}), file.b))
				testtools.Run(t, "sbverify", "--cert", cert, write(t, "signed.efi", file.b))
				ours := func(i int, _ authenticode.Signature) bool { return i == len(sigs) }
				require.True(t, bytes.Equal(mask(plain), mask(remove(t, file.b, ours)[:len(plain)])))
			})
		}
	}
}

// Debian's chain as a machine with Microsoft's keys sees it: Microsoft signed shim, twice, and shim
// carries the certificate that leads to all the rest. Every file verifies with the certificates of
// one side and not with the other's, and no tampered copy does.
func TestDebiansSignatures(t *testing.T) {
	testtools.Require(t, "sbverify")
	r := testtools.Trixie(t)
	shim := readFile(t, r.Path("opt/signed/usr/lib/shim/shimx64.efi.signed"))
	debian := vendorCertificate(t, shim)
	require.Contains(t, debian.Subject.String(), "Debian Secure Boot CA")
	microsoft := microsoftDB(t, r)
	checkShim(t, shim, microsoft, debian, 1)
	t.Run("with the CA of 2023", func(t *testing.T) { checkShim(t, shim, microsoftDB(t, testtools.Forky(t)), debian, 2) })

	files := []string{r.Part(t, "kernel")}
	for _, pattern := range []string{"shim/fbx64*", "shim/mmx64*", "grub/*/*", "systemd/boot/efi/*"} {
		found, err := filepath.Glob(r.Path("opt/signed/usr/lib", pattern+".signed"))
		require.NoError(t, err)
		require.NotEmpty(t, found, pattern)
		files = append(files, found...)
	}
	require.Len(t, files, 8)
	cert := write(t, "debian.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: debian.Raw}))
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			checkSigned(t, path, readFile(t, path), []*x509.Certificate{debian}, microsoft...)
			testtools.Run(t, "sbverify", "--cert", cert, path)
			out := osslsigncode(t, "verify", "-CAfile", write(t, "debian.pem", readFile(t, cert)), "-ignore-timestamp", "-ignore-cdp", "-in", write(t, "signed.efi", readFile(t, path)))
			require.Contains(t, out, "Succeeded")
			require.NotContains(t, out, "MISMATCH")
		})
	}
	t.Run("kernel of forky", func(t *testing.T) {
		path := testtools.Forky(t).Part(t, "kernel")
		checkSigned(t, path, readFile(t, path), []*x509.Certificate{debian}, microsoft...)
	})
}

// checkShim verifies shim with each of Microsoft's certificates that issued one of its two signers,
// by the CA of 2011 and by that of 2023: either is enough.
func checkShim(t *testing.T, shim []byte, microsoft []*x509.Certificate, debian *x509.Certificate, want int) {
	t.Helper()
	sigs, err := authenticode.Signatures(bytes.NewReader(shim))
	require.NoError(t, err)
	require.Len(t, sigs, 2)
	found := 0
	for _, s := range sigs {
		for _, c := range microsoft {
			if bytes.Equal(c.RawSubject, s.Signer.RawIssuer) {
				v, err := authenticode.Verify(bytes.NewReader(shim), []*x509.Certificate{c})
				require.NoError(t, err)
				require.True(t, v.Signer.Equal(s.Signer))
				found++
				cert := write(t, "microsoft.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
				testtools.Run(t, "sbverify", "--cert", cert, write(t, "shim.efi", shim))
			}
		}
	}
	require.Equal(t, want, found)
	checkSigned(t, "shim", shim, microsoft, debian)
}

// checkSigned verifies a file and copies with one changed bit; and that it streams.
func checkSigned(t *testing.T, name string, b []byte, trusted []*x509.Certificate, others ...*x509.Certificate) {
	t.Helper()
	s, err := authenticode.Verify(bytes.NewReader(b), trusted)
	require.NoError(t, err, name)
	require.NoError(t, s.Err)
	_, err = authenticode.Verify(bytes.NewReader(b), others)
	require.ErrorIs(t, err, authenticode.ErrUntrusted)
	d, err := authenticode.NewDigester(s.Hash)
	require.NoError(t, err)
	_, err = d.Write(b)
	sums, err2 := d.Sums()
	// which no digest covers
	gaps := strings.Contains(name, "/fwupd/") && errors.Is(errors.Join(err, err2), authenticode.ErrGaps)
	if !gaps {
		require.NoError(t, errors.Join(err, err2))
		require.Equal(t, s.Digest, sums[s.Hash])
	}

	at := checksumAt(b)
	directory := at + 80
	if binary.LittleEndian.Uint16(b[at-64:]) == 0x10b { // PE32
		directory = at + 64
	}
	table := int(binary.LittleEndian.Uint32(b[directory:]))
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 40 {
		off := r.IntN(table)
		if i < 20 || gaps {
			off = r.IntN(1024) // more of the headers
		}
		if off >= at && off < at+4 {
			continue
		}
		was := b[off]
		b[off] ^= 1 << r.IntN(8)
		_, err := authenticode.Verify(bytes.NewReader(b), trusted)
		require.Error(t, err, "%s: byte 0x%x changed", name, off)
		b[off] = was
	}
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return b
}

// What a machine with Microsoft's keys does with Debian's kernel and shim, by way of package
// secureboot.
func TestMachineWithMicrosoftsKeys(t *testing.T) {
	r := testtools.Trixie(t)
	db := variable(t, r, "db")
	machine := osmith.FirmwareVariables{SecureBoot: []byte{1}, DB: db}
	verdict := evaluate(t, machine, readFile(t, r.Part(t, "kernel")))
	require.False(t, verdict.Allowed)
	require.Contains(t, verdict.Reason, "no certificate in db is on that chain")
	shim := readFile(t, r.Path("opt/signed/usr/lib/shim/shimx64.efi.signed"))
	verdict = evaluate(t, machine, shim)
	require.True(t, verdict.Allowed, verdict.Reason)
	require.Contains(t, verdict.Reason, "Microsoft")
	shim[len(shim)/2] ^= 1
	require.False(t, evaluate(t, machine, shim).Allowed)
}

// Microsoft's timestamps on shim are about its signatures; Debian's and ours have none.
func TestMicrosoftsTimestamps(t *testing.T) {
	shim := readFile(t, testtools.Trixie(t).Path("opt/signed/usr/lib/shim/shimx64.efi.signed"))
	entries, err := authenticode.Signatures(bytes.NewReader(shim))
	require.NoError(t, err)
	require.Len(t, entries, 2)
	for _, e := range entries {
		require.Len(t, e.Timestamps(), 1)
		stamp := e.Timestamps()[0]
		require.NoError(t, stamp.Err)
		require.True(t, stamp.RFC3161)
		require.Contains(t, stamp.Authority.Subject.String(), "Microsoft Time-Stamp Service")
		require.True(t, stamp.Time.After(e.Signer.NotBefore) && stamp.Time.Before(e.Signer.NotAfter), stamp.Time)
	}
}

func evaluate(t *testing.T, v osmith.FirmwareVariables, b []byte) secureboot.Verdict {
	t.Helper()
	im, err := secureboot.ReadImage(bytes.NewReader(b))
	require.NoError(t, err)
	return secureboot.Evaluate(v, im, secureboot.EvaluateOptions{})
}

// variable takes a Secure Boot variable out of the store of OVMF that has Microsoft's keys.
func variable(t testing.TB, r testtools.Root, name string) []byte {
	t.Helper()
	store, err := varstore.Parse(readFile(t, r.Path("usr/share/OVMF/OVMF_VARS_4M.ms.fd")))
	require.NoError(t, err)
	v, ok := store.Get(name, secureboot.ImageSecurityDatabase)
	require.True(t, ok)
	return v.Data
}

// microsoftDB is the certificates of that store's db.
func microsoftDB(t testing.TB, r testtools.Root) []*x509.Certificate {
	t.Helper()
	lists, err := secureboot.ParseSignatureLists(variable(t, r, "db"))
	require.NoError(t, err)
	var certs []*x509.Certificate
	for _, l := range lists {
		require.Equal(t, secureboot.TypeX509, l.Type)
		for _, s := range l.Signatures {
			c, err := x509.ParseCertificate(s.Data)
			require.NoError(t, err)
			certs = append(certs, c)
		}
	}
	require.NotEmpty(t, certs)
	return certs
}

// vendorCertificate reads what shim was built to trust: its section .vendor_cert begins with u32
// size of that, u32 size of what it was built to refuse, u32 offset of the first, u32 offset of the
// second, from the start of the section (shim, cert.S). Debian's is one certificate.
func vendorCertificate(t testing.TB, shim []byte) *x509.Certificate {
	t.Helper()
	f, err := pe.NewFile(bytes.NewReader(shim)) // which knows about long names
	require.NoError(t, err)
	s := f.Section(".vendor_cert")
	require.NotNil(t, s)
	b, err := s.Data()
	require.NoError(t, err)
	size, offset := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[8:])
	c, err := x509.ParseCertificate(b[offset:][:size])
	require.NoError(t, err)
	return c
}
