package aesxts

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// guarded is memory with a page on each side that cannot be touched.
func guarded(t *testing.T, size int) []byte {
	t.Helper()
	page := unix.Getpagesize()
	whole := (size + page - 1) / page * page
	b, err := unix.Mmap(-1, 0, whole+2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Munmap(b)) })
	require.NoError(t, unix.Mprotect(b[:page], unix.PROT_NONE))
	require.NoError(t, unix.Mprotect(b[page+whole:], unix.PROT_NONE))
	return b[page:][:whole]
}

// Nothing in front of the sectors or behind them is read or written.
func TestGuardPages(t *testing.T) {
	for _, c := range ciphers(t, make([]byte, 64)) {
		for _, size := range []int{512, 1024, 2048, 4096} {
			for _, n := range []int{1, 3, 8, 65} {
				src, dst := guarded(t, n*size), guarded(t, n*size)
				for _, atEnd := range []bool{false, true} {
					s, d := src[:n*size], dst[:n*size]
					if atEnd {
						s, d = src[len(src)-n*size:], dst[len(dst)-n*size:]
					}
					c.Encrypt(d, s, size, 5)
					c.Decrypt(d, d, size, 5)
					require.Equal(t, s, d)
				}
			}
		}
	}
}
