package secureboot_test

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

func TestListsOfARealBoot(t *testing.T) {
	subjects := map[string]string{"PK": "CN=bootlab PK", "KEK": "CN=bootlab KEK", "db": "CN=bootlab db"}
	for name, data := range bootVariables(t) {
		l, err := secureboot.ParseSignatureLists(data)
		require.NoError(t, err)
		require.Len(t, l, 1)
		require.Len(t, l[0].Signatures, 1)
		require.Equal(t, data, lists(t, l...))
		if name == "dbx" {
			require.Equal(t, secureboot.TypeSHA256, l[0].Type)
			empty := sha256.Sum256(nil)
			require.Equal(t, empty[:], l[0].Signatures[0].Data)
			continue
		}
		require.Equal(t, "5b3c7a10-9d41-4f6e-8a55-1ab0b007ab01", l[0].Signatures[0].Owner.String())
		certs, err := secureboot.Certificates(l)
		require.NoError(t, err)
		require.Equal(t, subjects[name], certs[0].Subject.String())
	}
}

// header is a signature list of a type with arbitrary sizes and n bytes behind its header.
func header(typ osmith.GUID, list, head, each uint32, n int) []byte {
	b := efi.AppendGUID(nil, typ)
	for _, v := range []uint32{list, head, each} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return append(b, make([]byte, n)...)
}

func TestParseSignatureLists(t *testing.T) {
	unknown := osmith.MustParseGUID("01234567-89ab-cdef-0123-456789abcdef")
	x, sha := secureboot.TypeX509, secureboot.TypeSHA256
	good := header(sha, 28+96, 0, 48, 96)
	for _, c := range []struct {
		name   string
		data   []byte
		lists  int
		offset int64 // of the error, -1 if there is none
	}{
		{"nothing", nil, 0, -1},
		{"two digests", good, 1, -1},
		{"two lists", append(append([]byte{}, good...), header(x, 28+20, 0, 20, 20)...), 2, -1},
		{"unknown type with a header", header(unknown, 28+5+34, 5, 17, 39), 1, -1},
		{"short header", good[:27], 0, 0},
		{"short second header", append(append([]byte{}, good...), 1, 2, 3), 0, 124},
		{"truncated", good[:len(good)-1], 0, 16},
		{"list size 0", header(sha, 0, 0, 48, 48), 0, 16},
		{"list size 27", header(sha, 27, 0, 48, 48), 0, 16},
		{"list size 2^32-1", header(sha, 1<<32-1, 0, 48, 48), 0, 16},
		{"header size underflows", header(sha, 28+48, 49, 48, 48), 0, 20},
		{"header size 2^32-1", header(sha, 28+48, 1<<32-1, 48, 48), 0, 20},
		{"signature size 0", header(x, 28+48, 0, 0, 48), 0, 24},
		{"signature size of the owner alone", header(x, 28+48, 0, 16, 48), 1, -1},
		{"signature size below that of the owner", header(x, 28+45, 0, 15, 45), 0, 24},
		{"signature size 2^32-1", header(x, 28+48, 0, 1<<32-1, 48), 0, 24},
		{"not a multiple", header(x, 28+50, 0, 20, 50), 0, 24},
		{"no signatures", header(x, 28, 0, 48, 0), 1, -1},
		{"no signatures, with a header", header(unknown, 28+5, 5, 48, 5), 1, -1},
		{"no signatures, of a size that its type does not have", header(sha, 28, 0, 49, 0), 0, 24},
		{"SHA-256 of 31 bytes", header(sha, 28+47, 0, 47, 47), 0, 24},
		{"SHA-1 of 32 bytes", header(secureboot.TypeSHA1, 28+48, 0, 48, 48), 0, 24},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := secureboot.ParseSignatureLists(c.data)
			if c.offset < 0 {
				require.NoError(t, err)
				require.Len(t, l, c.lists)
				b, err := secureboot.AppendSignatureLists(nil, l...)
				require.NoError(t, err)
				require.Equal(t, string(c.data), string(b))
				return
			}
			require.Nil(t, l)
			e, ok := errors.AsType[*osmith.FormatError](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, c.offset, e.Offset, "%v", err)
		})
	}
}

func TestAppendSignatureListsRefuses(t *testing.T) {
	s := func(n int) secureboot.Signature { return secureboot.Signature{Data: make([]byte, n)} }
	for name, l := range map[string]secureboot.SignatureList{
		"no signatures":    {Type: secureboot.TypeX509},
		"and a wrong size": {Type: secureboot.TypeSHA256, SignatureSize: 47},
		"and a huge one":   {Type: secureboot.TypeX509, SignatureSize: 1 << 32},
		"empty data":       {Type: secureboot.TypeSHA256, Signatures: []secureboot.Signature{s(0)}},
		"different sizes":  {Type: secureboot.TypeX509, Signatures: []secureboot.Signature{s(5), s(6)}},
		"SHA-256 too long": {Type: secureboot.TypeSHA256, Signatures: []secureboot.Signature{s(33)}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := secureboot.AppendSignatureLists(nil, l)
			require.ErrorContains(t, err, "secureboot: signature list 0")
		})
	}
	_, err := secureboot.Certificates(nil)
	require.Error(t, err)
}

func FuzzParseSignatureLists(f *testing.F) {
	for _, data := range bootVariables(f) {
		f.Add(data)
	}
	f.Add(header(secureboot.TypeSHA256, 28+96, 0, 48, 96))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := secureboot.ParseSignatureLists(data)
		if (l == nil) != (err != nil) {
			t.Fatalf("lists %v and error %v", l, err)
		}
		if err != nil {
			return
		}
		b, err := secureboot.AppendSignatureLists(nil, l...)
		if err != nil || string(b) != string(data) {
			t.Fatalf("written back: %x, %v", b, err)
		}
	})
}
