package fat

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
)

// neighbours are the clusters in use that share 4 KiB with r: of data, and of the FAT.
func (f *FS) neighbours(r run) (data, fat int) {
	g := &f.geo
	for c := uint32(2); c < g.clusters+2; c++ {
		if !f.used.has(c) || c >= r.first && c < r.first+r.n {
			continue
		}
		near := func(unit func(c uint32) int64) bool {
			return unit(c) >= unit(r.first) && unit(c) <= unit(r.first+r.n-1)
		}
		if near(func(c uint32) int64 { return g.clusterOff(c) / 4096 }) {
			data++
		}
		if near(func(c uint32) int64 { return int64(c) * int64(g.kind) / 8 / 4096 }) {
			fat++
		}
	}
	return data, fat
}

// New files share 4 KiB with no other, neither of data nor of the FAT, while there is room; small
// ones leave some of it to large ones.
func TestAllocApart(t *testing.T) {
	for _, v := range volumes() {
		if v.packed || v.size > 40<<20 {
			continue
		}
		t.Run(v.String(), func(t *testing.T) {
			f := v.open(t, v.build(t))
			require.NoError(t, f.writable())
			blocks := int(f.geo.fatBlocks())
			for i := range min(120, int(f.geo.clusters/f.geo.dataBlock())/5) {
				runs, ok := f.alloc(3)
				require.True(t, ok)
				require.Len(t, runs, 1)
				data, fat := f.neighbours(runs[0])
				require.Zero(t, data, "file %d at %d", i, runs[0].first)
				if blocks > 40 && i < 10 || i == 0 && blocks > 4 {
					require.Zero(t, fat, "file %d at %d", i, runs[0].first)
				}
			}
			big := uint32(4096*8/v.kind) - 8
			runs, ok := f.alloc(big)
			if blocks > 4 {
				require.True(t, ok)
				require.Len(t, runs, 1)
				_, fat := f.neighbours(runs[0])
				require.Zero(t, fat)
			}
		})
	}
}

// A new volume is laid out as new files are placed, while there is room.
func TestBuildApart(t *testing.T) {
	var files []osmith.ESPFile
	for i := range 40 {
		files = append(files, osmith.ESPFile{Path: fmt.Sprintf("dir/%d", i), Content: bytes.NewReader(pattern(100+1000*i, 1))})
	}
	files = append(files, osmith.ESPFile{Path: "big", Content: zeros(3 << 20)}, osmith.ESPFile{Path: "last", Content: zeros(1)})
	for _, c := range []struct {
		o         BuildOptions
		data, fat bool // are kept apart
		big       bool // is
	}{
		{BuildOptions{Size: 128 << 20, Kind: 32, ClusterSize: 512}, true, true, true},
		{BuildOptions{Size: 256 << 20, Kind: 32, ClusterSize: 1024}, true, true, true},
		{BuildOptions{Size: 40 << 20, Kind: 32, ClusterSize: 512}, true, false, true},
		{BuildOptions{Size: 12 << 20, Kind: 16, ClusterSize: 512}, true, false, true},
		{BuildOptions{Kind: 12, ClusterSize: 2048}, false, false, false},
	} {
		f, err := OpenReader(build(t, files, c.o))
		require.NoError(t, err)
		require.NoError(t, f.load())
		data, fat := 0, 0
		for i := range files {
			_, e, err := f.walk(files[i].Path)
			require.NoError(t, err)
			runs, err := f.chain(e, "")
			require.NoError(t, err)
			require.Len(t, runs, 1)
			x, y := f.neighbours(runs[0])
			data, fat = data+x, fat+y
			if files[i].Path == "big" {
				require.Equal(t, c.big, y == 0, "%+v", c.o)
			}
		}
		require.Equal(t, []bool{c.data, c.fat}, []bool{data == 0, fat == 0}, "%+v: %d, %d", c.o, data, fat)
	}
}

