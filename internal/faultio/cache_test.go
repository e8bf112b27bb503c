package faultio

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// at reads one byte.
func at(t *testing.T, d *Disk, off int64) byte {
	t.Helper()
	b := make([]byte, 1)
	_, err := d.ReadAt(b, off)
	require.NoError(t, err)
	return b[0]
}

// cachedDisk has ones on the medium and nothing in the cache.
func cachedDisk(t *testing.T) *Disk {
	d := NewDisk(8*pageSize + 512)
	write(t, d, 1, 0, 8*pageSize+512)
	d.Cached()
	return d
}

func TestCache(t *testing.T) {
	d := cachedDisk(t)
	write(t, d, 2, 4096, 8192)
	require.Equal(t, []byte{1, 2}, []byte{at(t, d, 0), at(t, d, 4096)})
	require.Equal(t, byte(1), at(t, d.Medium(), 4096), "before the sync")
	require.Equal(t, byte(2), at(t, d.Clone(), 4096), "a clone has the cache too")
	flush(t, d)
	require.Equal(t, byte(2), at(t, d.Medium(), 4096))
	m := d.Medium()
	write(t, m, 3, 4096, 512)
	require.Equal(t, byte(3), at(t, m, 4096), "there is no cache before the medium")
	require.Equal(t, byte(2), at(t, d, 4096))
	d.Cached()
	require.Equal(t, byte(2), at(t, d, 4096))
	before := d.MediumReads()
	contents(t, d)
	contents(t, d)
	require.Equal(t, int64(8*pageSize+512-3*pageSize), d.MediumReads()-before, "once, but for what was in the cache")

	c := d.Clone()
	write(t, c, 9, 0, 512)
	require.Equal(t, byte(1), at(t, d, 0))
	write(t, d, 8, 0, 512)
	require.Equal(t, byte(9), at(t, c, 0))
}

// What a sync that failed has not written is never written: only what is read from the medium shows
// it.
func TestFailedSync(t *testing.T) {
	for _, c := range []struct {
		name    string
		failure Failure
		first   byte // of the medium, where it was written first
	}{
		{"fails", Failure{Op: OpSync}, 1},
		{"fails half way", Failure{Op: OpSync, Short: true}, 2},
		{"lies", Failure{Op: OpSync, Lie: true}, 1},
		{"lies half way", Failure{Op: OpSync, Lie: true, Short: true}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := cachedDisk(t)
			d.Faulty(c.failure)
			write(t, d, 2, 8192, 512)
			write(t, d, 2, 4096, 512)
			if c.failure.Lie {
				require.NoError(t, d.Sync())
			} else {
				require.ErrorIs(t, d.Sync(), ErrIO)
			}
			flush(t, d)
			require.Equal(t, 1, d.Failed())
			require.Equal(t, []byte{2, 2}, []byte{at(t, d, 4096), at(t, d, 8192)}, "the cache shows what was written")
			m := d.Medium()
			require.Equal(t, []byte{c.first, 1}, []byte{at(t, m, 4096), at(t, m, 8192)})

			before := d.MediumReads()
			require.NoError(t, d.DropCache(8192, 0))
			require.Equal(t, byte(2), at(t, d, 8192), "nothing of it is dropped")
			require.Equal(t, before, d.MediumReads())
			require.NoError(t, d.DropCache(0, d.Size()))
			require.Equal(t, []byte{c.first, 1}, []byte{at(t, d, 4096), at(t, d, 8192)})
			require.Equal(t, before+2*pageSize, d.MediumReads())

			write(t, d, 3, 8192, 512)
			flush(t, d)
			require.Equal(t, byte(3), at(t, d.Medium(), 8192), "what is written again is written")
		})
	}
}

func TestDropCache(t *testing.T) {
	d := cachedDisk(t)
	contents(t, d)
	write(t, d, 2, 4096, 512)
	reads := func(off, n int64) int64 {
		t.Helper()
		require.NoError(t, d.DropCache(off, n))
		before := d.MediumReads()
		b := make([]byte, d.Size())
		_, err := d.ReadAt(b, 0)
		require.NoError(t, err)
		require.Equal(t, byte(2), b[4096])
		return d.MediumReads() - before
	}
	require.Zero(t, reads(0, 0))
	require.Zero(t, reads(4096, 4096), "it is dirty")
	require.Equal(t, int64(4096), reads(0, 8192), "the second page is dirty")
	require.Equal(t, int64(2*4096), reads(8191, 4098), "of the second, the third and the fourth page, the second is dirty")
	require.Equal(t, int64(4096), reads(8193, 1), "a page goes whole")
	require.Equal(t, int64(512), reads(8*4096, 511))
	require.Equal(t, int64(7*4096+512), reads(0, d.Size()))
	flush(t, d)
	require.Equal(t, d.Size(), reads(0, d.Size()))
	for _, r := range [][2]int64{{-1, 1}, {0, -1}, {d.Size(), 1}, {0, d.Size() + 1}, {1 << 62, 1 << 62}} {
		require.ErrorContains(t, d.DropCache(r[0], r[1]), "faultio: drop the cache")
	}

	plain := NewDisk(8192)
	write(t, plain, 1, 0, 512)
	require.NoError(t, plain.DropCache(0, 8192))
	require.Equal(t, byte(1), at(t, plain, 0))
	require.Equal(t, int64(1), plain.MediumReads(), "without cache every read is of the medium")
}

