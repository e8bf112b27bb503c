package luks

import (
	"bytes"
	"crypto/aes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/xts"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
)

// plaintext is data in which every sector differs.
func plaintext(n int) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// slowDecrypt is another implementation of dm-crypt's aes-xts-plain64, sector by sector.
func slowDecrypt(t testing.TB, disk io.ReaderAt, key []byte, off, size int64, sector int) []byte {
	t.Helper()
	c, err := xts.NewCipher(aes.NewCipher, key)
	require.NoError(t, err)
	b := make([]byte, size)
	_, err = disk.ReadAt(b, off)
	require.NoError(t, err)
	for i := 0; i < len(b); i += sector {
		c.Decrypt(b[i:i+sector], b[i:i+sector], uint64(i/512))
	}
	return b
}

// All sizes of sectors and keys: what is written in one pass, or anywhere, is on the disk as
// dm-crypt reads it, and reads back at any place.
func TestData(t *testing.T) {
	for _, bits := range []int{256, 512} {
		for _, sector := range []int{512, 1024, 2048, 4096} {
			t.Run(fmt.Sprintf("%d bits, sectors of %d", bits, sector), func(t *testing.T) {
				o := small(1)
				o.KeyBits, o.SectorSize = bits, sector
				g, err := o.geometry(1 << 40)
				require.NoError(t, err)
				const size = 1<<20 + 12<<10
				d := faultio.NewDisk(g.offset + size)
				v, key, err := Format(d, correctHorse, o)
				require.NoError(t, err)
				want := plaintext(size)

				w, err := v.NewWriter(key)
				require.NoError(t, err)
				require.Equal(t, int64(size), w.Size())
				require.Equal(t, sector, w.SectorSize())
				rng := rand.New(rand.NewPCG(3, 4))
				for rest := want; len(rest) > 0; {
					n := min(1+rng.IntN(300<<10), len(rest))
					k, err := w.Write(rest[:n])
					require.NoError(t, err)
					require.Equal(t, n, k)
					rest = rest[n:]
				}
				_, err = w.Write([]byte{1})
				require.ErrorContains(t, err, "room for 0")
				require.NoError(t, w.Close())
				require.NoError(t, w.Close())
				_, err = w.Write([]byte{1})
				require.ErrorContains(t, err, "closed")
				require.True(t, bytes.Equal(want, slowDecrypt(t, d, key.Bytes(), g.offset, size, sector)))

				// Anywhere, in place of what is there.
				w, err = v.NewWriter(key)
				require.NoError(t, err)
				for range 60 {
					off := rng.Int64N(size)
					p := plaintext(int(min(1+rng.Int64N(4*int64(sector)), size-off)))
					copy(want[off:], p)
					n, err := w.WriteAt(p, off)
					require.NoError(t, err)
					require.Equal(t, len(p), n)
				}
				p := plaintext(size - 777)
				copy(want[333:], p)
				_, err = w.WriteAt(p, 333)
				require.NoError(t, err)
				_, err = w.WriteAt(p[:2], size-1)
				require.Error(t, err)
				_, err = w.WriteAt(p[:2], -1)
				require.Error(t, err)
				require.True(t, bytes.Equal(want, slowDecrypt(t, d, key.Bytes(), g.offset, size, sector)))

				r, err := v.NewReader(key)
				require.NoError(t, err)
				require.Equal(t, int64(size), r.Size())
				for range 60 {
					off := rng.Int64N(size + 2)
					got := make([]byte, rng.Int64N(8*int64(sector)))
					n, err := r.ReadAt(got, off)
					end := min(off+int64(len(got)), size)
					require.Equal(t, max(0, end-off), int64(n))
					require.Equal(t, string(want[min(off, end):end]), string(got[:n]))
					if n < len(got) {
						require.Equal(t, io.EOF, err)
					} else {
						require.NoError(t, err)
					}
				}
				got, err := io.ReadAll(io.NewSectionReader(r, 0, 1<<40))
				require.NoError(t, err)
				require.True(t, bytes.Equal(want, got))
				_, err = r.ReadAt(got, -1)
				require.Error(t, err)
			})
		}
	}
}

