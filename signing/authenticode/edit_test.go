package authenticode_test

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/signing/authenticode"
)

// checksumAt is the offset of the checksum of a PE32+ image.
func checksumAt(b []byte) int { return int(binary.LittleEndian.Uint32(b[0x3c:])) + 24 + 64 }

// withChecksum is an image with its right checksum, found in the slow way.
func withChecksum(b []byte) []byte {
	b = bytes.Clone(b)
	at := checksumAt(b)
	clear(b[at : at+4])
	sum := uint32(0)
	for i, x := range b {
		sum += uint32(x) << (8 * (i % 2))
		sum = sum&0xffff + sum>>16
	}
	binary.LittleEndian.PutUint32(b[at:], sum+uint32(len(b)))
	return b
}

func remove(t testing.TB, b []byte, choose func(int, authenticode.Signature) bool) []byte {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, authenticode.Remove(&out, bytes.NewReader(b), choose))
	return out.Bytes()
}

func all(int, authenticode.Signature) bool  { return true }
func none(int, authenticode.Signature) bool { return false }

// Whatever was added can be taken away again in any order, and what is left is what it would be if
// that had never been there.
func TestRemove(t *testing.T) {
	ids := []identity{newIdentity(t, "rsa1", "first", nil), newIdentity(t, "256a", "second", nil), newIdentity(t, "384a", "third", nil)}
	signedBy := func(img []byte, which ...int) []byte {
		for _, i := range which {
			img = sign(t, img, ids[i], authenticode.SignOptions{Time: when})
		}
		return img
	}
	for _, trailing := range []int{0, 3, 8} {
		t.Run(fmt.Sprint(trailing), func(t *testing.T) {
			plain := withChecksum(image(trailing))
			padded := withChecksum(append(bytes.Clone(plain), make([]byte, -len(plain)&7)...))
			every := signedBy(plain, 0, 1, 2)
			require.Equal(t, signedBy(plain, 1, 2), remove(t, every, authenticode.SignedBy(ids[0].cert)))
			require.Equal(t, signedBy(plain, 0, 2), remove(t, every, authenticode.SignedBy(ids[1].cert)))
			require.Equal(t, signedBy(plain, 0, 1), remove(t, every, func(i int, s authenticode.Signature) bool { return i == 2 }))
			require.Equal(t, signedBy(plain, 1), remove(t, every, func(i int, s authenticode.Signature) bool { return i != 1 }))
			require.Equal(t, padded, remove(t, every, all), "bit for bit what was signed")
			var out bytes.Buffer
			require.NoError(t, authenticode.RemoveAll(&out, bytes.NewReader(every)))
			require.Equal(t, padded, out.Bytes())

			// In the place of another.
			o := authenticode.SignOptions{Time: when, Replace: authenticode.SignedBy(ids[1].cert)}
			require.Equal(t, signedBy(plain, 0, 0, 2), sign(t, every, ids[0], o))
			o.Replace = func(i int, _ authenticode.Signature) bool { return i < 2 }
			require.Equal(t, signedBy(plain, 2, 2), sign(t, every, ids[2], o))
			o.Replace = all
			require.Equal(t, signedBy(plain, 1), sign(t, every, ids[1], o))
			var file memoryFile
			s, err := authenticode.NewStreamSigner(&file, ids[1].key, ids[1].cert, o)
			require.NoError(t, err)
			_, err = s.Write(every)
			require.NoError(t, err)
			require.NoError(t, s.Close())
			require.Equal(t, signedBy(plain, 1), file.b)
		})
	}
}

func TestRemoveRefuses(t *testing.T) {
	id := newIdentity(t, "256a", "self", nil)
	signed := sign(t, image(0), id, authenticode.SignOptions{})
	broken := bytes.Clone(signed)
	broken[len(image(0))+8] ^= 1
	behind := append(bytes.Clone(signed), 0)
	for _, c := range []struct {
		name string
		do   func(w io.Writer) error
		want error
		text string
	}{
		{"unsigned", func(w io.Writer) error { return authenticode.Remove(w, bytes.NewReader(image(0)), all) }, authenticode.ErrUnsigned, ""},
		{"unsigned, all", func(w io.Writer) error { return authenticode.RemoveAll(w, bytes.NewReader(image(0))) }, authenticode.ErrUnsigned, ""},
		{"no match", func(w io.Writer) error { return authenticode.Remove(w, bytes.NewReader(signed), none) }, authenticode.ErrNoMatch, ""},
		{"no choice", func(w io.Writer) error { return authenticode.Remove(w, bytes.NewReader(signed), nil) }, nil, "no function"},
		{"not DER", func(w io.Writer) error { return authenticode.Remove(w, bytes.NewReader(broken), all) }, nil, "tag 0x31, want 0x30"},
		{"no PE", func(w io.Writer) error { return authenticode.RemoveAll(w, bytes.NewReader(nil)) }, authenticode.ErrNotPE, ""},
		{"bytes behind", func(w io.Writer) error { return authenticode.RemoveAll(w, bytes.NewReader(behind)) }, nil, "1 bytes follow it"},
		{"replace none", func(w io.Writer) error {
			return authenticode.Sign(w, bytes.NewReader(signed), id.key, id.cert, authenticode.SignOptions{Replace: none})
		}, authenticode.ErrNoMatch, ""},
		{"replace in unsigned", func(w io.Writer) error {
			return authenticode.Sign(w, bytes.NewReader(image(0)), id.key, id.cert, authenticode.SignOptions{Replace: all})
		}, authenticode.ErrUnsigned, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			err := c.do(&out)
			require.Error(t, err)
			if c.want != nil {
				require.ErrorIs(t, err, c.want)
			}
			require.ErrorContains(t, err, c.text)
			require.Regexp(t, `^authenticode: [^:]`, err.Error())
			require.Zero(t, out.Len(), "nothing is written")
		})
	}
	// A table that cannot be parsed can still be cut off.
	var out bytes.Buffer
	require.NoError(t, authenticode.RemoveAll(&out, bytes.NewReader(broken)))
	require.Equal(t, withChecksum(image(0)), out.Bytes())
	failed := errors.New("disk full")
	require.ErrorIs(t, authenticode.RemoveAll(failingWriter{failed}, bytes.NewReader(signed)), failed)
}

