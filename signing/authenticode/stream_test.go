package authenticode_test

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/signing/authenticode"
)

// A memoryFile is an io.WriterAt that grows.
type memoryFile struct{ b []byte }

func (m *memoryFile) WriteAt(b []byte, off int64) (int, error) {
	if grow := off + int64(len(b)) - int64(len(m.b)); grow > 0 {
		m.b = append(m.b, make([]byte, grow)...)
	}
	return copy(m.b[off:], b), nil
}

// inPieces writes b in pieces of random sizes up to limit.
func inPieces(w io.Writer, b []byte, limit int, r *rand.Rand) error {
	for len(b) > 0 {
		n := min(1+r.IntN(limit), len(b))
		if m, err := w.Write(b[:n]); err != nil || m != n {
			return fmt.Errorf("%d of %d bytes: %w", m, n, err)
		}
		b = b[n:]
	}
	return nil
}

// What passes by gives the digests and the file that the whole image gives, however it is cut up,
// signed before or not.
func TestStreamIsTheSame(t *testing.T) {
	id, other := newIdentity(t, "rsa1", "self", nil), newIdentity(t, "256a", "other", nil)
	hashes := []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512}
	r := rand.New(rand.NewPCG(1, 2))
	images := map[string][]byte{}
	for _, trailing := range []int{0, 1, 7, 8, 100_000} {
		images[fmt.Sprintf("trailing %d", trailing)] = image(trailing)
		images[fmt.Sprintf("signed, trailing %d", trailing)] = sign(t, image(trailing), other, authenticode.SignOptions{})
	}
	images["signed twice"] = sign(t, images["signed, trailing 7"], id, authenticode.SignOptions{Hash: crypto.SHA512, Time: when})
	for name, img := range images {
		for _, limit := range []int{1, 100, 5000, 1 << 20} {
			if limit == 1 && len(img) > 20_000 {
				continue
			}
			t.Run(fmt.Sprint(name, "/", limit), func(t *testing.T) {
				d, err := authenticode.NewDigester(append(hashes, crypto.SHA256)...)
				require.NoError(t, err)
				require.NoError(t, inPieces(d, img, limit, r))
				want, err := authenticode.Digests(bytes.NewReader(img), hashes...)
				require.NoError(t, err)
				for range 2 {
					sums, err := d.Sums()
					require.NoError(t, err)
					require.Equal(t, want, sums)
				}

				o := authenticode.SignOptions{Hash: crypto.SHA384, Time: when, Chain: other.list()}
				var file memoryFile
				s, err := authenticode.NewStreamSigner(&file, id.key, id.cert, o, hashes...)
				require.NoError(t, err)
				_, err = s.Sums()
				require.ErrorContains(t, err, "not signed yet")
				require.NoError(t, inPieces(s, img, limit, r))
				require.NoError(t, s.Close())
				signed := sign(t, img, id, o)
				require.True(t, bytes.Equal(signed, file.b), "the file is not the one of Sign")

				want, err = authenticode.Digests(bytes.NewReader(signed), hashes...)
				require.NoError(t, err)
				for _, sums := range []func() (map[crypto.Hash][]byte, error){d.SumsAsSigned, s.Sums} {
					got, err := sums()
					require.NoError(t, err)
					require.Equal(t, want, got)
				}
				require.ErrorContains(t, s.Close(), "Close was called before")
				_, err = s.Write([]byte{0})
				require.ErrorContains(t, err, "after Close")
			})
		}
	}
}

