package authenticode_test

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/signing/authenticode"
)

func write(t testing.TB, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, b, 0o600))
	return path
}

// osslsigncode runs trixie's: the one of Debian 12 (2.5) calls every signature of a UEFI image
// invalid, those of sbsign too. It sees the files that this test made, not those of the test above
// it.
func osslsigncode(t testing.TB, args ...string) string {
	t.Helper()
	return testtools.Trixie(t).Run(t, filepath.Dir(t.TempDir()), "osslsigncode", args...)
}

// What we sign, sbverify and osslsigncode accept, with checksum and digest as they compute them.
func TestToolsAcceptOurs(t *testing.T) {
	testtools.Require(t, "sbverify")
	ca := newIdentity(t, "rsa2", "CA", nil)
	leaf := newIdentity(t, "rsa1", "leaf", &ca)
	self := newIdentity(t, "rsa1", "self", nil)
	other := newIdentity(t, "rsa2", "other", nil)
	for _, c := range []struct {
		name     string
		id, root identity
		trailing int
		opts     authenticode.SignOptions
	}{
		{name: "self-signed", id: self, root: self, opts: authenticode.SignOptions{Time: when}},
		{name: "no time", id: self, root: self},
		{name: "trailing data of 3 bytes", id: self, root: self, trailing: 3},
		{name: "trailing data of 4096 bytes", id: self, root: self, trailing: 4096},
		{name: "sha384", id: self, root: self, opts: authenticode.SignOptions{Hash: crypto.SHA384}},
		{name: "sha512", id: self, root: self, opts: authenticode.SignOptions{Hash: crypto.SHA512}},
		{name: "ECDSA", id: newIdentity(t, "256a", "ec", nil), root: newIdentity(t, "256a", "ec", nil)},
		{name: "chain", id: leaf, root: ca, opts: authenticode.SignOptions{Time: when, Chain: ca.list()}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "ECDSA" {
				c.root = c.id
			}
			signed := sign(t, image(c.trailing), c.id, c.opts)
			path := write(t, "signed.efi", signed)
			_, cert := c.root.files(t)
			h := c.opts.Hash
			if h == 0 {
				h = crypto.SHA256
			}
			if h == crypto.SHA256 { // all that sbverify knows
				testtools.Run(t, "sbverify", "--cert", cert, path)
				_, foreign := other.files(t)
				if out, err := testtools.Try(t, "sbverify", "--cert", foreign, path); err == nil {
					t.Errorf("sbverify accepts with a foreign certificate: %s", out)
				}
			}
			// The certificates of this test ended in 2002: ask about that time.
			out := osslsigncode(t, "verify", "-CAfile", cert, "-time", "994000000", "-ignore-timestamp", "-in", path)
			require.Contains(t, out, "Succeeded")
			sums := regexp.MustCompile(`message digest\s*:\s*([0-9A-F]+)`).FindAllStringSubmatch(out, -1)
			require.Len(t, sums, 2, out) // current and calculated
			digest, err := authenticode.Digest(bytes.NewReader(signed), h)
			require.NoError(t, err)
			for _, s := range sums {
				require.Equal(t, strings.ToUpper(hex.EncodeToString(digest)), s[1])
			}
			require.Regexp(t, `PE checksum\s*:`, out)
			require.NotContains(t, out, "MISMATCH") // of checksum or digest
		})
	}
}

// What sbsign and osslsigncode sign, we accept; both may be on one image, in either order, with
// ours between them.
func TestWeAcceptTools(t *testing.T) {
	testtools.Require(t, "sbsign")
	id := newIdentity(t, "rsa1", "self", nil)
	other := newIdentity(t, "rsa2", "other", nil)
	for _, trailing := range []int{0, 5, 8} {
		t.Run(fmt.Sprint(trailing), func(t *testing.T) {
			key, cert := id.files(t)
			plain := write(t, "plain.efi", image(trailing))
			out := filepath.Join(t.TempDir(), "out.efi")
			check := func(signatures int) []byte {
				b, err := os.ReadFile(out)
				require.NoError(t, err)
				s, err := authenticode.Verify(bytes.NewReader(b), id.list())
				require.NoError(t, err)
				require.Equal(t, id.cert.Raw, s.Signer.Raw)
				all, err := authenticode.Signatures(bytes.NewReader(b))
				require.NoError(t, err)
				require.Len(t, all, signatures)
				for _, s := range all {
					require.NoError(t, s.Err)
				}
				_, err = authenticode.Verify(bytes.NewReader(b), other.list())
				require.ErrorIs(t, err, authenticode.ErrUntrusted)
				return b
			}
			osslsigncode(t, "sign", "-h", "sha256", "-certs", cert, "-key", key, "-in", plain, "-out", out)
			check(1)
			testtools.Run(t, "sbsign", "--key", key, "--cert", cert, "--output", out, plain)
			b := check(1)

			// Another of ours, then another of sbsign's.
			require.NoError(t, os.WriteFile(plain, sign(t, b, id, authenticode.SignOptions{}), 0o600))
			testtools.Run(t, "sbsign", "--key", key, "--cert", cert, "--output", out, plain)
			check(3)
			testtools.Run(t, "sbverify", "--cert", cert, out)
		})
	}
}

// Our file is the one of sbsign but for the S/MIME capabilities among its signed attributes, and so
// for lengths, signature and checksum.
func TestSameStructureAsSbsign(t *testing.T) {
	testtools.Require(t, "sbsign")
	id := newIdentity(t, "rsa1", "self", nil)
	key, cert := id.files(t)
	plain := image(0)
	out := filepath.Join(t.TempDir(), "out.efi")
	testtools.Run(t, "sbsign", "--key", key, "--cert", cert, "--output", out, write(t, "plain.efi", plain))
	theirs, err := os.ReadFile(out)
	require.NoError(t, err)
	sigs, err := authenticode.Signatures(bytes.NewReader(theirs))
	require.NoError(t, err)
	require.Len(t, sigs, 1)
	// sbsign takes the clock
	ours := sign(t, plain, id, authenticode.SignOptions{Time: sigs[0].SigningTime, AllowTimeOutsideValidityThatUBootRefuses: true})

	// From the version of SignedData to the digest algorithm of the signer nothing has a variable
	// length.
	from, to := len(plain)+8+23, bytes.LastIndex(ours, []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03})
	require.Greater(t, to, from+500)
	a, b := ours[from:to-5], theirs[from:to-5]
	diff := 0
	for i := range a {
		if a[i] != b[i] {
			diff++
		}
	}
	require.LessOrEqual(t, diff, 4, "two lengths of two bytes differ, nothing else")
	attrs := regexp.MustCompile(`(?s)\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x03.*\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x04\x31\x22\x04\x20.{32}`)
	require.Equal(t, attrs.Find(theirs), attrs.Find(ours), "contentType, signingTime, messageDigest")
}
