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

// ciphers are a key in the portable loop, and in the kernel where there is one.
func ciphers(t testing.TB, key []byte) (list []*Cipher) {
	t.Helper()
	for _, kernel := range []bool{false, useKernel} {
		c, err := newCipher(key, kernel)
		require.NoError(t, err)
		list = append(list, c)
	}
	return list
}

// Vectors 4 and 10 of IEEE 1619-2007, annex B: sectors of 512 bytes, AES-128 and AES-256. Of the
// first one the end of the ciphertext is compared too, since the tweak of the last block is the
// product of all before.
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
		for _, c := range ciphers(t, unhex(t, v.key)) {
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
}

// Any number of sectors, of any size, in place or not, is what another implementation makes of one
// sector after the other.
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
			for _, c := range ciphers(t, key) {
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
}

// Key schedules of all sizes, as FIPS 197 has them in appendices A.1 and A.3: the last round keys.
func TestSchedule(t *testing.T) {
	if !useKernel {
		t.Skip("the portable loop leaves it to crypto/aes")
	}
	for key, last := range map[string]string{
		"2b7e151628aed2a6abf7158809cf4f3c":                                 "d014f9a8c9ee2589e13f0cc8b6630ca6",
		"603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4": "fe4890d1e6188d0b046df344706c631e",
	} {
		keys := schedule(unhex(t, key))
		require.Equal(t, last, hex.EncodeToString(keys[len(keys)-16:]))
	}
}

// FuzzCipher: the kernel and the portable loop agree on more sectors than the kernel takes at a
// time, at any place in memory.
func FuzzCipher(f *testing.F) {
	f.Add(uint64(1), uint64(0), byte(0), byte(1), byte(0))
	f.Add(uint64(2), uint64(1<<63-1), byte(3), byte(65), byte(7))
	f.Add(uint64(3), ^uint64(0), byte(5), byte(200), byte(15))
	f.Fuzz(func(t *testing.T, seed, first uint64, shape, n, place byte) {
		size := 512 << (shape % 4)
		rng := rand.New(rand.NewPCG(seed, 0))
		random := func(b []byte) []byte {
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
			return b
		}
		list := ciphers(t, random(make([]byte, 32<<(shape>>2&1))))
		plain := random(make([]byte, int(place)+int(n)*size))[place:]
		var sealed [2][]byte
		for i, c := range list {
			out := make([]byte, int(place)/2+len(plain)+16)[place/2:]
			c.Encrypt(out, plain, size, first)
			require.Equal(t, make([]byte, 16), out[len(plain):])
			sealed[i] = out[:len(plain)]
		}
		require.True(t, bytes.Equal(sealed[0], sealed[1]))
		for i, c := range list {
			c.Decrypt(sealed[1-i], sealed[1-i], size, first)
			require.True(t, bytes.Equal(plain, sealed[1-i]))
		}
	})
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
		b.Run(fmt.Sprintf("%d portable", size), func(b *testing.B) {
			c, err := newCipher(key, false)
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