// Less than there is room for: the last sector is filled up with zeros, and what is behind it is
// not touched.
func TestShortData(t *testing.T) {
	o := small(1)
	o.SectorSize = 4096
	d, v, key := formatted(t, o)
	off := v.Header().Segments[0].Offset
	marker := bytes.Repeat([]byte{0x77}, 4096)
	_, err := d.WriteAt(marker, off+8192)
	require.NoError(t, err)
	w, err := v.NewWriter(key)
	require.NoError(t, err)
	_, err = w.Write(plaintext(5000))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.Equal(t, append(plaintext(5000), make([]byte, 3192)...), slowDecrypt(t, d, key.Bytes(), off, 8192, 4096))
	b := make([]byte, 4096)
	_, err = d.ReadAt(b, off+8192)
	require.NoError(t, err)
	require.Equal(t, marker, b)
}

// Failing disks: a read says so, and what could be read is right; a write is not taken for done.
func TestDataFails(t *testing.T) {
	d, v, key := formatted(t, small(1))
	w, err := v.NewWriter(key)
	require.NoError(t, err)
	d.Faulty(faultio.Failure{Op: faultio.OpWrite})
	_, err = w.Write(plaintext(1000))
	require.NoError(t, err, "it is in the buffer")
	require.ErrorIs(t, w.Close(), faultio.ErrIO)
	w, err = v.NewWriter(key)
	require.NoError(t, err)
	d.Faulty(faultio.Failure{Op: faultio.OpSync})
	require.ErrorIs(t, w.Close(), faultio.ErrIO)
	d.Faulty(faultio.Failure{Op: faultio.OpSync})
	require.ErrorIs(t, w.Sync(), faultio.ErrIO)
	r, err := v.NewReader(key)
	require.NoError(t, err)
	d.Faulty(faultio.Failure{Op: faultio.OpRead})
	_, err = r.ReadAt(make([]byte, 100), 100)
	require.ErrorIs(t, err, faultio.ErrIO)
	require.ErrorContains(t, err, "luks: data: ")
	w, err = v.NewWriter(key)
	require.NoError(t, err)
	d.Faulty(faultio.Failure{Op: faultio.OpRead})
	_, err = w.WriteAt([]byte{1}, 100)
	require.ErrorIs(t, err, faultio.ErrIO, "the rest of the sector is not known")
}

// A device that is cut short, or has no whole number of sectors, is refused before anything is
// read.
func TestDataSize(t *testing.T) {
	d, v, key := formatted(t, small(1))
	off := v.Header().Segments[0].Offset
	for size, want := range map[int64]string{off: "the device has", off + 511: "luks: segment 0 at 0x100000: 511 bytes of data are not a whole number of 512-byte sectors: the kernel refuses the device", off - 4096: "the device has"} {
		v, err := OpenReader(io.NewSectionReader(d, 0, size))
		require.NoError(t, err)
		_, err = v.NewReader(key)
		require.ErrorContains(t, err, want)
	}
	o := small(1)
	o.DataSize = 8192
	_, v, key = formatted(t, o)
	r, err := v.NewReader(key)
	require.NoError(t, err)
	require.Equal(t, int64(8192), r.Size(), "the device has more")
}

// The tweak of the segment is added to the number of each sector.
func TestTweak(t *testing.T) {
	d, v, key := formatted(t, small(1))
	m := v.edit()
	m.segments[0].raw = bytes.Replace(m.segments[0].raw, []byte(`"iv_tweak":"0"`), []byte(`"iv_tweak":"9"`), 1)
	s, err := v.stage(m)
	require.NoError(t, err)
	require.NoError(t, v.write(s))
	w, err := v.NewWriter(key)
	require.NoError(t, err)
	_, err = w.Write(plaintext(512))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	c, err := xts.NewCipher(aes.NewCipher, key.Bytes())
	require.NoError(t, err)
	b := make([]byte, 512)
	_, err = d.ReadAt(b, v.Header().Segments[0].Offset)
	require.NoError(t, err)
	c.Decrypt(b, b, 9)
	require.Equal(t, plaintext(512), b)
}

