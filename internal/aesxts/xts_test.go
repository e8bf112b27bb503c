package aesxts

import (
	"bytes"
	"crypto/aes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/xts"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

// Vectors 4 and 10 of IEEE 1619-2007, annex B: sectors of 512 bytes, AES-128 and AES-256. Of the first one the end of the ciphertext is
// compared too, since the tweak of the last block is the product of all before.
func TestStandard(t *testing.T) {
	plain := make([]byte, 512)
	for i := range plain {
		plain[i] = byte(i)
	}
	for _, v := range []struct {
		key, begins, ends string
		number            uint64
	}{
		{"27182818284590452353602874713526" + "31415926535897932384626433832795",
			"27a7479befa1d476489f308cd4cfa6e2a96e4bbe3208ff25287dd3819616e89c", "eb4a427d1923ce3ff262735779a418f20a282df920147beabe421ee5319d0568", 0},
		{"2718281828459045235360287471352662497757247093699959574966967627" + "3141592653589793238462643383279502884197169399375105820974944592",
			"1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b", "", 0xff},
	} {
		c, err := New(unhex(t, v.key))
		require.NoError(t, err)
		got := make([]byte, 512)
		c.Encrypt(got, plain, 512, v.number)
		require.Equal(t, v.begins, hex.EncodeToString(got[:32]))
		if v.ends != "" {
			require.Equal(t, v.ends, hex.EncodeToString(got[512-32:]))
		}
		c.Decrypt(got, got, 512, v.number)
		require.Equal(t, plain, got)
	}
}

// Any number of sectors, of any size, in place or not, is what another implementation makes of one sector after the other.
func TestAgainstAnother(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{512, 1024, 2048, 4096} {
		for _, keySize := range []int{32, 64} {
			key, plain := make([]byte, keySize), make([]byte, 5*size)
			for _, b := range [][]byte{key, plain} {
				for i := range b {
					b[i] = byte(rng.Uint32())
				}
			}
			first := rng.Uint64()
			other, err := xts.NewCipher(aes.NewCipher, key)
			require.NoError(t, err)
			want := make([]byte, len(plain))
			for i := range 5 {
				other.Encrypt(want[i*size:][:size], plain[i*size:][:size], first+uint64(i*size/512))
			}
			c, err := New(key)
			require.NoError(t, err)
			for n := range 6 {
				got := make([]byte, n*size+1) // one byte more than is to be written
				c.Encrypt(got, plain[:n*size], size, first)
				require.Equal(t, append(bytes.Clone(want[:n*size]), 0), got)
				c.Decrypt(got[:n*size], got[:n*size], size, first)
				require.Equal(t, plain[:n*size], got[:n*size])
			}
		}
	}
}

func TestMisuse(t *testing.T) {
	for _, n := range []int{0, 16, 31, 48, 65} {
		_, err := New(make([]byte, n))
		require.ErrorContains(t, err, fmt.Sprintf("key of %d bytes", n))
	}
	c, err := New(make([]byte, 32))
	require.NoError(t, err)
	require.Panics(t, func() { c.Encrypt(make([]byte, 512), make([]byte, 511), 512, 0) })
	require.Panics(t, func() { c.Encrypt(make([]byte, 511), make([]byte, 512), 512, 0) })
	require.Panics(t, func() { c.Encrypt(make([]byte, 256), make([]byte, 256), 256, 0) })
	require.Panics(t, func() { c.Encrypt(make([]byte, 8192), make([]byte, 8192), 8192, 0) })
}

func BenchmarkEncrypt(b *testing.B) {
	for _, size := range []int{512, 4096} {
		key, buf := make([]byte, 64), make([]byte, 1<<20)
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			c, err := New(key)
			require.NoError(b, err)
			b.SetBytes(int64(len(buf)))
			for b.Loop() {
				c.Encrypt(buf, buf, size, 0)
			}
		})
		b.Run(fmt.Sprintf("%d by x-crypto", size), func(b *testing.B) {
			c, err := xts.NewCipher(aes.NewCipher, key)
			require.NoError(b, err)
			b.SetBytes(int64(len(buf)))
			for b.Loop() {
				for i := 0; i < len(buf); i += size {
					c.Encrypt(buf[i:][:size], buf[i:][:size], uint64(i/512))
				}
			}
		})
	}
}
