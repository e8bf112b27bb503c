package pinned

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

var errChanged = errors.New("changed")

func changed(off, n int64) error { return fmt.Errorf("%d bytes at %d: %w", n, off, errChanged) }

// counted counts what is read.
type counted struct {
	*bytes.Reader
	read int
}

func (c *counted) ReadAt(b []byte, off int64) (int, error) {
	n, err := c.Reader.ReadAt(b, off)
	c.read += n
	return n, err
}

func content() []byte {
	b := make([]byte, 3*Chunk+100)
	for i := range b {
		b[i] = byte(i / 251)
	}
	return b
}

// Whatever is read first counts, in any order and at any offset; what was not read yet may still
// change.
func TestFirstReadingCounts(t *testing.T) {
	b := content()
	s := New(bytes.NewReader(b), changed)
	got := make([]byte, 10)
	_, err := s.ReadAt(got, Chunk-5)
	require.NoError(t, err)
	require.Equal(t, content()[Chunk-5:][:10], got)
	_, err = s.Sums()
	require.ErrorContains(t, err, "2 of 4 chunks were read")

	b[0] ^= 1
	b[3*Chunk] ^= 1
	_, err = s.ReadAt(got, 3*Chunk)
	require.NoError(t, err)
	_, err = s.ReadAt(got, 5)
	require.ErrorIs(t, err, errChanged)
	require.ErrorContains(t, err, fmt.Sprintf("%d bytes at 0", Chunk))
	all := make([]byte, len(b))
	b[0] ^= 1
	b[Chunk] ^= 1
	_, err = s.ReadAt(all, 0)
	require.ErrorContains(t, err, fmt.Sprintf("%d bytes at %d", Chunk, Chunk))
	b[Chunk] ^= 1
	n, err := s.ReadAt(all, 0)
	require.NoError(t, err)
	require.Equal(t, b, all[:n])

	n, err = s.ReadAt(make([]byte, 200), 3*Chunk)
	require.Equal(t, io.EOF, err)
	require.Equal(t, 100, n)
	_, err = s.ReadAt(got, int64(len(b)))
	require.Equal(t, io.EOF, err)
	_, err = s.ReadAt(got, -1)
	require.Error(t, err)
}

// The sums of all of a source bind another one, from its first byte on.
func TestSums(t *testing.T) {
	s := New(bytes.NewReader(content()), changed)
	require.NoError(t, Scan(s, io.Discard))
	sums, err := s.Sums()
	require.NoError(t, err)
	require.Equal(t, int64(len(content())), sums.Size())
	require.NoError(t, Scan(sums.Of(bytes.NewReader(content()), changed), io.Discard))
	for _, other := range [][]byte{content()[1:], append(content(), 0), make([]byte, 5*Chunk), append([]byte{1}, content()[1:]...)} {
		require.ErrorIs(t, Scan(sums.Of(bytes.NewReader(other), changed), io.Discard), errChanged)
	}
	require.ErrorIs(t, Scan((Sums{}).Of(bytes.NewReader(content()), changed), io.Discard), errChanged)
}

// Chunks that are read one at a time are kept, as many as there is room for, and read in full again
// with the others.
func TestKeep(t *testing.T) {
	src := &counted{Reader: bytes.NewReader(content())}
	s := New(src, changed)
	s.Keep = Chunk + 100
	small := func(off int64) {
		t.Helper()
		got := make([]byte, 50)
		n, err := s.ReadAt(got, off)
		require.NoError(t, err)
		require.Equal(t, content()[off:][:50], got[:n])
	}
	small(7)
	small(Chunk - 50)
	require.Equal(t, Chunk, src.read)
	small(3*Chunk + 50)
	small(3 * Chunk)
	require.Equal(t, Chunk+100, src.read)
	n, err := s.ReadAt(make([]byte, 200), 3*Chunk+10)
	require.Equal(t, io.EOF, err)
	require.Equal(t, 90, n)
	require.Equal(t, Chunk+100, src.read, "it asks for more than the chunk has")
	small(Chunk)
	small(Chunk)
	require.Equal(t, 3*Chunk+100, src.read, "there is no room for this one")
	src.read = 0
	require.NoError(t, Scan(s, io.Discard))
	require.Equal(t, len(content()), src.read)
}

// What can be had elsewhere is read once more.
func TestElsewhere(t *testing.T) {
	b := content()
	s := New(bytes.NewReader(b), changed)
	require.NoError(t, Scan(s, io.Discard))
	b[2*Chunk] ^= 1
	asked := 0
	s.Elsewhere = func() bool {
		asked++
		if asked == 1 {
			b[2*Chunk] ^= 1
		}
		return asked == 1
	}
	var got bytes.Buffer
	require.NoError(t, Scan(s, &got))
	require.Equal(t, content(), got.Bytes())
	b[2*Chunk] ^= 1
	require.ErrorIs(t, Scan(s, io.Discard), errChanged)
	require.Equal(t, 2, asked)
}

type failing struct{ after int }

func (f *failing) Write(b []byte) (int, error) {
	if f.after -= len(b); f.after < 0 {
		return 0, errChanged
	}
	return len(b), nil
}

// All writers get all bytes; behind an error of one, or of the source, nothing more is read but
// what is on its way.
func TestScan(t *testing.T) {
	large := bytes.Repeat(content(), 50)
	var one, two bytes.Buffer
	require.NoError(t, Scan(bytes.NewReader(large), &one, &two))
	require.True(t, bytes.Equal(large, one.Bytes()) && bytes.Equal(large, two.Bytes()))
	require.NoError(t, Scan(bytes.NewReader(nil), &one))

	src := &counted{Reader: bytes.NewReader(large)}
	require.ErrorIs(t, Scan(src, io.Discard, &failing{1 << 20}), errChanged)
	require.LessOrEqual(t, src.read, 5<<20)
	require.ErrorIs(t, Scan(io.NewSectionReader(bytes.NewReader(large), 0, int64(len(large))+1), io.Discard), io.ErrUnexpectedEOF)
}
