package authenticode

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

// slowChecksum is that of ImageHlp, word by word.
func slowChecksum(b []byte) uint32 {
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		word := uint32(b[i])
		if i+1 < len(b) {
			word |= uint32(b[i+1]) << 8
		}
		sum += word
		sum = sum>>16 + sum&0xffff
	}
	return sum + uint32(len(b))
}

// Pieces of any size in any order sum up to the same.
func FuzzChecksum(f *testing.F) {
	f.Add([]byte("odd"), uint(1), uint(2))
	f.Add(bytes.Repeat([]byte{0xff}, 131), uint(64), uint(65))
	f.Add(bytes.Repeat([]byte{0xff}, 1<<17), uint(3), uint(8))
	f.Fuzz(func(t *testing.T, b []byte, i, j uint) {
		n := uint(len(b)) + 1
		i, j = i%n, j%n
		i, j = min(i, j), max(i, j)
		var c checksum
		c.add(int64(j), b[j:])
		c.add(0, b[:i])
		c.add(int64(i), b[i:j])
		if got, want := c.value(int64(len(b))), slowChecksum(b); got != want {
			t.Fatalf("0x%x, want 0x%x", got, want)
		}
	})
}

func TestChecksumOfLargeImages(t *testing.T) {
	b := bytes.Repeat([]byte{0xff, 0xfe}, 1<<20)
	var c checksum
	c.add(0, b)
	require.Equal(t, slowChecksum(b), c.value(int64(len(b))))
}
