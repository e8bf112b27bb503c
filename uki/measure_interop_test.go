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
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/uki"
)

// policy is the TPM's PolicyPCR digest for PCR 11 of the SHA-256 bank (TPM 2.0 Library, part 3,
// "TPM2_PolicyPCR").
func policy(ms []osmith.Measurement, phases ...string) string {
	pcr := pcr11(crypto.SHA256, ms)
	for _, p := range phases {
		d := sha256.Sum256([]byte(p))
		next := sha256.Sum256(append(pcr, d[:]...))
		pcr = next[:]
	}
	values := sha256.Sum256(pcr)
	b := make([]byte, 32)
	b = append(b, 0, 0, 1, 0x7f, 0, 0, 0, 1, 0, 0x0b, 3, 0, 8, 0)
	d := sha256.Sum256(append(b, values[:]...))
	return hex.EncodeToString(d[:])
}

// ukify signs a policy for each profile and each device tree in it; those are what we predict for
// these variants. Of the trees that profiles share, ukify 262 takes one only into account in a
// profile that is joined; ukify 257 leaves .sbat out in an image with profiles, and is not asked.
func TestUkifySignsOurVariants(t *testing.T) {
	r := testtools.Forky(t)
	dir := t.TempDir()
	file := func(name string, b []byte) string {
		p := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(p, b, 0o644))
		return p
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	require.NoError(t, err)
	keys := []string{"--pcr-private-key=" + file("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		"--pcr-public-key=" + file("public.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
		"--pcr-banks=sha256", "--phases=enter-initrd"}
	profile := filepath.Join(dir, "profile.efi")
	r.Run(t, dir, "ukify", "build", "--profile=ID=debug", "--cmdline=debug", "--output="+profile)
	r.Run(t, dir, "ukify", append([]string{"build", "--linux=" + file("kernel", petest.Kernel("6.12.0-x")), "--cmdline=ro", "--os-release=ID=x\nVERSION_ID=1\n",
		"--microcode=" + file("ucode", []byte("microcode")), "--splash=" + file("splash", []byte("BM")), "--hwids=", "--devicetree=" + file("plain", []byte("for all")),
		"--devicetree-auto=" + file("one", []byte("first tree")), "--devicetree-auto=" + file("two", bytes.Repeat([]byte("second"), 999)),
		"--profile=ID=main", "--join-profile=" + profile, "--output=" + filepath.Join(dir, "image.efi")}, keys...)...)
	b, err := os.ReadFile(filepath.Join(dir, "image.efi"))
	require.NoError(t, err)
	f, err := uki.Open(source(b))
	require.NoError(t, err)
	vs, err := f.MeasureVariants(crypto.SHA256)
	require.NoError(t, err)
	require.Len(t, vs, 6)
	for p := range 2 {
		var signed map[string][]struct {
			Pol string `json:"pol"`
		}
		text := bytes.TrimRight(pcrsig(t, b, p), "\x00 ")
		require.NoError(t, json.Unmarshal(text, &signed), string(text))
		var ours []string
		for _, v := range vs {
			if v.Profile == p && v.DeviceTree > 0 {
				ours = append(ours, policy(v.Sections, "enter-initrd"))
			}
		}
		require.Len(t, signed["sha256"], 2-p)
		for _, s := range signed["sha256"] {
			assert.Contains(t, ours, s.Pol, "profile %d", p)
		}
	}
}
