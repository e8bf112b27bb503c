package partition

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/testtools"
)

var repartSeed = osmith.MustParseGUID("11111111-2222-3333-4444-555555555555")

// repart runs the real systemd-repart over definitions and returns the path of the image.
func repart(t testing.TB, root testtools.Root, dir string, defs map[string]string, image, size string, args ...string) (string, error) {
	t.Helper()
	definitions := filepath.Join(dir, "repart.d")
	require.NoError(t, os.RemoveAll(definitions))
	require.NoError(t, os.Mkdir(definitions, 0o755))
	for name, text := range defs {
		require.NoError(t, os.WriteFile(filepath.Join(definitions, name), []byte(text), 0o644))
	}
	args = append([]string{"--dry-run=no", "--seed=" + repartSeed.String(), "--definitions=" + definitions, "--offline=yes",
		"--size=" + size}, append(args, image)...)
	return root.Try(t, dir, "systemd-repart", args...)
}

func fsOf(defs map[string]string) fstest.MapFS {
	out := fstest.MapFS{}
	for name, text := range defs {
		out[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	return out
}

// show is what two tables are compared by.
func show(t *Table) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s %d\n", t.DiskID, t.Size)
	for _, p := range t.Partitions {
		fmt.Fprintf(&out, "%d %s %s %q %d-%d %x\n", p.Number, TypeName(p.Type), p.ID, p.Name, p.FirstLBA, p.LastLBA, p.Attributes)
	}
	return out.String()
}

func tableOf(t testing.TB, name string) *Table {
	t.Helper()
	d, err := osmith.OpenFile(name)
	require.NoError(t, err)
	defer d.Close()
	table, err := Read(d, ReadOptions{})
	require.NoError(t, err)
	return table
}

// The defaults of systemd-repart: labels, sizes, flags.
func TestRepartDefaults(t *testing.T) {
	root := testtools.Forky(t)
	dir := t.TempDir()
	defs := map[string]string{
		"00.conf": "[Partition]\nType=esp\nSizeMinBytes=33M\nSizeMaxBytes=33M\n",
		"10.conf": "[Partition]\nType=usr-verity-sig\n",
		"11.conf": "[Partition]\nType=root\nFormat=empty\n",
		"12.conf": "[Partition]\nType=root\nWeight=300\n",
		"13.conf": "[Partition]\nType=root-verity\nPaddingMinBytes=12345\nReadOnly=yes\n",
		"14.conf": "[Partition]\nType=home\nNoAuto=yes\n",
		"15.conf": "[Partition]\nType=var\nPaddingWeight=200\nGrowFileSystem=no\n",
		"16.conf": "[Partition]\nType=xbootldr\nFormat=empty\nNoAuto=no\n",
		"17.conf": "[Partition]\nType=srv\nFlags=0x1010000000000000\nReadOnly=no\n",
		"18.conf": "[Partition]\nType=swap\nFlags=0x8000000000000000\nLabel=a%%b\nUUID=00112233445566778899aabbccddeeff\n",
		"19.conf": "[Partition]\nType=usr\nSizeMaxBytes=1M\nPriority=5\n",
		"20.conf": "[Partition]\nType=linux-generic\nFlags=0x8800000000000000\nNoAuto=no\nGrowFileSystem=no\n",
		"21.conf": "[Partition]\nType=home\nFlags=0x9800000000000000\nReadOnly=yes\nGrowFileSystem=no\n",
		"22.conf": "[Partition]\nType=home\nFlags=0o1400000000000000000000\nReadOnly=no\nGrowFileSystem=no\n",
		"23.conf": "[Partition]\nType=esp\nNoAuto=yes\nFlags=0b10000000000000000000000000000000000000000000000000\n",
	}
	image := filepath.Join(dir, "disk.img")
	out, err := repart(t, root, dir, defs, image, "1G", "--empty=create", "--architecture=x86-64")
	require.NoError(t, err, out)
	r, err := ReadRepart(fsOf(defs), RepartOptions{})
	require.NoError(t, err)
	require.Len(t, r.Warnings, 1)
	l := r.Layout
	l.Seed, l.Size, l.LayoutOnly = repartSeed, 1<<30, true
	im, err := Plan(l)
	require.NoError(t, err)
	theirs := tableOf(t, image)
	require.Equal(t, show(theirs), show(im.Table))
	require.Equal(t, []uint64{theirs.FirstUsableLBA, theirs.LastUsableLBA}, []uint64{im.Table.FirstUsableLBA, im.Table.LastUsableLBA})
}

// grid is how often a random test runs and the source of its randomness: a fixed seed, and in long
// mode a fresh one.
func grid(t testing.TB, long int) (int, *rand.Rand) {
	if os.Getenv("OSMITH_LONG") == "1" {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		return long, rand.New(rand.NewPCG(seed, 4))
	}
	return long / 3, rand.New(rand.NewPCG(4, 4))
}

// A disk without a size is as large as systemd-repart --size=auto makes it.
func TestRepartAutoSize(t *testing.T) {
	root := testtools.Forky(t)
	dir := t.TempDir()
	for _, defs := range []map[string]string{
		{"1.conf": "[Partition]\nType=home\nSizeMinBytes=5M\n"},
		{"1.conf": "[Partition]\nType=esp\nSizeMinBytes=33M\n", "2.conf": "[Partition]\nType=home\nPaddingMinBytes=1M\n"},
		// so small that it begins elsewhere
		{"1.conf": "[Partition]\nType=home\nSizeMinBytes=4096\nPaddingMinBytes=12288\n"},
	} {
		for _, ss := range []int{512, 4096} {
			image := filepath.Join(dir, "disk.img")
			require.NoError(t, os.RemoveAll(image))
			out, err := repart(t, root, dir, defs, image, "auto", "--empty=create", fmt.Sprintf("--sector-size=%d", ss))
			require.NoError(t, err, out)
			r, err := ReadRepart(fsOf(defs), RepartOptions{})
			require.NoError(t, err)
			r.Layout.Seed, r.Layout.SectorSize = repartSeed, ss
			im, err := Plan(r.Layout)
			require.NoError(t, err)
			require.Equal(t, show(tableOf(t, image)), show(im.Table))
		}
	}
}
