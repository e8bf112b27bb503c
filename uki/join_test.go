package uki_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/uki"
)

// signElsewhere signs what an unsigned .pcrsig asks for.
func signElsewhere(t *testing.T, key *rsa.PrivateKey, unsigned []byte) []byte {
	var banks map[string][]map[string]any
	require.NoError(t, json.Unmarshal(bytes.TrimRight(unsigned, "\x00"), &banks), string(unsigned))
	n := 0
	for _, entries := range banks {
		for _, e := range entries {
			tbs, err := hex.DecodeString(e["tbs"].(string))
			require.NoError(t, err)
			digest := sha256.Sum256(tbs)
			e["sig"], err = rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
			require.NoError(t, err)
			n++
		}
	}
	require.Equal(t, 16, n, "four banks, four phases")
	b, err := json.Marshal(banks)
	require.NoError(t, err)
	return b
}

func pcrsig(t *testing.T, b []byte, profile int) []byte {
	f, err := uki.Open(source(b))
	require.NoError(t, err)
	r, ok := f.ProfileSection(profile, ".pcrsig")
	require.True(t, ok)
	text, err := io.ReadAll(r)
	require.NoError(t, err)
	return text
}

// Digests reserved, signed elsewhere, joined: an image that ukify reserved is joined by us as by
// ukify, to the byte, and one that we reserved is joined by ukify as by us.
func TestJoinAsUkify(t *testing.T) {
	r := testtools.Forky(t)
	dir := t.TempDir()
	file := func(name string, b []byte) string {
		p := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(p, b, 0o644))
		return p
	}
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		return b
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	require.NoError(t, err)
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	kernel := petest.Kernel("6.12.0-x")
	r.Run(t, dir, "ukify", "build", "--linux="+file("kernel", kernel), "--hwids=", "--cmdline=ro", "--os-release=ID=x\nVERSION_ID=1\n",
		"--policy-digest", "--pcr-public-key="+file("public.pem", public), "--json=short", "--output="+filepath.Join(dir, "reserved.efi"))
	reserved := read("reserved.efi")
	signed := signElsewhere(t, key, pcrsig(t, reserved, 0))
	join := func(image, output string) []byte {
		r.Run(t, dir, "ukify", "build", "--join-pcrsig="+image, "--pcrsig=@"+file("signed.json", signed), "--output="+filepath.Join(dir, output))
		return read(output)
	}
	theirs := join(filepath.Join(dir, "reserved.efi"), "joined.efi")
	joined := pcrsig(t, theirs, 0)
	assert.Contains(t, string(joined), `"sig"`)
	ours := func(b, signature []byte) []byte {
		f, err := uki.Open(source(b))
		require.NoError(t, err)
		e := f.Edit()
		require.NoError(t, e.JoinPCRSignature(0, signature))
		a, err := e.Assemble()
		require.NoError(t, err)
		return written(t, a)
	}
	requireSame(t, theirs, ours(reserved, joined))

	// The same the other way round.
	stub, err := os.ReadFile(r.Part(t, "stub"))
	require.NoError(t, err)
	im := uki.Image{Stub: source(stub), Linux: source(kernel), Cmdline: "ro", OSRelease: []byte("ID=x\nVERSION_ID=1\n"), PCRPublicKey: public}
	im.PCRSignature = bytes.TrimRight(pcrsig(t, reserved, 0), " \x00")
	im.PCRSignatureReserve = len(signed) + 1000
	built := assemble(t, &im)
	theirs = join(file("built.efi", built), "built-joined.efi")
	requireSame(t, theirs, ours(built, pcrsig(t, theirs, 0)))
	joinedByThem, err := uki.Open(source(theirs))
	require.NoError(t, err)
	assert.Empty(t, joinedByThem.Check())
	f, err := uki.Open(source(built))
	require.NoError(t, err)
	assert.Equal(t, []string{"(pcrsig-blank)"}, codes(f.Check()))
}

