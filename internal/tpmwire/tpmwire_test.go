package tpmwire_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/tpmwire"
)

func TestReader(t *testing.T) {
	b := tpmwire.AppendSized([]byte{1, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4}, []byte("five"))
	r := tpmwire.NewReader("thing", b)
	require.Equal(t, byte(1), r.U8("a"))
	require.Equal(t, uint16(2), r.U16("b"))
	require.Equal(t, uint32(3), r.U32("c"))
	require.Equal(t, uint64(4), r.U64("d"))
	require.True(t, r.More())
	require.Equal(t, "five", string(r.Sized("e")))
	require.NoError(t, r.End())

	r = tpmwire.NewReader("thing", b[:len(b)-1])
	r.Take(15, "start")
	require.Nil(t, r.Sized("e"))
	require.Zero(t, r.U32("f"), "everything after an error is zero")
	err := r.End()
	require.EqualError(t, err, "thing: e at 0x11: 4 bytes, 3 left: the input ends inside it")
	require.ErrorIs(t, err, tpmwire.ErrShort)
	_, ok := errors.AsType[*osmith.FormatError](err)
	require.True(t, ok)

	r = tpmwire.NewReader("thing", b)
	r.U8("a")
	require.EqualError(t, r.End(), "thing: end at 0x1: 20 bytes too many")
}
