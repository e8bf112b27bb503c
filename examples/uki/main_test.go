package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"

	"github.com/osmith-dev/osmith/internal/petest"
)

func call3(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	status = program.Run(context.Background(), args, &out, &err)
	return status, out.String(), err.String()
}

// ok runs what must work and returns what it prints.
func ok(t *testing.T, args ...string) string {
	t.Helper()
	status, stdout, stderr := call3(t, args...)
	require.Zero(t, status, stderr)
	require.Empty(t, stderr)
	return stdout
}

// object runs what must work with -json and decodes the one object.
func object(t *testing.T, into any, args ...string) {
	t.Helper()
	text := ok(t, append(args, "-json")...)
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	require.NoError(t, dec.Decode(into), text)
	require.False(t, dec.More(), "one object")
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	return b
}

// names lists a directory, to find what was left behind.
func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// TestCompressedKernels: what is compressed as a whole is decompressed, and the image is the same;
// of a zboot kernel the version is found.
func TestCompressedKernels(t *testing.T) {
	_, path := workshop(t)
	ok(t, buildArgs(path)...)
	want := read(t, path("out.efi"))
	kernel := read(t, path("linux"))
	for name, pack := range map[string]func(io.Writer) io.WriteCloser{
		"gzip": func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
		"zstd": func(w io.Writer) io.WriteCloser { z, err := zstd.NewWriter(w); require.NoError(t, err); return z },
		"xz":   func(w io.Writer) io.WriteCloser { z, err := xz.NewWriter(w); require.NoError(t, err); return z },
	} {
		var out bytes.Buffer
		w := pack(&out)
		_, err := w.Write(kernel)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		require.NoError(t, os.WriteFile(path("packed"), out.Bytes(), 0o600))
		ok(t, buildArgs(path, "-linux", path("packed"))...)
		require.Equal(t, want, read(t, path("out.efi")), name)
	}

	// The version in a zboot kernel for x86-64, which there is none of but here: the PE image says
	// what the payload is.
	var payload bytes.Buffer
	z, err := zstd.NewWriter(&payload)
	require.NoError(t, err)
	text := "Linux version 6.12.9-zboot (build@host) #1"
	_, err = io.WriteString(z, text)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	le := binary.LittleEndian
	kernel = petest.Image{SizeOfHeaders: 0x1000, ImageVersion: 3, Whole: true, DllCharacteristics: 0x100, Sections: []petest.Section{{Name: ".text", Code: true,
		Content: le.AppendUint32(payload.Bytes(), uint32(len(text)))}}}.Bytes()
	copy(kernel[4:], "zimg")
	le.PutUint32(kernel[8:], 0x1000)
	le.PutUint32(kernel[12:], uint32(payload.Len()+4))
	copy(kernel[24:56], "zstd22\x00")
	require.NoError(t, os.WriteFile(path("zboot"), kernel, 0o600))
	ok(t, buildArgs(path, "-linux", path("zboot"))...)
	var r inspectResult
	object(t, &r, "inspect", path("out.efi"))
	require.Equal(t, "6.12.9-zboot", r.Uname)
	ok(t, buildArgs(path, "-linux", path("zboot"), "-uname", "mine")...)
	copy(kernel[24:56], "lzo\x00\x00\x00\x00")
	require.NoError(t, os.WriteFile(path("zboot"), kernel, 0o600))
	status, _, stderr := call3(t, buildArgs(path, "-linux", path("zboot"))...)
	require.Equal(t, 2, status)
	require.Contains(t, stderr, "the payload is compressed with lzo: give the version")
}

// workshop is a directory with parts and keys, as files of these names: stub, addon (a stub),
// linux, initrd, osrel, pcr.key, pcr.pub, pcr2.key, pcr2.pub, db.key, db.crt, ec.key.
func workshop(t *testing.T) (dir string, path func(name string) string) {
	t.Helper()
	dir = t.TempDir()
	path = func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, b []byte) { require.NoError(t, os.WriteFile(path(name), b, 0o600)) }
	write("stub", petest.Stub("262"))
	write("addon", petest.AddonStub("262"))
	write("linux", petest.Kernel("6.12.0-stand-in"))
	write("initrd", []byte("initrd"))
	write("osrel", []byte("ID=acme\nVERSION_ID=1\nPRETTY_NAME=\"Acme OS 1\"\n"))
	for _, name := range []string{"pcr", "pcr2", "db"} {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		require.NoError(t, err)
		write(name+".key", pemOf(t, key))
		write(name+".pub", pemOf(t, key.Public()))
		if name == "db" {
			write("db.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate(t, key)}))
		}
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	write("ec.key", pemOf(t, ec))
	return dir, path
}

func pemOf(t *testing.T, key any) []byte {
	t.Helper()
	kind := "PRIVATE KEY"
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		kind = "PUBLIC KEY"
		der, err = x509.MarshalPKIXPublicKey(key)
	}
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func certificate(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Acme db"},
		NotBefore: time.Unix(1_700_000_000, 0), NotAfter: time.Unix(2_000_000_000, 0), BasicConstraintsValid: true, IsCA: true,
	}, &x509.Certificate{Subject: pkix.Name{CommonName: "Acme db"}}, key.Public(), key)
	require.NoError(t, err)
	return der
}

