package prefix_test

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/prefix"
)

func TestAdd(t *testing.T) {
	var err error
	prefix.Add("uki", &err)
	require.NoError(t, err)
	require.NoError(t, prefix.Error("uki", nil))
	require.NoError(t, prefix.Bare(nil))

	err = fmt.Errorf("section .linux: %w", io.ErrUnexpectedEOF)
	inner := err
	prefix.Add("uki", &err)
	prefix.Add("uki", &err)
	require.EqualError(t, err, "uki: section .linux: unexpected EOF")
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Equal(t, inner, prefix.Bare(err))
	require.Equal(t, inner, prefix.Bare(inner))
	require.EqualError(t, prefix.Error("upgrade", err), "upgrade: uki: section .linux: unexpected EOF")
}

func TestReader(t *testing.T) {
	r := prefix.Reader("cosign", io.NopCloser(strings.NewReader("abc")))
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Equal(t, "abc", string(b))
	require.NoError(t, r.Close())
	_, err = prefix.Reader("cosign", io.NopCloser(iotest.ErrReader(io.ErrUnexpectedEOF))).Read(b)
	require.EqualError(t, err, "cosign: unexpected EOF")
}