func requireSame(t *testing.T, theirs, ours []byte) {
	t.Helper()
	if !bytes.Equal(theirs, ours) {
		at := firstDifference(ours, theirs)
		t.Fatalf("%d bytes, theirs %d, first difference at %#x: % x and % x", len(ours), len(theirs), at, ours[at:][:16], theirs[at:][:16])
	}
}

// An image signed by sbsign and by systemd-sbsign is stripped to the image it was.
func TestStripSignatures(t *testing.T) {
	testtools.Require(t, "sbsign")
	testtools.Require(t, "openssl")
	dir := t.TempDir()
	im := good()
	plain := assemble(t, &im)
	path := filepath.Join(dir, "image.efi")
	require.NoError(t, os.WriteFile(path, plain, 0o644))
	testtools.Run(t, "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test/", "-keyout", filepath.Join(dir, "key"), "-out", filepath.Join(dir, "cert"))
	for i := range 2 {
		out := filepath.Join(dir, "signed.efi")
		testtools.Run(t, "sbsign", "--key", filepath.Join(dir, "key"), "--cert", filepath.Join(dir, "cert"), "--output", out, path)
		b, err := os.ReadFile(out)
		require.NoError(t, err)
		f, err := uki.Open(source(b))
		require.NoError(t, err)
		assert.True(t, f.Signed())
		assert.Empty(t, codes(f.Check()))

		e := f.Edit()
		require.NoError(t, e.Replace(".cmdline", -1, strings.NewReader("ab")))
		_, err = e.Assemble()
		var l *uki.LossError
		require.ErrorAs(t, err, &l)
		assert.Equal(t, []uki.Loss{uki.LossSignatures}, l.Losses)

		a, err := f.Edit().Strip().Assemble()
		require.NoError(t, err)
		requireSame(t, plain, written(t, a))
		if i == 0 {
			path = out // signed twice
		}
	}
}

// What is changed in an image that objcopy made stays one that opens, with all else as it was.
func TestEditObjcopyMade(t *testing.T) {
	testtools.Require(t, "objcopy")
	r := testtools.Trixie(t)
	dir := t.TempDir()
	kernel := filepath.Join(dir, "kernel")
	require.NoError(t, os.WriteFile(kernel, petest.Kernel("6.12.0-x"), 0o644))
	text := filepath.Join(dir, "text")
	require.NoError(t, os.WriteFile(text, []byte("ID=x\n"), 0o644))
	out := filepath.Join(dir, "image.efi")
	testtools.Run(t, "objcopy", "--add-section", ".osrel="+text, "--change-section-vma", ".osrel=0x14e000000",
		"--add-section", ".cmdline="+text, "--change-section-vma", ".cmdline=0x14e010000",
		"--add-section", ".linux="+kernel, "--change-section-vma", ".linux=0x14e020000", r.Part(t, "stub"), out)
	b, err := os.ReadFile(out)
	require.NoError(t, err)
	f, err := uki.Open(source(b))
	require.NoError(t, err)
	e := f.Edit()
	require.NoError(t, e.Replace(".cmdline", -1, strings.NewReader(strings.Repeat("long ", 9000))))
	require.NoError(t, e.Add(".initrd", -1, strings.NewReader("initrd")))
	a, err := e.Lose(uki.LossSymbols).Assemble()
	require.NoError(t, err)
	g, err := uki.Open(a)
	require.NoError(t, err)
	cmdline, _ := g.Cmdline()
	assert.Len(t, cmdline, 45000)
	for _, name := range []string{".text", ".osrel", ".linux", ".sbat"} {
		x, _ := f.Section(name)
		y, _ := g.Section(name)
		was, err := io.ReadAll(x)
		require.NoError(t, err)
		is, err := io.ReadAll(y)
		require.NoError(t, err)
		assert.Equal(t, was, is, name)
	}
	for _, found := range g.Check() {
		if found.Code != "cmdline-too-long" { // it is, so that sections have to move
			assert.NotEqual(t, uki.SeverityError, found.Severity, found)
		}
	}
}