// A new entry goes where it puts the fewest others at risk.
func TestSlotApart(t *testing.T) {
	v := volume{kind: 32, sector: 512, device: 512, cluster: 512, size: 34 << 20}
	d := v.build(t)
	f := v.open(t, d)
	place := func(name string) int {
		require.NoError(t, f.WriteFile(name, strings.NewReader("")))
		_, e, err := f.walk(name)
		require.NoError(t, err)
		return e.pos * entrySize / 4096
	}
	require.Equal(t, 1, place("EFI/Linux/os_1.5.efi"), "the first 4 KiB have other entries")
	require.Equal(t, 1, place("EFI/Linux/os_1.6.efi"), "fewer than the first")
	_, e, err := f.walk("EFI/Linux")
	require.NoError(t, err)

	// A directory of another maker, whose cluster shares 4 KiB with a file, and has another that
	// does not.
	near, far := e.cluster+400*8, e.cluster+500*8
	require.False(t, f.used.any(run{near, 8}) || f.used.any(run{far, 8}))
	dir := &directory{path: "x", cluster: near, runs: []run{{near, 1}, {far, 1}}, buf: make([]byte, 1024)}
	for i := range 32 {
		dir.buf[i*entrySize] = entryDeleted
	}
	dir.end = 32
	require.Equal(t, 0, f.slot(dir, 2))
	f.used.set(near + 3)
	require.Equal(t, 16, f.slot(dir, 2))

	// The first 4 KiB have '.' and '..', the second five entries.
	dir = &directory{path: "x", cluster: far, runs: []run{{far, 24}}, buf: make([]byte, 3*4096), end: 256}
	for i := range 256 {
		dir.buf[i*entrySize] = entryDeleted
	}
	live := func(lo, hi int) {
		for i := lo; i < hi; i++ {
			dir.buf[i*entrySize] = 'A'
		}
	}
	live(0, 2)
	live(128, 133)
	require.Equal(t, 256, f.slot(dir, 2), "the third has none")
	dir.buf = dir.buf[:2*4096]
	require.Equal(t, 133, f.slot(dir, 2), "without '.' and '..' nothing is read")

	// The end marker would have to move through the second.
	dir.buf, dir.end = append(dir.buf, make([]byte, 4096)...), 148
	live(2, 128)
	require.Equal(t, 133, f.slot(dir, 2))
}

// What is taken from the directory as it was known is what decoding all of it gives.
func TestKnownDirectory(t *testing.T) {
	f := &FS{geo: geometry{kind: 32, clusterSize: 4096}}
	rng := rand.New(rand.NewPCG(1, 2))
	var sets [][]byte
	for i := range 40 {
		name := strings.Repeat("name", rng.IntN(8)) + fmt.Sprint(i)
		sets = append(sets, entrySet(name, padShort(fmt.Sprint("N", i), ""), false, byte(attrArchive>>rng.IntN(2)), uint32(i/2), 0, stamp{}))
	}
	short := appendShort(nil, padShort("SHORT", ""), 0, attrArchive, 9, 0, stamp{})
	long := appendLong(nil, "a long name of its own", padShort("SHORT", "").checksum())
	sets = append(sets, short, long, append(long[:len(long):len(long)], short...), deletedEntry[:], deletedEntry[:])
	random := func() []byte {
		var b []byte
		for len(b) < 4096 {
			b = append(b, sets[rng.IntN(len(sets))]...)
		}
		return b[:4096]
	}
	old := &directory{cluster: 5, buf: random()}
	f.parse(old, &directory{})
	for range 3000 {
		next := &directory{cluster: 5, buf: bytes.Clone(old.buf)}
		for range rng.IntN(4) {
			set := sets[rng.IntN(len(sets))]
			copy(next.buf[rng.IntN(128)*entrySize:], set)
		}
		if rng.IntN(50) == 0 {
			next.buf[rng.IntN(128)*entrySize] = entryEnd
		}
		want := &directory{cluster: 5, buf: next.buf}
		f.parse(want, &directory{})
		f.parse(next, old)
		require.Equal(t, want, next)
		if old = next; rng.IntN(20) == 0 {
			old = &directory{cluster: 5, buf: random()}
			f.parse(old, &directory{})
		}
	}
}
