package fat

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
)

// sectorDisk takes whole sectors only, as a disk does that is written without the page cache.
type sectorDisk struct {
	*faultio.Disk
	t      testing.TB
	sector int64
	writes int
}

func (d *sectorDisk) check(what string, off, n int64) {
	d.t.Helper()
	d.writes++
	require.True(d.t, n > 0 && off%d.sector == 0 && n%d.sector == 0, "%s of %d bytes at %d, sectors have %d", what, n, off, d.sector)
}

func (d *sectorDisk) WriteAt(p []byte, off int64) (int, error) {
	d.t.Helper()
	d.check("write", off, int64(len(p)))
	return d.Disk.WriteAt(p, off)
}

// zeroingDisk is a sectorDisk that can zero ranges, and is told where writeback may begin.
type zeroingDisk struct {
	*sectorDisk
	zeroed int
}

func (d *zeroingDisk) ZeroRange(off, n int64) error {
	d.t.Helper()
	d.check("zeroing", off, n)
	d.zeroed++
	_, err := d.Disk.WriteAt(make([]byte, n), off)
	return err
}

func (d *zeroingDisk) StartWriteback(off, n int64) {
	d.t.Helper()
	d.check("writeback", off, n)
}

// wholeSectors puts the check before a disk, for sectors as large as those of the volume: who opens
// one does not have to say how large those of the disk are.
func (v volume) wholeSectors(t testing.TB, d *faultio.Disk) *sectorDisk {
	return &sectorDisk{Disk: d, t: t, sector: int64(v.sector)}
}

func (v volume) openWhole(t testing.TB, disk osmith.Disk) *FS {
	t.Helper()
	o := OpenOptions{}
	if v.tell {
		o.SectorSize = v.device
	}
	f, err := OpenWith(disk, o)
	require.NoError(t, err)
	return f
}

// ragged is a source with data in ranges that begin and end anywhere; the rest are holes.
type ragged struct {
	*bytes.Reader
	data [][2]int64
}

func newRagged(size int64, data ...[2]int64) ragged {
	b, all := make([]byte, size), pattern(int(size), 3)
	for _, r := range data {
		copy(b[r[0]:r[1]], all[r[0]:r[1]])
	}
	return ragged{bytes.NewReader(b), data}
}

func (s ragged) NextData(off int64) (start, end int64, err error) {
	for _, r := range s.data {
		if off < r[1] {
			return max(off, r[0]), r[1], nil
		}
	}
	return 0, 0, io.EOF
}

func contentOf(t testing.TB, s osmith.Source) []byte {
	b := make([]byte, s.Size())
	_, err := io.ReadFull(io.NewSectionReader(s, 0, s.Size()), b)
	require.NoError(t, err)
	return b
}

// raggedSources are of odd sizes, with holes at odd places.
func raggedSources() []osmith.Source {
	s := []osmith.Source{
		newRagged(1), newRagged(9000), newRagged(12289, [2]int64{0, 1}),
		newRagged(100_001, [2]int64{1, 3}, [2]int64{5, 600}, [2]int64{601, 602}, [2]int64{4097, 8191}, [2]int64{70_001, 100_001}),
		newRagged(50_000, [2]int64{511, 513}, [2]int64{4095, 4097}, [2]int64{40_000, 49_999}),
		bytes.NewReader(pattern(513, 1)), bytes.NewReader(pattern(4097, 2)), strings.NewReader("x"), strings.NewReader(""),
	}
	return append(s, io.NewSectionReader(s[3], 3, 77_777), io.NewSectionReader(io.NewSectionReader(s[4], 1, 49_000), 510, 30_001))
}

// Every change, and every repair of what its interruption leaves, writes whole sectors.
func TestChangesWriteWholeSectors(t *testing.T) {
	for _, v := range volumes() {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			base, writes, repairs := v.build(t), 0, 0
			for k, op := range operations(v) {
				if testing.Short() && v.kind == 32 && k%4 != 0 {
					continue
				}
				disk := v.wholeSectors(t, base.Clone())
				if op.prepare != nil {
					require.NoError(t, op.prepare(v.openWhole(t, disk)))
				}
				if op.spoil != nil {
					op.spoil(t, v, disk.Disk)
				}
				f := v.openWhole(t, disk)
				disk.Record()
				require.NoError(t, op.do(f), op.name)
				writes += disk.writes
				done := disk.Writes()
				for i := range done {
					if v.kind == 32 && i%3 != k%3 {
						continue
					}
					half := len(done[i].Data) / v.device / 2 * v.device
					cut := v.wholeSectors(t, disk.Torn(i, half))
					_, err := v.openWhole(t, cut).Repair()
					require.NoError(t, err, op.name)
					require.NoError(t, v.openWhole(t, cut).WriteFile("after the repair", strings.NewReader("x")))
					repairs += cut.writes
				}
			}
			require.Greater(t, writes, 10)
			require.Greater(t, repairs, 10)
		})
	}
}