// build is a call that builds the usual image.
func buildArgs(path func(string) string, more ...string) []string {
	return append([]string{"build", "-stub", path("stub"), "-linux", path("linux"), "-initrd", path("initrd"),
		"-os-release", "@" + path("osrel"), "-cmdline", " ro\tquiet ", "-o", path("out.efi")}, more...)
}

func TestBuildSignVerify(t *testing.T) {
	dir, path := workshop(t)
	before := len(names(t, dir))
	var built buildResult
	object(t, &built, buildArgs(path, "-pcr-private-key", path("pcr.key"), "-secureboot-private-key", path("db.key"), "-secureboot-certificate", path("db.crt"))...)
	require.Equal(t, "osmith.uki/1", built.Schema)
	require.True(t, built.Signed)
	require.True(t, built.PCRSignature)
	require.EqualValues(t, len(read(t, path("out.efi"))), built.Size)
	require.Len(t, names(t, dir), before+1)

	require.Equal(t, path("out.efi")+": signed by CN=Acme db\n", ok(t, "verify", path("out.efi"), "-cert", path("db.crt")))

	// Unsigned and then signed is the same file.
	ok(t, buildArgs(path, "-pcr-private-key", path("pcr.key"), "-o", path("plain.efi"))...)
	var signed signResult
	object(t, &signed, "sign", "-key", path("db.key"), "-cert", path("db.crt"), path("plain.efi"))
	require.Equal(t, read(t, path("out.efi")), read(t, path("plain.efi")))
	require.Equal(t, built.SHA256, signed.SHA256)
	require.Len(t, signed.Signatures, 1)
	require.True(t, signed.Signatures[0].Valid)
	require.Empty(t, signed.Signatures[0].Time)

	t.Setenv("SOURCE_DATE_EPOCH", "1767225600")
	object(t, &signed, "sign", "-key", path("db.key"), "-cert", path("db.crt"), path("plain.efi"), "-o", path("twice.efi"))
	require.Len(t, signed.Signatures, 2)
	require.Equal(t, "2026-01-01T00:00:00Z", signed.Signatures[1].Time)

	// A byte of the kernel.
	b := read(t, path("out.efi"))
	b[bytes.Index(b, []byte("6.12.0-stand-in"))] ^= 1
	require.NoError(t, os.WriteFile(path("changed.efi"), b, 0o600))
	status, stdout, stderr := call3(t, "verify", "-json", "-cert", path("db.crt"), path("changed.efi"))
	require.Equal(t, 1, status)
	var no verifyResult
	require.NoError(t, json.Unmarshal([]byte(stdout), &no))
	require.Equal(t, "changed", no.Reason, stderr)
	require.False(t, no.Verified)
	require.False(t, no.Signatures[0].Valid)
}

func TestInspect(t *testing.T) {
	_, path := workshop(t)
	ok(t, "build", "-stub", path("addon"), "-profile", "ID=reset\nTITLE=Factory reset", "-cmdline", "systemd.factory_reset=1", "-o", path("reset.efi"))
	ok(t, buildArgs(path, "-profile", "ID=main", "-join-profile", path("reset.efi"), "-section", ".note:a\x1b[2Jb", "-pcr-private-key", path("pcr.key"),
		"-secureboot-private-key", path("db.key"), "-secureboot-certificate", path("db.crt"))...)
	text := ok(t, "inspect", path("out.efi"), "-svg", path("out.svg"))
	for _, want := range []string{
		"├─ system  Acme OS 1\n", "├─ kernel  6.12.0-stand-in\n", "├─ stub    262\n", "│  └─ CN=Acme db, sha256\n",
		"│  │  └─ ro quiet\n", "│  │  └─ systemd.factory_reset=1\n", "sha384: 4 policies by 1 key\n",
		"profile 1 (reset", "after enter-initrd:leave-initrd\n",
	} {
		require.Contains(t, text, want)
	}
	require.NotContains(t, text, "\x1b")
	require.Regexp(t, `(?m)^│ \.cmdline  █+·* +8 B  command line, PCR 11$`, text)
	require.Contains(t, text, "\n┌─ profile 1 reset: Factory reset\n")
	drawn, err := os.ReadFile(path("out.svg"))
	require.NoError(t, err)
	require.Contains(t, string(drawn), ">profile 1 reset: Factory reset</text>")

	var r inspectResult
	object(t, &r, "inspect", path("out.efi"))
	require.Len(t, r.Variants, 2)
	require.Equal(t, 1, r.Variants[1].Profile)
	require.NotEqual(t, r.Variants[0].PCR11[0], r.Variants[1].PCR11[0])

	// measure says the same, and -profile and -phases choose.
	var m measureResult
	object(t, &m, "measure", path("out.efi"), "-profile", "1", "-phases", "enter-initrd", "-pcr-banks", "sha256")
	require.Len(t, m.Variants, 1)
	require.Equal(t, []pcr11{r.Variants[1].PCR11[1]}, m.Variants[0].PCR11)
	require.Equal(t, r.Variants[1].Sections, m.Variants[0].Sections)
	require.Equal(t, "# profile 1 (reset: Factory reset)\n# PCR[11] Phase <enter-initrd>\n11:sha256="+m.Variants[0].PCR11[0].Banks["sha256"]+"\n",
		ok(t, "measure", path("out.efi"), "-profile", "1", "-phases", "enter-initrd", "-pcr-banks", "sha256"))
}
