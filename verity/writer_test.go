package verity

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// More than what is in flight at any time, through io.Copy.
func TestWriterLarge(t *testing.T) {
	data := numbered{12*jobBlocks + 5}
	want, root := formatMemory(t, data, testParams)
	tree := newMemory(want.Size())
	w, err := NewWriter(nil, tree, data.Size(), testParams)
	require.NoError(t, err)
	_, err = io.Copy(w, io.NewSectionReader(data, 0, data.Size()))
	require.NoError(t, err)
	got, err := w.Finish()
	require.NoError(t, err)
	assert.Equal(t, root, got)
	assert.True(t, bytes.Equal(want, tree))

	got, err = w.Finish()
	require.NoError(t, err)
	assert.Equal(t, root, got)
	_, err = w.Write(nil)
	assert.EqualError(t, err, "verity: data: write after Finish")
}

func TestWriterSizes(t *testing.T) {
	_, err := NewWriter(nil, newMemory(8192), 5000, Params{})
	var alignment *AlignmentError
	require.ErrorAs(t, err, &alignment)

	tree := newMemory(20480)
	w, err := NewWriter(nil, tree, 300*blockSize, Params{})
	require.NoError(t, err)
	_, err = w.Write(make([]byte, 299*blockSize))
	require.NoError(t, err)
	root, err := w.Finish()
	assert.Nil(t, root)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	assert.EqualError(t, err, "verity: data: 1224704 of 1228800 bytes: unexpected EOF")
	assert.Equal(t, byte(0xaa), tree[0], "superblock written by an unfinished Writer")

	var copied bytes.Buffer
	w, err = NewWriter(&copied, tree, blockSize, Params{})
	require.NoError(t, err)
	n, err := w.Write(make([]byte, blockSize+1))
	assert.Zero(t, n)
	assert.EqualError(t, err, "verity: data: 1 bytes more than the announced 4096")
	assert.Zero(t, copied.Len())
	_, again := w.Finish()
	assert.Equal(t, err, again)
}

type failingWriter struct{ n int }

func (f *failingWriter) Write(b []byte) (int, error) {
	if f.n < len(b) {
		return f.n, errors.New("no space")
	}
	f.n -= len(b)
	return len(b), nil
}

type shortWriter struct{}

func (shortWriter) Write(b []byte) (int, error) { return len(b) / 2, nil }

func TestWriterErrors(t *testing.T) {
	w, err := NewWriter(&failingWriter{n: 1000}, newMemory(20480), 300*blockSize, Params{})
	require.NoError(t, err)
	_, err = w.Write(make([]byte, 900))
	require.NoError(t, err)
	n, err := w.Write(make([]byte, 900))
	assert.Equal(t, 100, n)
	assert.EqualError(t, err, "verity: data: write: no space")
	_, err = w.Write(make([]byte, 1))
	assert.EqualError(t, err, "verity: data: write: no space")
	root, err := w.Finish()
	assert.Nil(t, root)
	assert.EqualError(t, err, "verity: data: write: no space")

	w, err = NewWriter(shortWriter{}, newMemory(20480), 300*blockSize, Params{})
	require.NoError(t, err)
	_, err = w.Write(make([]byte, 900))
	assert.ErrorIs(t, err, io.ErrShortWrite)

	w, err = NewWriter(nil, newMemory(8192), 300*blockSize, Params{})
	require.NoError(t, err)
	_, err = w.Write(make([]byte, 300*blockSize))
	require.NoError(t, err)
	_, err = w.Finish()
	assert.ErrorIs(t, err, io.ErrShortWrite)
}