// A long sequence of changes of one volume writes whole sectors, whatever the sources of the files
// look like.
func TestManyChangesWriteWholeSectors(t *testing.T) {
	for _, v := range volumes() {
		if v.packed {
			continue
		}
		if v.kind == 12 { // nearly as large as one can be
			v.size = 3000 * v.cluster
		}
		for _, zeroing := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v, zeroing %v", v, zeroing), func(t *testing.T) {
				t.Parallel()
				base := v.build(t)
				disk := v.wholeSectors(t, base)
				can := &zeroingDisk{sectorDisk: disk}
				f := v.openWhole(t, disk)
				if zeroing {
					f = v.openWhole(t, can)
				}
				sources := raggedSources()
				want := map[string][]byte{}
				put := func(name string, s osmith.Source, do func(string, osmith.Source) error) {
					t.Helper()
					require.NoError(t, do(name, s))
					want[name] = contentOf(t, s)
				}
				dirs := []string{".", "new", "new/directory with a long name", "full", "EFI/Linux"}
				require.NoError(t, f.MkdirAll(dirs[2]))
				for i, s := range sources {
					dir := strings.TrimPrefix(dirs[i%len(dirs)]+"/", "./")
					put(fmt.Sprintf("%sS%d", dir, i), s, f.WriteFile)
					put(fmt.Sprintf("%sa long name for source number %d", dir, i), sources[(i+3)%len(sources)], f.WriteFile)
				}
				for i := range 3 { // grows directories and leaves holes in them
					put(fmt.Sprintf("new/%s%d", strings.Repeat("very long name ", 16), i), sources[0], f.WriteFile)
				}
				for i := range 40 {
					name := fmt.Sprintf("new/file number %d", i)
					require.NoError(t, f.WriteFile(name, sources[i%3]))
					if i%3 == 0 {
						require.NoError(t, f.Remove(name))
					} else {
						want[name] = contentOf(t, sources[i%3])
					}
				}
				for i := range sources {
					dir := strings.TrimPrefix(dirs[i%len(dirs)]+"/", "./")
					put(fmt.Sprintf("%sS%d", dir, i), sources[(i+5)%len(sources)], f.ReplaceFile)
					from := fmt.Sprintf("%sa long name for source number %d", dir, i)
					to := fmt.Sprintf("%s%d%s", dir, i, strings.Repeat("+", 8*i+1))
					require.NoError(t, f.Rename(from, to))
					want[to] = want[from]
					delete(want, from)
				}
				if v.kind != 32 && v.sector == 512 { // files in pieces
					require.NoError(t, fragmentSome(f))
					for i, s := range sources[2:5] {
						put(fmt.Sprintf("pieces %d", i), s, f.WriteFile)
					}
					_, e, err := f.walk("pieces 1")
					require.NoError(t, err)
					runs, err := f.chain(e, "pieces 1")
					require.NoError(t, err)
					require.Greater(t, len(runs), 5)
				}
				_, err := f.Repair()
				require.NoError(t, err)
				for name, b := range want {
					got, err := f.ReadFile(name)
					require.NoError(t, err)
					require.True(t, bytes.Equal(b, got), name)
				}
				require.NoError(t, v.clean(base))
				require.Greater(t, disk.writes, 400)
				require.Equal(t, zeroing, can.zeroed > 10)
			})
		}
	}
}

// fragmentSome puts files of one cluster into all free clusters and removes every second one.
func fragmentSome(f *FS) error {
	if err := f.MkdirAll("small"); err != nil {
		return err
	}
	n := int(f.Free()/f.ClusterSize()) * 7 / 8
	for i := range min(n, 700) {
		if err := f.WriteFile(fmt.Sprintf("small/%d", i), strings.NewReader("x")); err != nil {
			return err
		}
	}
	if rest := f.Free() - 16*f.ClusterSize(); n > 700 && rest > 0 {
		if err := f.WriteFile("large", zeros(rest)); err != nil {
			return err
		}
	}
	for i := 0; i < min(n, 700); i += 2 {
		if err := f.Remove(fmt.Sprintf("small/%d", i)); err != nil {
			return err
		}
	}
	return nil
}

// A new volume is written in whole sectors.
func TestBuildWritesWholeSectors(t *testing.T) {
	var files []osmith.ESPFile
	for i, s := range raggedSources() {
		files = append(files, osmith.ESPFile{Path: fmt.Sprintf("EFI/directory %d/file %d", i%3, i), Content: s})
	}
	for _, o := range []BuildOptions{
		{Kind: 12}, {Kind: 16}, {Kind: 32}, {Kind: 32, ClusterSize: 512}, {Size: 80 << 20}, {Kind: 12, SectorSize: 4096}, {Kind: 16, SectorSize: 4096}, {Kind: 32, SectorSize: 4096}, {Kind: AnyKind, SectorSize: 2048},
	} {
		for _, zero := range []bool{false, true} {
			o.TargetIsZero = zero
			t.Run(fmt.Sprintf("kind %d, clusters of %d, sectors of %d, on zeros %v", o.Kind, o.ClusterSize, o.SectorSize, zero), func(t *testing.T) {
				im, err := Plan(files, o)
				require.NoError(t, err)
				sector := int64(max(o.SectorSize, 512))
				disk := &sectorDisk{Disk: faultio.NewDisk(im.Size()), t: t, sector: sector}
				can := &zeroingDisk{sectorDisk: disk}
				if !zero {
					_, err := disk.Disk.WriteAt(bytes.Repeat([]byte{0xa5}, int(im.Size())), 0)
					require.NoError(t, err)
				}
				require.NoError(t, Build(can, files, o))
				require.Positive(t, disk.writes)
				require.Equal(t, zero, can.zeroed == 0)
				if !zero {
					require.NoError(t, Build(disk, files, o))
				}
				want := make([]byte, im.Size())
				require.NoError(t, ignoreEOF(im.ReadAt(want, 0)))
				got := make([]byte, im.Size())
				require.NoError(t, ignoreEOF(disk.ReadAt(got, 0)))
				require.True(t, bytes.Equal(want, got))

				for off := int64(0); off < im.Size(); { // what others copy it by
					start, end, err := im.NextData(off)
					if err == io.EOF {
						break
					}
					require.NoError(t, err)
					require.True(t, start >= off && end > start && start%sector == 0 && end%sector == 0 && end <= im.Size(), "%d to %d", start, end)
					off = end
				}
			})
		}
	}
}

func ignoreEOF(_ int, err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}