// What cannot be hashed front to back is refused, and so is what Digests refuses, with the same
// error.
func TestStreamRefuses(t *testing.T) {
	id := newIdentity(t, "256a", "self", nil)
	le := binary.LittleEndian
	good := image(0)
	signed := sign(t, good, id, authenticode.SignOptions{})
	pe := int(le.Uint32(good[0x3c:]))
	last := pe + 24 + 240 + 3*40
	change := func(b []byte, off int, value uint32) []byte {
		b = bytes.Clone(b)
		le.PutUint32(b[off:], value)
		return b
	}
	gap := append(change(good, last+20, le.Uint32(good[last+20:])+512), make([]byte, 512)...)
	large := append(change(good, pe+24+60, 2<<20), make([]byte, 4<<20)...)
	for i := range 4 { // sections behind the larger headers
		le.PutUint32(large[pe+24+240+40*i+20:], le.Uint32(large[pe+24+240+40*i+20:])+2<<20)
	}
	for _, c := range []struct {
		name string
		img  []byte
		want string
		same bool // as Digests says
	}{
		{"no PE", []byte("#!/bin/sh, and then sixty-four more bytes to make for a DOS header"), "not a PE image", true},
		{"empty", nil, "not a PE image", true},
		{"cut in the DOS header", good[:63], "not a PE image", true},
		{"cut in the headers", good[:0x300], "SizeOfHeaders", true},
		{"cut in a section", good[:len(good)-1], "its data ends at", true},
		{"overlap", change(good, last+20, le.Uint32(good[last+20:])-512), "overlaps the section before it", true},
		{"headers far away", change(good, 0x3c, 0xffff_ff00), "headers at 0x0: 4294967128 bytes, limit 1048576", false},
		{"gap", gap, "belong to no section", false},
		{"large headers", large, "headers at 0x0: 2097152 bytes, limit 1048576", false},
		{"table cut", signed[:len(signed)-1], "certificate table", true},
		{"bytes behind the table", append(bytes.Clone(signed), 0), "1 bytes follow it", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := authenticode.NewDigester(crypto.SHA256)
			require.NoError(t, err)
			var file memoryFile
			s, err := authenticode.NewStreamSigner(&file, id.key, id.cert, authenticode.SignOptions{})
			require.NoError(t, err)
			_, err = d.Write(c.img)
			_, err2 := s.Write(c.img)
			if err != nil {
				require.EqualError(t, err2, err.Error())
				n, again := d.Write([]byte{0})
				require.Zero(t, n)
				require.Equal(t, err, again)
			}
			sums, err := d.Sums()
			require.Nil(t, sums)
			require.ErrorContains(t, err, c.want)
			_, ok := errors.AsType[*osmith.FormatError](err)
			require.True(t, ok, "%T", err)
			_, err2 = d.SumsAsSigned()
			require.EqualError(t, err2, err.Error())
			require.EqualError(t, s.Close(), err.Error())
			_, err2 = authenticode.Digest(bytes.NewReader(c.img), crypto.SHA256)
			if c.same {
				require.EqualError(t, err2, err.Error())
			}
			if c.name == "gap" {
				require.ErrorIs(t, err, authenticode.ErrGaps)
			}
		})
	}
	_, err := authenticode.NewDigester(crypto.SHA256, crypto.MD5)
	require.ErrorContains(t, err, "digest algorithm MD5")
}

func TestStreamSignerErrors(t *testing.T) {
	id, other := newIdentity(t, "256a", "self", nil), newIdentity(t, "rsa1", "other", nil)
	var file memoryFile
	for want, open := range map[string]func() (*authenticode.StreamSigner, error){
		"no certificate": func() (*authenticode.StreamSigner, error) {
			return authenticode.NewStreamSigner(&file, id.key, nil, authenticode.SignOptions{})
		},
		"no key": func() (*authenticode.StreamSigner, error) {
			return authenticode.NewStreamSigner(&file, nil, id.cert, authenticode.SignOptions{})
		},
		"not that of the certificate": func() (*authenticode.StreamSigner, error) {
			return authenticode.NewStreamSigner(&file, other.key, id.cert, authenticode.SignOptions{})
		},
		"algorithm SHA-1": func() (*authenticode.StreamSigner, error) {
			return authenticode.NewStreamSigner(&file, id.key, id.cert, authenticode.SignOptions{Hash: crypto.SHA1})
		},
		"algorithm MD5": func() (*authenticode.StreamSigner, error) {
			return authenticode.NewStreamSigner(&file, id.key, id.cert, authenticode.SignOptions{}, crypto.MD5)
		},
	} {
		s, err := open()
		require.Nil(t, s)
		require.ErrorContains(t, err, want)
		require.Regexp(t, `^authenticode: [^:]`, err.Error())
	}

	failed := errors.New("disk full")
	for _, from := range []int64{0, 4096, int64(len(image(0)))} {
		s, err := authenticode.NewStreamSigner(failingAt{from, failed}, id.key, id.cert, authenticode.SignOptions{})
		require.NoError(t, err)
		_, err = s.Write(image(0)[:8192])
		if err == nil {
			_, err = s.Write(image(0)[8192:])
		}
		err2 := s.Close()
		require.ErrorIs(t, err2, failed)
		require.ErrorContains(t, err2, "authenticode: write at 0x")
		if from < int64(len(image(0))) {
			require.ErrorIs(t, err, failed)
		}
	}
}

// A failingAt takes nothing from an offset on.
type failingAt struct {
	from int64
	err  error
}

func (w failingAt) WriteAt(b []byte, off int64) (int, error) {
	if off+int64(len(b)) > w.from {
		return 0, w.err
	}
	return len(b), nil
}
