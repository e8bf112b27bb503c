package authenticode_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/signing/authenticode"
)

func TestSignIsDeterministic(t *testing.T) {
	for _, kind := range []string{"rsa1", "256a", "384a"} {
		id := newIdentity(t, kind, "self", nil)
		o := authenticode.SignOptions{Time: when}
		require.Equal(t, sign(t, image(3), id, o), sign(t, image(3), id, o))
		require.NotEqual(t, sign(t, image(3), id, o), sign(t, image(3), id, authenticode.SignOptions{}))
	}
}

// Sign changes two header fields and appends; nothing else.
func TestSignKeepsTheImage(t *testing.T) {
	id := newIdentity(t, "rsa1", "self", nil)
	for _, trailing := range []int{0, 1, 7, 8} {
		img := image(trailing)
		signed := sign(t, img, id, authenticode.SignOptions{})
		require.Zero(t, len(signed)%8)
		padded := append(bytes.Clone(img), make([]byte, -len(img)&7)...)
		pe := int(binary.LittleEndian.Uint32(img[0x3c:]))
		want := bytes.Clone(padded)
		copy(want[pe+24+64:], signed[pe+24+64:][:4])
		copy(want[pe+24+144:], signed[pe+24+144:][:8])
		require.Equal(t, want, signed[:len(padded)])
		require.EqualValues(t, len(padded), binary.LittleEndian.Uint32(signed[pe+24+144:]))
		require.EqualValues(t, len(signed)-len(padded), binary.LittleEndian.Uint32(signed[pe+24+148:]))

		before, err := authenticode.Digest(bytes.NewReader(padded), crypto.SHA256)
		require.NoError(t, err)
		after, err := authenticode.Digest(bytes.NewReader(signed), crypto.SHA256)
		require.NoError(t, err)
		require.Equal(t, before, after)
	}
}

func TestSeveralSignatures(t *testing.T) {
	ids := []identity{newIdentity(t, "rsa1", "first", nil), newIdentity(t, "256a", "second", nil), newIdentity(t, "rsa2", "third", nil)}
	img := image(5)
	for i, id := range ids {
		img = sign(t, img, id, authenticode.SignOptions{Time: when})
		sigs, err := authenticode.Signatures(bytes.NewReader(img))
		require.NoError(t, err)
		require.Len(t, sigs, i+1)
		for j, s := range sigs {
			require.NoError(t, s.Err)
			require.Equal(t, ids[j].cert.Raw, s.Signer.Raw)
			require.Equal(t, when, s.SigningTime)
			require.Equal(t, sigs[0].Digest, s.Digest)
			v, err := authenticode.Verify(bytes.NewReader(img), ids[j].list())
			require.NoError(t, err)
			require.Equal(t, s, *v)
		}
	}
}

// A key elsewhere: over the digest, and over the attributes; the file is the one that Sign writes.
func TestPrepareAndJoin(t *testing.T) {
	id := newIdentity(t, "rsa1", "self", nil)
	for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		o := authenticode.SignOptions{Hash: h, Time: when}
		// already signed once
		img := sign(t, image(2), newIdentity(t, "256a", "other", nil), authenticode.SignOptions{})
		p, err := authenticode.Prepare(bytes.NewReader(img), id.cert, o)
		require.NoError(t, err)
		require.Equal(t, h, p.Hash)
		require.Equal(t, byte(0x31), p.SignedAttributes[0])
		w := h.New()
		w.Write(p.SignedAttributes)
		require.Equal(t, w.Sum(nil), p.Digest)
		d, err := authenticode.Digest(bytes.NewReader(img), h)
		require.NoError(t, err)
		require.Equal(t, d, p.ImageDigest)

		signature, err := id.key.Sign(rand.Reader, p.Digest, h)
		require.NoError(t, err)
		again, err := authenticode.Prepare(bytes.NewReader(img), id.cert, o) // another process
		require.NoError(t, err)
		var out bytes.Buffer
		require.NoError(t, again.Join(&out, bytes.NewReader(img), signature))
		require.Equal(t, sign(t, img, id, o), out.Bytes())

		out.Reset()
		signature[7] ^= 1
		require.ErrorContains(t, p.Join(&out, bytes.NewReader(img), signature), "authenticode: signature to join")
		require.Zero(t, out.Len(), "nothing is written with a wrong signature")
		require.ErrorContains(t, p.Join(&out, bytes.NewReader(img[:len(img)-8]), signature), "authenticode: ")
	}
}