// sbattach and osslsigncode take the only signature away, and leave the same file as we; sbattach
// takes one of two.
func TestRemoveAsTools(t *testing.T) {
	testtools.Require(t, "sbattach")
	id, other := newIdentity(t, "rsa1", "self", nil), newIdentity(t, "rsa2", "other", nil)
	for _, trailing := range []int{0, 5, 8} {
		signed := sign(t, image(trailing), id, authenticode.SignOptions{Time: when})
		path := write(t, "one.efi", signed)
		out := path + ".out"
		osslsigncode(t, "remove-signature", "-in", path, "-out", out)
		theirs, err := os.ReadFile(out)
		require.NoError(t, err)
		require.Equal(t, theirs, remove(t, signed, all), "osslsigncode")
		testtools.Run(t, "sbattach", "--remove", path)
		theirs, err = os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, theirs, remove(t, signed, all), "sbattach")

		twice := sign(t, signed, other, authenticode.SignOptions{})
		for i := range 2 {
			require.NoError(t, os.WriteFile(path, twice, 0o600))
			testtools.Run(t, "sbattach", "--signum", fmt.Sprint(i+1), "--remove", path)
			if theirs, err = os.ReadFile(path); err != nil {
				t.Fatal(err)
			}
			sigs, err := authenticode.Signatures(bytes.NewReader(theirs))
			require.NoError(t, err)
			if len(sigs) == 1 { // its numbers are not always ours: see which one went
				gone := func(_ int, s authenticode.Signature) bool { return !s.Signer.Equal(sigs[0].Signer) }
				require.Equal(t, theirs, remove(t, twice, gone))
			}
		}
	}
}

func TestAttach(t *testing.T) {
	id, other := newIdentity(t, "rsa1", "self", nil), newIdentity(t, "256a", "other", nil)
	for _, trailing := range []int{0, 5} {
		signed := sign(t, image(trailing), id, authenticode.SignOptions{Hash: crypto.SHA384})
		entries, err := authenticode.Signatures(bytes.NewReader(signed))
		require.NoError(t, err)
		require.Len(t, entries, 1)
		e := entries[0]
		require.Equal(t, e.Message, signed[e.Offset:][:len(e.Message)])
		require.Empty(t, e.Timestamps())

		attach := func(img, message []byte) ([]byte, error) {
			var out bytes.Buffer
			err := authenticode.Attach(&out, bytes.NewReader(img), message)
			return out.Bytes(), err
		}
		got, err := attach(image(trailing), e.Message)
		require.NoError(t, err)
		require.Equal(t, signed, got)
		before := sign(t, image(trailing), other, authenticode.SignOptions{})
		// with padding, as osslsigncode has it
		got, err = attach(before, append(bytes.Clone(e.Message), make([]byte, -len(e.Message)&7)...))
		require.NoError(t, err)
		require.Equal(t, sign(t, before, id, authenticode.SignOptions{Hash: crypto.SHA384}), got)

		_, err = attach(image(trailing+8), e.Message)
		require.ErrorAs(t, err, new(*authenticode.DigestError))
		bad := bytes.Clone(e.Message)
		bad[len(bad)-1] ^= 1
		_, err = attach(image(trailing), bad)
		require.ErrorContains(t, err, "the RSA signature is not one of this key")
		got, err = attach(image(trailing), e.Message[1:])
		require.ErrorAs(t, err, new(*osmith.FormatError))
		require.Empty(t, got)
	}

	// sbsign --detached and osslsigncode extract-signature.
	testtools.Require(t, "sbsign")
	key, cert := id.files(t)
	plain := write(t, "plain.efi", image(0))
	testtools.Run(t, "sbsign", "--detached", "--key", key, "--cert", cert, "--output", plain+".p7", plain)
	testtools.Run(t, "sbsign", "--key", key, "--cert", cert, "--output", plain+".signed", plain)
	osslsigncode(t, "extract-signature", "-in", plain+".signed", "-out", plain+".p7.extracted")
	for _, name := range []string{".p7", ".p7.extracted"} {
		message, err := os.ReadFile(plain + name)
		require.NoError(t, err)
		var out bytes.Buffer
		require.NoError(t, authenticode.Attach(&out, bytes.NewReader(image(0)), message), name)
		testtools.Run(t, "sbverify", "--cert", cert, write(t, "attached.efi", out.Bytes()))
	}
}
