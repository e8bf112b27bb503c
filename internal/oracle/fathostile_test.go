package oracle

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/faultio"
)

// readAll reads a volume as every driver does, and all that the result offers.
func readAll(d *faultio.Disk, o FATOptions) error {
	v, err := ReadFAT(d, d.Size(), o)
	if (v == nil) != (err != nil) {
		return errors.New("a volume and an error, or neither")
	}
	if err != nil {
		return nil
	}
	if len(v.Files) != len(v.Contents()) {
		return fmt.Errorf("%d files, %d contents", len(v.Files), len(v.Contents()))
	}
	for i, f := range v.Files {
		if i < 20 {
			v.File(f.Path)
			v.ReadFile(f.Path)
		}
	}
	v.Beyond(ProblemDirty)
	return nil
}

// FuzzReadFAT: no panic and an end, whatever is changed in the boot sector, the FATs and the
// directories.
func FuzzReadFAT(f *testing.F) {
	names := []string{"f00-fat16", "f01-fat32", "f02-fat12", "f04-mtools-dots", "f05-rename-cut"}
	var disks []*faultio.Disk
	for _, name := range names {
		disks = append(disks, volumeNamed(name))
	}
	for i := range byte(5) {
		f.Add(i, byte(0), []byte{1, 0, 7, 3, 2, 0, 26, 1})
		f.Add(i, byte(1), []byte{0, 0, 13, 8, 3, 0, 43, 0x0f})
		f.Add(i, byte(2), []byte("\x02\x00\x4b\x10\x01\x00\x05\x00some bytes that change things"))
	}
	f.Fuzz(func(t *testing.T, volume, how byte, changes []byte) {
		d := disks[int(volume)%len(disks)].Clone()
		im := openImage(d)
		for ; len(changes) >= 4; changes = changes[4:] {
			off := int64(changes[1])<<8 | int64(changes[2])
			switch changes[0] % 4 {
			case 0:
				off %= 512
			case 1:
				off = im.fatStart + off%1024
			case 2:
				off = im.root + off%1024
			default:
				off = im.data + off%(16*im.cluster)
			}
			put(d, off, changes[3:4])
		}
		o := FATOptions{Reader: FATReader(how % 3), Second: how&4 != 0, NoContent: how&8 != 0, MaxRead: 16 << 20}
		if how&16 != 0 {
			o.SectorSize = 4096
		}
		if err := readAll(d, o); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzReadFATBytes: any bytes, as a small disk that goes on with zeros.
func FuzzReadFATBytes(f *testing.F) {
	f.Add([]byte{}, byte(0))
	for _, name := range []string{"f00-fat16", "f01-fat32", "f02-fat12"} {
		b := make([]byte, 64<<10)
		volumeNamed(name).ReadAt(b, 0)
		f.Add(b, byte(0))
	}
	f.Fuzz(func(t *testing.T, b []byte, how byte) {
		d := faultio.NewDisk(max(int64(len(b)), 4<<20))
		put(d, 0, b)
		if err := readAll(d, FATOptions{Reader: FATReader(how % 3), MaxRead: 16 << 20}); err != nil {
			t.Fatal(err)
		}
	})
}

// hostileVolume is a FAT32 with clusters of 512 bytes in which all clusters are one chain from the
// root directory's first to the last, but for what change does.
func hostileVolume(size int64, change func(f *fatImage)) *faultio.Disk {
	d := faultio.NewDisk(size)
	b := make([]byte, 512)
	le := binary.LittleEndian
	le.PutUint16(b[11:], 512)
	b[13], b[16], b[21] = 1, 1, 0xf8
	le.PutUint16(b[14:], 32)
	le.PutUint32(b[32:], uint32(size/512))
	clusters := uint32(size / 512)
	le.PutUint32(b[36:], clusters*4/512+1)
	le.PutUint32(b[44:], 2)
	b[510], b[511] = 0x55, 0xaa
	put(d, 0, b)
	f := openImage(d)
	fat := make([]byte, f.fatSize)
	for n := uint32(2); n < clusters; n++ {
		le.PutUint32(fat[4*n:], n+1)
	}
	le.PutUint32(fat, 0x0ffffff8)
	le.PutUint32(fat[4:], 0x0fffffff)
	put(d, f.fatStart, fat)
	f.set(2, f.end)
	change(f)
	return d
}

// Volumes that would keep a careless reader busy for ever, or fill its memory.
func TestHostileFAT(t *testing.T) {
	const size = 40 << 20
	entries := func(n int, entry func(i int) []byte) []byte {
		var b bytes.Buffer
		for i := range n {
			b.Write(entry(i))
		}
		return b.Bytes()
	}
	// The root directory has as many clusters as n entries need; what they name starts behind it.
	root := func(f *fatImage, n int, entry func(i int) []byte) {
		last := 2 + uint32(n*32/512)
		for c := uint32(2); c < last; c++ {
			f.set(c, c+1)
		}
		f.set(last, f.end)
		put(f.d, f.at(2), entries(n, entry))
	}
	for name, change := range map[string]func(f *fatImage){
		"20,000 names of one large file": func(f *fatImage) {
			root(f, 20000, func(i int) []byte { return shortEntry(fmt.Sprintf("F%-10d", i), 0x20, 20000, 30<<20) })
		},
		"20,000 directories of one chain": func(f *fatImage) {
			root(f, 20000, func(i int) []byte { return shortEntry(fmt.Sprintf("D%-10d", i), 0x10, 20000, 0) })
		},
		"40,000 equal names": func(f *fatImage) {
			root(f, 40000, func(i int) []byte { return shortEntry("SAME    TXT", 0x20, 0, 0) })
		},
		"40,000 names": func(f *fatImage) {
			root(f, 40000, func(i int) []byte { return shortEntry(fmt.Sprintf("F%-10d", i), 0x20, 0, 0) })
		},
		"a root directory of the whole volume": func(f *fatImage) { f.set(2, 3) },
		"holes of 4 GiB": func(f *fatImage) {
			root(f, 20000, func(i int) []byte { return shortEntry(fmt.Sprintf("H%-10d", i), 0x20, 0, 0xffffffff) })
		},
		"a directory in itself, many times": func(f *fatImage) {
			f.set(20000, f.end)
			root(f, 10, func(i int) []byte { return shortEntry(fmt.Sprintf("D%-10d", i), 0x10, 20000, 0) })
			put(f.d, f.at(20000), entries(16, func(i int) []byte { return shortEntry(fmt.Sprintf("D%-10d", i), 0x10, 20000, 0) }))
		},
		"trees that share their branches": func(f *fatImage) { // 10^30 paths
			f.set(2, f.end)
			for level := range uint32(30) {
				c := 2 + level
				f.set(c, f.end)
				put(f.d, f.at(c), entries(10, func(i int) []byte { return shortEntry(fmt.Sprintf("D%-10d", i), 0x10, c+1, 0) }))
			}
		},
	} {
		d := hostileVolume(size, change)
		for _, reader := range FATReaders() {
			for _, c := range []struct {
				read   int64
				memory uint64 // bytes allocated in all, which is more than at any one time
				time   time.Duration
			}{{4 << 20, 256 << 20, 20 * time.Second}, {0, 2 << 30, time.Minute}} {
				if c.read == 0 && testing.Short() {
					continue
				}
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				began := time.Now()
				require.NoError(t, readAll(d, FATOptions{Reader: reader, MaxRead: c.read}), name)
				require.Less(t, time.Since(began), c.time, "%s, %v", name, reader)
				runtime.ReadMemStats(&after)
				require.Less(t, after.TotalAlloc-before.TotalAlloc, c.memory, "%s, %v", name, reader)
			}
		}
	}
}
