package authenticode_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/signing/authenticode"
)

// A systemdSigner runs systemd-sbsign with a certificate, in a directory that it shares with the
// test.
type systemdSigner struct {
	t    testing.TB
	root testtools.Root
	dir  string
}

func newSystemdSigner(t testing.TB, id identity) systemdSigner {
	s := systemdSigner{t: t, root: testtools.Forky(t), dir: t.TempDir()}
	key, cert := id.files(t)
	for name, from := range map[string]string{"key.pem": key, "cert.pem": cert} {
		b, err := os.ReadFile(from)
		require.NoError(t, err)
		s.put(name, b)
	}
	return s
}

func (s systemdSigner) put(name string, b []byte) string {
	path := filepath.Join(s.dir, name)
	require.NoError(s.t, os.WriteFile(path, b, 0o600))
	return path
}

// sign runs it on an image and returns what it wrote.
func (s systemdSigner) sign(img []byte, args ...string) []byte {
	s.t.Helper()
	s.put("in.efi", img)
	out := filepath.Join(s.dir, "out")
	require.NoError(s.t, os.RemoveAll(out))
	args = append([]string{"SOURCE_DATE_EPOCH=" + strconv.FormatInt(when.Unix(), 10), "/usr/lib/systemd/systemd-sbsign", "sign",
		"--certificate", filepath.Join(s.dir, "cert.pem"), "--output", out}, args...)
	s.root.Run(s.t, s.dir, "env", append(args, filepath.Join(s.dir, "in.efi"))...)
	b, err := os.ReadFile(out)
	require.NoError(s.t, err)
	return b
}

// What systemd-sbsign signs, we accept; of what either prepares for a key elsewhere, the other
// makes the signed file; and from the same attributes it is the same file.
func TestSystemdSbsign(t *testing.T) {
	testtools.Require(t, "sbverify")
	id := newIdentity(t, "rsa1", "self", nil)
	first := newIdentity(t, "rsa2", "first", nil)
	s := newSystemdSigner(t, id)
	_, cert := id.files(t)
	elsewhere := func(digest []byte) []byte {
		signature, err := id.key.Sign(rand.Reader, digest, crypto.SHA256)
		require.NoError(t, err)
		return signature
	}
	for name, img := range map[string][]byte{
		"aligned":          image(0),
		"odd":              image(5),
		"signed by sbsign": sign(t, image(0), first, authenticode.SignOptions{}),
	} {
		t.Run(name, func(t *testing.T) {
			accept := func(b []byte) {
				t.Helper()
				_, err := authenticode.Verify(bytes.NewReader(b), id.list())
				require.NoError(t, err)
				testtools.Run(t, "sbverify", "--cert", cert, write(t, "signed.efi", b))
			}
			theirs := s.sign(img, "--private-key", filepath.Join(s.dir, "key.pem"))
			accept(theirs)

			// They prepare, we join.
			attributes := s.sign(img, "--prepare-offline-signing")
			h := crypto.SHA256.New()
			h.Write(attributes)
			signature := elsewhere(h.Sum(nil))
			p, err := authenticode.Prepare(bytes.NewReader(img), id.cert, authenticode.SignOptions{})
			require.NoError(t, err)
			var out bytes.Buffer
			require.NoError(t, p.JoinAttributes(&out, bytes.NewReader(img), attributes, signature))
			require.Equal(t, theirs, out.Bytes(), "the file that systemd-sbsign writes with the key at hand")
			accept(out.Bytes())

			// We prepare, they join.
			p, err = authenticode.Prepare(bytes.NewReader(img), id.cert, authenticode.SignOptions{Time: when})
			require.NoError(t, err)
			signature = elsewhere(p.Digest)
			joined := s.sign(img, "--signed-data", s.put("attributes", p.SignedAttributes), "--signed-data-signature", s.put("signature", signature))
			accept(joined)
			require.Equal(t, sign(t, img, id, authenticode.SignOptions{Time: when}), joined, "the file that we write with the key at hand")
		})
	}
}

// Attributes that are not about this image are refused, which systemd-sbsign does not do; others
// cannot get in.
func TestJoinAttributesRefuses(t *testing.T) {
	id := newIdentity(t, "rsa1", "self", nil)
	prepare := func(trailing int, o authenticode.SignOptions) *authenticode.Prepared {
		p, err := authenticode.Prepare(bytes.NewReader(image(trailing)), id.cert, o)
		require.NoError(t, err)
		return p
	}
	good := prepare(0, authenticode.SignOptions{Time: when})
	set := func(parts ...[]byte) []byte {
		b := bytes.Join(parts, nil)
		return append([]byte{0x31, byte(len(b))}, b...)
	}
	a := good.SignedAttributes[2:]
	contentType, signingTime, messageDigest := a[:27], a[27:57], a[57:]
	for _, c := range []struct {
		name       string
		attributes []byte
		want       string
	}{
		{"of another image", prepare(8, authenticode.SignOptions{}).SignedAttributes, "does not have the digest that was signed"},
		{"another hash", prepare(0, authenticode.SignOptions{Hash: crypto.SHA384}).SignedAttributes, "does not have the digest that was signed"},
		{"not in order", set(messageDigest, contentType), "not in the order that DER demands"},
		{"twice", set(contentType, contentType, messageDigest), "not in the order that DER demands"},
		{"no digest", set(contentType, signingTime), "attribute 1.2.840.113549.1.9.4 is missing"},
		{"no type", set(signingTime, messageDigest), "attribute 1.2.840.113549.1.9.3 is missing"},
		{"as a sequence", append([]byte{0x30}, good.SignedAttributes[1:]...), "tag 0x30, want 0x31"},
		{"trailing", append(bytes.Clone(good.SignedAttributes), 0), "unexpected bytes follow"},
		{"cut", good.SignedAttributes[:40], "bytes are left"},
		{"empty", []byte{}, "ends in the middle of an element"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := crypto.SHA256.New()
			w.Write(c.attributes)
			signature, err := id.key.Sign(rand.Reader, w.Sum(nil), crypto.SHA256)
			require.NoError(t, err)
			var out bytes.Buffer
			err = good.JoinAttributes(&out, bytes.NewReader(image(0)), c.attributes, signature)
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, "authenticode: signed attributes to join: ")
			require.Zero(t, out.Len())
		})
	}
	// Without the time, they are still good.
	attributes := set(contentType, messageDigest)
	w := crypto.SHA256.New()
	w.Write(attributes)
	signature, err := id.key.Sign(rand.Reader, w.Sum(nil), crypto.SHA256)
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, good.JoinAttributes(&out, bytes.NewReader(image(0)), attributes, signature))
	require.Equal(t, sign(t, image(0), id, authenticode.SignOptions{}), out.Bytes())
}
