package fat

import (
	"bytes"
	"maps"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/oracle"
)

// smallESP is esp with files that are small enough to look at often.
func smallESP() []osmith.ESPFile {
	files := esp()
	for i, f := range files {
		if f.Content != nil && f.Content.Size() > 10_000 {
			files[i].Content = bytes.NewReader(pattern(16_000+1000*i, byte(i)))
		}
	}
	return files
}

// sample is how many states of a kind are looked at: n, or a fourth of it with -short.
func sample(n int) int {
	if testing.Short() {
		return max(n/4, 1)
	}
	return n
}

// editor damages a volume.
type editor struct {
	*faultio.Disk
	t testing.TB
	g *geometry
}

func edit(t testing.TB, d *faultio.Disk) *editor {
	t.Helper()
	g, err := readGeometry(d)
	require.NoError(t, err)
	return &editor{d, t, g}
}

func (e *editor) fat(k int) int64 { return e.g.fatOff + int64(k)*e.g.fatSize }

// set changes the entry of a cluster in the given copies of the FAT, in all if none is given.
func (e *editor) set(c, v uint32, copies ...int) {
	if copies == nil {
		for k := range e.g.fats {
			copies = append(copies, k)
		}
	}
	for _, k := range copies {
		at := e.fat(k) + int64(c)*int64(e.g.kind)/8
		b := make([]byte, 4)
		e.ReadAt(b, at)
		e.g.putEntry(b, 0, c, v)
		e.WriteAt(b, at)
	}
}

// entry returns the first cluster of a file or directory, and where its set starts and ends.
func (e *editor) entry(path string) (cluster uint32, start, end int64) {
	e.t.Helper()
	f, err := OpenReader(e.Disk)
	require.NoError(e.t, err)
	d, found, err := f.walk(path)
	require.NoError(e.t, err)
	return found.cluster, d.off(e.g, int64(found.pos)*entrySize), d.off(e.g, int64(found.pos+found.n-1)*entrySize) + entrySize
}

// add puts entries behind those of a directory, "." for the root, which gets more clusters where it
// has to.
func (e *editor) add(dir string, sets ...[]byte) {
	e.t.Helper()
	f, err := OpenReader(e.Disk)
	require.NoError(e.t, err)
	_, d, err := f.find(dir)
	require.NoError(e.t, err)
	b := bytes.Join(sets, nil)
	for i := 0; i < len(b); i += entrySize {
		if int64(d.end+1)*entrySize >= int64(len(d.buf)) && d.cluster != 0 {
			last := d.runs[len(d.runs)-1]
			c := e.nextFree()
			e.set(last.first+last.n-1, c)
			e.set(c, endOfChain)
			e.WriteAt(make([]byte, e.g.clusterSize), e.g.clusterOff(c))
			d.runs = append(d.runs, run{c, 1})
			d.buf = append(d.buf, make([]byte, e.g.clusterSize)...)
		}
		e.WriteAt(b[i:i+entrySize], d.off(e.g, int64(d.end)*entrySize))
		d.end++
	}
}

// named is the set of a file with any long name.
func named(long []uint16, short string, attr byte, cluster, size uint32) []byte {
	s := shortName([]byte(short))
	var set []byte
	if long != nil {
		units := append(append([]uint16{}, long...), 0)
		for len(long)%unitsPerLong != 0 && len(units)%unitsPerLong != 0 {
			units = append(units, 0xffff)
		}
		units = units[:(len(long)+unitsPerLong-1)/unitsPerLong*unitsPerLong]
		set = appendLong(nil, string(make([]byte, len(units))), s.checksum())
		for i, n := 0, len(units)/unitsPerLong; i < n; i++ {
			piece := set[(n-1-i)*entrySize:]
			for j, at := range [unitsPerLong]int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30} {
				u := units[i*unitsPerLong+j]
				piece[at], piece[at+1] = byte(u), byte(u>>8)
			}
		}
	}
	return appendShort(set, s, 0, attr, cluster, size, stampOf(epoch))
}

// look reads a volume as Linux does.
func look(t testing.TB, d *faultio.Disk) *oracle.Volume {
	t.Helper()
	v, err := oracle.ReadFAT(d, d.Size(), oracle.FATOptions{Reader: oracle.FATReaderLinux})
	require.NoError(t, err)
	return v
}

// requireWhole fails if the volume has a problem of another kind than the given ones.
func requireWhole(t testing.TB, d *faultio.Disk, but ...oracle.ProblemKind) {
	t.Helper()
	require.Empty(t, look(t, d).Beyond(but...))
}

// requireContents fails if Linux sees other files than before, but for those that are gone and
// those that came.
func requireContents(t testing.TB, before map[string]string, d *faultio.Disk, gone []string, came ...string) {
	t.Helper()
	want, got := maps.Clone(before), look(t, d).Contents()
	for _, name := range gone {
		require.Contains(t, want, name)
		delete(want, name)
	}
	for _, name := range came {
		require.Contains(t, got, name)
		want[name] = got[name]
	}
	require.Equal(t, want, got)
}
