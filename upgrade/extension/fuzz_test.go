package extension_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/upgrade/extension"
)

// FuzzRead changes a whole image: patches are an offset of four bytes, a length of one and as many
// bytes each; at the end, how much is cut off. Whatever is read is as strict as its protection
// says.
func FuzzRead(f *testing.F) {
	signed, bare := image(f, nil), image(f, unsigned)
	patch := func(off int, b ...byte) []byte {
		return append(append(binary.LittleEndian.AppendUint32(nil, uint32(off)), byte(len(b))), b...)
	}
	f.Add(true, uint32(0), []byte{})
	f.Add(false, uint32(0), []byte{})
	f.Add(true, uint32(512), []byte{})
	f.Add(true, uint32(0), patch(1024, 1, 2, 3, 4, 5, 6, 7, 8))
	f.Add(true, uint32(0), patch(512+72, 0xff, 0xff, 0xff, 0xff))
	f.Add(false, uint32(0), append(patch(512+80, 0, 0, 0, 1), patch(512+84, 0, 1)...))
	f.Fuzz(func(t *testing.T, withSignature bool, cut uint32, patches []byte) {
		b := bare
		if withSignature {
			b = signed
		}
		b = bytes.Clone(b[:len(b)-int(cut%uint32(len(b)))])
		for len(patches) > 5 {
			off, n := binary.LittleEndian.Uint32(patches), min(int(patches[4]), len(patches)-5)
			if off < uint32(len(b)) {
				copy(b[off:], patches[5:5+n])
			}
			patches = patches[5+n:]
		}
		im, err := extension.Read(bytes.NewReader(b))
		require.Equal(t, err == nil, im != nil)
		if err != nil {
			return
		}
		_ = im.String()
		require.LessOrEqual(t, im.FileSystem().Size(), int64(len(b)))
		switch im.Protection {
		case extension.ProtectionSigned:
			require.NotNil(t, im.Signer)
			if im.Verify(t.Context()) == nil {
				// A signature by our key is over our root hash alone.
				own, err := extension.Read(bytes.NewReader(signed))
				require.NoError(t, err)
				require.Equal(t, own.RootHash, im.RootHash)
			}
		case extension.ProtectionNone:
			require.ErrorIs(t, im.Verify(t.Context()), extension.ErrUnprotected)
		}
	})
}

func FuzzParseRelease(f *testing.F) {
	f.Add([]byte(stated))
	f.Add([]byte("ID=_any\nCONFEXT_SCOPE=\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := extension.ParseRelease(extension.KindConfext, text)
		require.Equal(t, err == nil, r != nil)
		if err == nil && r.Matches(host) == nil {
			require.True(t, r.ID == "_any" || r.ID == "acme" && r.VersionID == "2")
		}
	})
}