// A write of a part of a page reads the rest.
func TestCacheReadsForWrites(t *testing.T) {
	d := cachedDisk(t)
	write(t, d, 2, 0, 4096)
	require.Zero(t, d.MediumReads())
	write(t, d, 2, 4096+512, 512)
	require.Equal(t, int64(4096), d.MediumReads())
	write(t, d, 2, 4096, 512)
	require.Equal(t, int64(4096), d.MediumReads())
	require.Equal(t, []byte{2, 2, 1}, []byte{at(t, d, 4096), at(t, d, 4096+512), at(t, d, 4096+1024)})
}

// The record of a disk with page cache is of the calls, and its base is what reads show.
func TestRecordCached(t *testing.T) {
	d := cachedDisk(t)
	write(t, d, 2, 0, 4096)
	write(t, d, 0, 4096, 4096)
	d.Record()
	write(t, d, 3, 8192, 512)
	require.Len(t, d.Writes(), 1)
	require.Equal(t, contents(t, d), contents(t, d.Prefix(1)))
	require.Equal(t, []byte{2, 0, 1}, []byte{at(t, d.Prefix(0), 0), at(t, d.Prefix(0), 4096), at(t, d.Prefix(0), 8192)})
	require.Equal(t, byte(1), at(t, d.Medium(), 0))
	var out bytes.Buffer
	_, err := d.WriteTo(&out)
	require.NoError(t, err)
	require.Equal(t, contents(t, d), out.Bytes())
	flush(t, d)
	require.Equal(t, contents(t, d), contents(t, d.Medium()))
}

// What cannot be read is not cached, and can be read once it was written as a whole.
func TestCacheUnreadable(t *testing.T) {
	d := NewDisk(4 * pageSize)
	d.pages[1] = unreadable
	d.Cached()
	_, err := d.ReadAt(make([]byte, 8192), 0)
	require.ErrorIs(t, err, ErrUnreadable)
	_, err = d.WriteAt(make([]byte, 512), 4096)
	require.ErrorIs(t, err, ErrUnreadable)
	write(t, d, 5, 4096, 4096)
	require.Equal(t, byte(5), at(t, d, 4096))
	_, err = d.Medium().ReadAt(make([]byte, 512), 4096)
	require.ErrorIs(t, err, ErrUnreadable)
	flush(t, d)
	require.Equal(t, byte(5), at(t, d.Medium(), 4096))
}

// Against two slices, one of which is what reads show and the other what is on the medium.
func TestCacheAgainstSlices(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	const size = 6*pageSize + 100
	d := NewDisk(size)
	d.Cached()
	seen, medium := make([]byte, size), make([]byte, size)
	dirty := map[int]bool{}
	for range 3000 {
		off := rng.IntN(size)
		n := rng.IntN(size-off) + 1
		switch k := rng.IntN(8); {
		case k < 3:
			n = min(n, 9000)
			p := bytes.Repeat([]byte{byte(rng.IntN(3))}, n)
			_, err := d.WriteAt(p, int64(off))
			require.NoError(t, err)
			copy(seen[off:], p)
			for page := off / pageSize; page <= (off+n-1)/pageSize; page++ {
				dirty[page] = true
			}
		case k == 3:
			flush(t, d)
			for page := range dirty {
				lo, hi := page*pageSize, min(size, (page+1)*pageSize)
				copy(medium[lo:hi], seen[lo:hi])
			}
			clear(dirty)
		case k == 4:
			d.Faulty(Failure{Op: OpSync, Lie: rng.IntN(2) == 0})
			_ = d.Sync()
			clear(dirty)
		case k == 5:
			require.NoError(t, d.DropCache(int64(off), int64(n)))
			for page := range size/pageSize + 1 {
				if lo, hi := page*pageSize, min(size, (page+1)*pageSize); lo < off+n && hi > off && !dirty[page] {
					copy(seen[lo:hi], medium[lo:hi])
				}
			}
		default:
			require.True(t, bytes.Equal(medium, contents(t, d.Medium())))
			p := make([]byte, n)
			_, err := d.ReadAt(p, int64(off))
			require.NoError(t, err)
			require.True(t, bytes.Equal(seen[off:off+n], p))
		}
	}
}