// A volume with content as a Source is what Format and NewWriter write.
func TestImage(t *testing.T) {
	for _, n := range []int{1, 512, 4096, 5000, 1<<20 + 1} {
		for _, extra := range []int64{0, 64 << 10} {
			o := small(1)
			o.SectorSize = 4096
			data := plaintext(n)
			g, err := o.geometry(1 << 40)
			require.NoError(t, err)
			size := int64(0)
			if extra > 0 {
				size = g.offset + (int64(n)+4095)/4096*4096 + extra
			}
			more := func(v *Volume, key *Key) error {
				_, _, err := v.AddRecoveryKey(key, KeyOptions{Rand: random(2)})
				return err
			}
			im, err := NewImage(bytes.NewReader(data), size, correctHorse, o, more)
			require.NoError(t, err)

			d := faultio.NewDisk(im.Size())
			o.Rand = random(1)
			v, key, err := Format(d, correctHorse, o)
			require.NoError(t, err)
			require.NoError(t, more(v, key))
			w, err := v.NewWriter(key)
			require.NoError(t, err)
			_, err = w.Write(data)
			require.NoError(t, err)
			_, err = w.Write(make([]byte, w.Size()-int64(n)))
			require.NoError(t, err)
			require.NoError(t, w.Close())

			want := content(t, d)
			got, err := io.ReadAll(io.NewSectionReader(im, 0, 1<<40))
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, got))
			rng := rand.New(rand.NewPCG(1, 1))
			for range 50 {
				off := rng.Int64N(im.Size() + 10)
				p := make([]byte, rng.IntN(20000))
				k, err := im.ReadAt(p, off)
				end := min(off+int64(len(p)), im.Size())
				require.Equal(t, max(0, end-off), int64(k))
				require.True(t, bytes.Equal(want[min(off, end):end], p[:k]))
				require.Equal(t, k < len(p), errors.Is(err, io.EOF))
			}
			holes(t, im, want)
		}
	}
	_, err := NewImage(bytes.NewReader(nil), 100, correctHorse, small(1), nil)
	var space *SpaceError
	require.ErrorAs(t, err, &space)
	_, err = NewImage(nil, 0, correctHorse, small(1), nil)
	require.Error(t, err)
	o := small(1)
	o.DataSize = 512
	_, err = NewImage(bytes.NewReader(make([]byte, 1024)), 0, correctHorse, o, nil)
	require.ErrorAs(t, err, &space)
	_, err = NewImage(bytes.NewReader(make([]byte, 1024)), 0, correctHorse, small(1), func(*Volume, *Key) error { return io.ErrNoProgress })
	require.ErrorIs(t, err, io.ErrNoProgress)
}

// holes are zeros, and all else is in a range.
func holes(t *testing.T, im *Image, want []byte) {
	t.Helper()
	covered := int64(0)
	for off := int64(0); off < im.Size(); {
		start, end, err := im.NextData(off)
		require.NoError(t, err)
		require.Zero(t, len(bytes.Trim(want[off:start], "\x00")))
		require.Less(t, start, end)
		covered += end - start
		off = end
	}
	require.Less(t, covered, im.Size(), "most of the key slots area is a hole")
	start, end, err := im.NextData(im.Size())
	require.NoError(t, err)
	require.Equal(t, [2]int64{im.Size(), im.Size()}, [2]int64{start, end})
}

// sink takes what is written and keeps nothing.
type sink struct {
	osmith.Disk
	from int64
}

func (s sink) WriteAt(p []byte, off int64) (int, error) {
	if off < s.from {
		return s.Disk.WriteAt(p, off)
	}
	return len(p), nil
}

// Memory does not grow with the data.
func TestDataMemory(t *testing.T) {
	o := small(1)
	g, err := o.geometry(1 << 40)
	require.NoError(t, err)
	const size = 256 << 20
	v, key, err := Format(sink{faultio.NewDisk(g.offset + size), g.offset}, correctHorse, o)
	require.NoError(t, err)
	w, err := v.NewWriter(key)
	require.NoError(t, err)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = io.Copy(w, io.LimitReader(zeros{}, size))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(16<<20), "of 256 MiB")
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func BenchmarkWriter(b *testing.B) {
	o := small(1)
	o.SectorSize = 4096
	g, err := o.geometry(1 << 40)
	require.NoError(b, err)
	const size = 256 << 20
	v, key, err := Format(sink{faultio.NewDisk(g.offset + size), g.offset}, correctHorse, o)
	require.NoError(b, err)
	p := make([]byte, 1<<20)
	b.SetBytes(size)
	for b.Loop() {
		w, err := v.NewWriter(key)
		require.NoError(b, err)
		for range size / len(p) {
			_, err := w.Write(p)
			require.NoError(b, err)
		}
		require.NoError(b, w.Close())
	}
}
