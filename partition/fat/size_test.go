package fat

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/testtools"
)

// requireAccepted has fsck.fat and mtools look at a volume, which both say to be of the kind.
func requireAccepted(t *testing.T, d *faultio.Disk, kind int) {
	t.Helper()
	name := dump(t, d)
	out := testtools.Run(t, "fsck.fat", "-n", "-v", name)
	require.Contains(t, out, fmt.Sprintf("%d bit entries", kind), out)
	cmd := exec.Command(testtools.Require(t, "mdir"), "-i", name, "-b", "-/", "::")
	cmd.Env = append(os.Environ(), "MTOOLSRC=/dev/null")
	b, err := cmd.CombinedOutput()
	require.NoError(t, err, string(b))
	require.Contains(t, string(b), "::/EFI/BOOT/file with a long name.efi")
	require.NoError(t, os.Remove(name))
}

func small() []osmith.ESPFile {
	return []osmith.ESPFile{{Path: "EFI/BOOT/file with a long name.efi", Content: strings.NewReader(strings.Repeat("x", 5000))}, {Path: "loader/loader.conf", Content: strings.NewReader("timeout 3\n")}}
}

// Every whole MiB from 1 to 4096 is a volume that fsck.fat and mtools accept. The geometry is
// checked for all of them, the tools see a sample; with OSMITH_LONG=1 all.
func TestEverySize(t *testing.T) {
	for mib := int64(1); mib <= 4096; mib++ {
		for _, ss := range []int64{512, 4096} {
			im, err := Plan(small(), BuildOptions{Size: mib << 20, SectorSize: int(ss)})
			if ss == 4096 && mib == 1 && err != nil {
				t.Fatal(err)
			}
			require.NoError(t, err, "%d MiB", mib)
			requireSound(t, &im.geo)
		}
	}
	sample := []int64{1, 2, 3, 4, 5, 8, 15, 16, 17, 31, 32, 33, 34, 64, 65, 129, 194, 256, 257, 258, 259, 511, 512, 1018, 1019, 1020, 2044, 2045, 2046, 4095, 4096}
	if os.Getenv("OSMITH_LONG") == "1" {
		sample = nil
		for mib := int64(1); mib <= 4096; mib++ {
			sample = append(sample, mib)
		}
	}
	const groups = 4
	for g := range groups {
		t.Run(fmt.Sprint(g), func(t *testing.T) {
			t.Parallel()
			for i := g; i < len(sample); i += groups {
				for _, ss := range []int{512, 4096} {
					o := BuildOptions{Size: sample[i] << 20, SectorSize: ss}
					im, err := Plan(small(), o)
					require.NoError(t, err)
					requireAccepted(t, build(t, small(), o), im.Kind())
				}
			}
		})
	}
}

// requireSound checks what firmware relies on.
func requireSound(t *testing.T, g *geometry) {
	t.Helper()
	n := int64(g.clusters)
	switch {
	case n < minClusters16:
		require.Equal(t, 12, g.kind)
	case n < minClusters32:
		require.Equal(t, 16, g.kind)
	default:
		require.Equal(t, 32, g.kind)
	}
	need := fatBytes(g.kind, n)
	require.LessOrEqual(t, need, g.fatSize, "%d clusters", n)
	slack := blockSize + g.sectorSize // FATs are a multiple of 4 KiB
	if g.kind == 32 {
		slack += 8 * (g.clusterSize/g.sectorSize + 2)
	}
	require.Less(t, g.fatSize-need, slack, "%d clusters", n)
	require.LessOrEqual(t, g.dataOff+n*g.clusterSize, g.total)
	require.Less(t, g.total-g.dataOff-n*g.clusterSize, g.clusterSize)
	require.Zero(t, g.dataOff%g.clusterSize)
	for _, off := range []int64{g.fatOff, g.fatSize, g.rootOff, g.rootSize, g.dataOff} {
		require.Zero(t, off%4096)
	}
	if g.kind == 32 {
		require.Zero(t, g.fsInfo%4096)
		require.Greater(t, g.fsInfo/4096, int64(0))
		require.Less(t, g.fsInfo, g.fatOff)
	}
}

// Every sector and cluster size, and every kind that they can make.
func TestEveryClusterSize(t *testing.T) {
	seen := map[string]bool{}
	for ss := int64(512); ss <= 4096; ss *= 2 {
		for cs := ss; cs <= 128*ss; cs *= 2 {
			for _, kind := range []int{12, 16, 32} {
				o := BuildOptions{SectorSize: int(ss), ClusterSize: cs, Kind: kind}
				need, err := MinSize(small(), o)
				require.NoError(t, err)
				for _, size := range []int64{need, need + 7*cs + ss} {
					o.Size = size
					im, err := Plan(small(), o)
					require.NoError(t, err)
					require.Equal(t, []int64{int64(kind), cs}, []int64{int64(im.Kind()), im.ClusterSize()})
					requireSound(t, &im.geo)
				}
				o.Size = need - ss
				_, err = Plan(small(), o)
				var space *SpaceError
				require.ErrorAs(t, err, &space)
				require.Equal(t, need, space.Need)
				if need > 600<<20 || (!testing.Short() && need > 100<<20 && cs != ss) {
					continue
				}
				seen[fmt.Sprint(ss, kind)] = true
				d := build(t, small(), BuildOptions{Size: need + 7*cs + ss, SectorSize: int(ss), ClusterSize: cs, Kind: kind})
				requireAccepted(t, d, kind)
				f, err := Open(d)
				require.NoError(t, err)
				require.NoError(t, f.WriteFile("loader/new file.conf", strings.NewReader("new")))
				requireClean(t, d)
			}
		}
	}
	require.Len(t, seen, 12)
}

// The smallest volume of any kind is a FAT12 while it can be one, and MinSize says what Plan takes.
func TestAnyKind(t *testing.T) {
	for _, c := range []struct {
		bytes int64
		kind  int
	}{{1000, 12}, {1 << 20, 12}, {20 << 20, 12}, {200 << 20, 16}, {3 << 30, 32}} {
		files := []osmith.ESPFile{{Path: "file", Content: zeros(c.bytes)}}
		for _, o := range []BuildOptions{{Kind: AnyKind}, {Kind: AnyKind, SectorSize: 4096}} {
			need, err := MinSize(files, o)
			require.NoError(t, err)
			im, err := Plan(files, o)
			require.NoError(t, err)
			require.Equal(t, need, im.Size())
			require.Less(t, need, c.bytes+c.bytes/50+1<<20)
			requireSound(t, &im.geo)
			if o.SectorSize == 0 {
				require.Equal(t, c.kind, im.Kind(), c.bytes)
			}
		}
	}
	// What does not fit the size says how large a volume does, of the kind that it will be.
	for _, size := range []int64{1 << 20, 8 << 20, 30 << 20, 33 << 20, 64 << 20} {
		for bytes := size - 1<<20; bytes <= size+1<<20; bytes += 100_000 {
			files := []osmith.ESPFile{{Path: "file", Content: zeros(bytes)}}
			_, err := Plan(files, BuildOptions{Size: size})
			if err == nil {
				continue
			}
			var space *SpaceError
			require.ErrorAs(t, err, &space)
			require.Greater(t, space.Need, size)
			_, err = Plan(files, BuildOptions{Size: space.Need})
			require.NoError(t, err, "%d bytes: %v", bytes, space)
		}
	}
}

// zeros is a file of so many zero bytes.
type zeros int64

func (z zeros) Size() int64 { return int64(z) }
func (z zeros) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	return len(p), nil
}