func TestSignRefuses(t *testing.T) {
	id := newIdentity(t, "rsa1", "self", nil)
	other := newIdentity(t, "rsa2", "other", nil)
	good := image(0)
	pe := int(binary.LittleEndian.Uint32(good[0x3c:]))
	gap := bytes.Clone(good) // the last section starts 512 bytes later
	last := pe + 24 + 240 + 3*40
	raw := binary.LittleEndian.Uint32(gap[last+20:])
	binary.LittleEndian.PutUint32(gap[last+20:], raw+512)
	gap = append(gap, make([]byte, 512)...)
	overlap := bytes.Clone(good)
	binary.LittleEndian.PutUint32(overlap[last+20:], raw-512)
	noDirectory := bytes.Clone(good)
	binary.LittleEndian.PutUint32(noDirectory[pe+24+108:], 4)

	for _, c := range []struct {
		name string
		img  []byte
		key  crypto.Signer
		cert *x509.Certificate
		opts authenticode.SignOptions
		want string
	}{
		{"no PE", []byte("#!/bin/sh"), id.key, id.cert, authenticode.SignOptions{}, "not a PE image"},
		{"empty", nil, id.key, id.cert, authenticode.SignOptions{}, "not a PE image"},
		{"gap", gap, id.key, id.cert, authenticode.SignOptions{}, "belong to no section"},
		{"overlap", overlap, id.key, id.cert, authenticode.SignOptions{}, "overlaps the section before it"},
		{"no directory", noDirectory, id.key, id.cert, authenticode.SignOptions{}, "no certificate directory entry"},
		{"no key", good, nil, id.cert, authenticode.SignOptions{}, "no key"},
		{"no certificate", good, id.key, nil, authenticode.SignOptions{}, "no certificate"},
		{"key of another", good, other.key, id.cert, authenticode.SignOptions{}, "not that of the certificate"},
		{"SHA-1", good, id.key, id.cert, authenticode.SignOptions{Hash: crypto.SHA1}, "SHA-1"},
		{"truncated", good[:len(good)-1], id.key, id.cert, authenticode.SignOptions{}, "its data ends at"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			err := authenticode.Sign(&out, bytes.NewReader(c.img), c.key, c.cert, c.opts)
			require.ErrorContains(t, err, c.want)
			require.Regexp(t, `^authenticode: [^:]`, err.Error())
			require.NotRegexp(t, `cms:|pe:|authenticode:.*authenticode:`, err.Error())
			require.Zero(t, out.Len())
		})
	}
	require.ErrorIs(t, authenticode.Sign(io.Discard, bytes.NewReader(nil), id.key, id.cert, authenticode.SignOptions{}), authenticode.ErrNotPE)

	failed := errors.New("disk full")
	err := authenticode.Sign(failingWriter{failed}, bytes.NewReader(good), id.key, id.cert, authenticode.SignOptions{})
	require.ErrorIs(t, err, failed)
	err = authenticode.Sign(io.Discard, failingSource{bytes.NewReader(good), 4096, failed}, id.key, id.cert, authenticode.SignOptions{})
	require.ErrorIs(t, err, failed)
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// A failingSource cannot be read behind its headers.
type failingSource struct {
	*bytes.Reader
	from int64
	err  error
}

func (s failingSource) ReadAt(b []byte, off int64) (int, error) {
	if off+int64(len(b)) > s.from {
		return 0, s.err
	}
	return s.Reader.ReadAt(b, off)
}

// A source that is larger than any buffer, and never read in larger pieces than 256 KiB.
func TestStreaming(t *testing.T) {
	id := newIdentity(t, "rsa1", "self", nil)
	img := append(petest.Stub("262-1"), bytes.Repeat([]byte("0123456789abcdef"), 1<<16)...) // 1 MiB
	src := &countingSource{Reader: bytes.NewReader(img)}
	w := &countingWriter{}
	require.NoError(t, authenticode.Sign(w, src, id.key, id.cert, authenticode.SignOptions{}))
	require.LessOrEqual(t, max(src.largest, w.largest), 256<<10)
	_, err := authenticode.Verify(bytes.NewReader(w.Bytes()), id.list())
	require.NoError(t, err)
}

type countingSource struct {
	*bytes.Reader
	largest int
}

func (s *countingSource) ReadAt(b []byte, off int64) (int, error) {
	s.largest = max(s.largest, len(b))
	return s.Reader.ReadAt(b, off)
}

type countingWriter struct {
	bytes.Buffer
	largest int
}

func (w *countingWriter) Write(b []byte) (int, error) {
	w.largest = max(w.largest, len(b))
	return w.Buffer.Write(b)
}

func TestDigests(t *testing.T) {
	img := image(0)
	pe := int(binary.LittleEndian.Uint32(img[0x3c:]))
	// The slow way: the file without the two fields.
	plain := append(bytes.Clone(img[:pe+24+64]), img[pe+24+68:pe+24+144]...)
	plain = append(plain, img[pe+24+152:]...)
	want := sha256.Sum256(plain)
	m, err := authenticode.Digests(bytes.NewReader(img), crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512)
	require.NoError(t, err)
	require.Len(t, m, 4)
	require.Equal(t, want[:], m[crypto.SHA256])
	for h, sum := range m {
		require.Len(t, sum, h.Size())
		one, err := authenticode.Digest(bytes.NewReader(img), h)
		require.NoError(t, err)
		require.Equal(t, sum, one)
	}
	_, err = authenticode.Digest(bytes.NewReader(img), crypto.MD5)
	require.ErrorContains(t, err, "authenticode: digest algorithm MD5")
}
