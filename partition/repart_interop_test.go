package partition

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/testtools"
)

var repartSeed = osmith.MustParseGUID("11111111-2222-3333-4444-555555555555")

// repart runs the real systemd-repart over definitions and returns the path of the image.
func repart(t testing.TB, root testtools.Root, dir string, defs map[string]string, image string, size int64, args ...string) (string, error) {
	t.Helper()
	definitions := filepath.Join(dir, "repart.d")
	require.NoError(t, os.RemoveAll(definitions))
	require.NoError(t, os.Mkdir(definitions, 0o755))
	for name, text := range defs {
		require.NoError(t, os.WriteFile(filepath.Join(definitions, name), []byte(text), 0o644))
	}
	args = append([]string{"--dry-run=no", "--seed=" + repartSeed.String(), "--definitions=" + definitions, "--offline=yes",
		"--size=" + strconv.FormatInt(size, 10)}, append(args, image)...)
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
	}
	image := filepath.Join(dir, "disk.img")
	out, err := repart(t, root, dir, defs, image, 1<<30, "--empty=create", "--architecture=x86-64")
	require.NoError(t, err, out)
	l, err := ReadRepart(fsOf(defs), RepartOptions{})
	require.NoError(t, err)
	l.Seed, l.Size = repartSeed, 1<<30
	im, err := Plan(l)
	require.NoError(t, err)
	require.Equal(t, show(tableOf(t, image)), show(im.Table))
}

// randomDefinitions makes definitions with everything that decides about places.
func randomDefinitions(r *rand.Rand) map[string]string {
	types := []string{"esp", "root", "root-verity", "root-verity-sig", "usr", "usr-verity", "usr-verity-sig", "home", "var", "srv", "swap", "linux-generic"}
	defs := map[string]string{}
	for i := range 1 + r.IntN(10) {
		var b bytes.Buffer
		fmt.Fprintf(&b, "[Partition]\nType=%s\n", types[r.IntN(len(types))])
		low := int64(r.IntN(64<<20) + 1)
		if r.IntN(2) == 0 {
			fmt.Fprintf(&b, "SizeMinBytes=%d\n", low)
		} else {
			low = 10 << 20
		}
		if r.IntN(3) == 0 {
			fmt.Fprintf(&b, "SizeMaxBytes=%d\n", low+4096+int64(r.IntN(100<<20)))
		}
		if r.IntN(2) == 0 {
			fmt.Fprintf(&b, "Weight=%d\n", []int{0, 1, 10, 333, 1000, 5000, 1000000}[r.IntN(7)])
		}
		if r.IntN(4) == 0 {
			fmt.Fprintf(&b, "PaddingWeight=%d\n", r.IntN(2000))
		}
		pad := int64(r.IntN(3 << 20))
		if r.IntN(4) == 0 {
			fmt.Fprintf(&b, "PaddingMinBytes=%d\n", pad)
		}
		if r.IntN(4) == 0 {
			fmt.Fprintf(&b, "PaddingMaxBytes=%d\n", pad+4096+int64(r.IntN(8<<20)))
		}
		if r.IntN(4) == 0 {
			fmt.Fprintf(&b, "Priority=%d\n", r.IntN(4))
		}
		if r.IntN(4) == 0 {
			fmt.Fprintf(&b, "Label=label %d\n", i)
		}
		defs[fmt.Sprintf("%02d.conf", i)] = b.String()
	}
	return defs
}

// grid is how often a random test runs and the source of its randomness: a fixed seed, and in long mode a fresh one.
func grid(t testing.TB, long int) (int, *rand.Rand) {
	if os.Getenv("OSMITH_LONG") == "1" {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		return long, rand.New(rand.NewPCG(seed, 4))
	}
	return long / 3, rand.New(rand.NewPCG(4, 4))
}

// sameIDs takes over our IDs and names.
func sameIDs(theirs, ours *Table) {
	for i := range min(len(theirs.Partitions), len(ours.Partitions)) {
		theirs.Partitions[i].ID, theirs.Partitions[i].Name = ours.Partitions[i].ID, ours.Partitions[i].Name
	}
}

// Random definitions become the same table here as through systemd-repart, on a new disk and, grown and extended by more
// definitions, on one that is there.
func TestRepartRandom(t *testing.T) {
	root := testtools.Forky(t)
	runs, r := grid(t, 201)
	dir := t.TempDir()
	refused := 0
	for run := range runs {
		defs := randomDefinitions(r)
		size := (100<<20 + int64(r.IntN(600<<20))) / 4096 * 4096
		describe := func() string {
			b, _ := json.MarshalIndent(defs, "", " ")
			return fmt.Sprintf("run %d, size %d: %s", run, size, b)
		}
		image := filepath.Join(dir, "disk.img")
		_ = os.Remove(image)
		out, theirs := repart(t, root, dir, defs, image, size, "--empty=create", "--architecture=x86-64")
		l, err := ReadRepart(fsOf(defs), RepartOptions{})
		require.NoError(t, err, describe())
		l.Seed, l.Size = repartSeed, size
		im, err := Plan(l)
		if theirs != nil {
			refused++
			require.Error(t, err, "%s\n%s", describe(), out)
			continue
		}
		require.NoError(t, err, "%s\n%s", describe(), out)
		require.Equal(t, show(tableOf(t, image)), show(im.Table), describe())

		before, wanted := tableOf(t, image), len(defs)
		for name, text := range randomDefinitions(r) {
			if len(defs) < 14 && r.IntN(2) == 0 {
				defs["5"+name] = text
			}
		}
		size += int64(r.IntN(200<<20)) / 4096 * 4096
		require.NoError(t, os.Truncate(image, size))
		out, theirs = repart(t, root, dir, defs, image, size, "--empty=refuse", "--architecture=x86-64")
		l, err = ReadRepart(fsOf(defs), RepartOptions{})
		require.NoError(t, err)
		l.Seed = repartSeed
		require.NoError(t, before.Resize(size))
		im, err = PlanOnto(before, l)
		// Where definitions were left out at first, systemd-repart may find a derived ID in use and takes a random one, and
		// counts default labels by the table; then only the places are compared.
		dropped := len(before.Partitions) < wanted
		if theirs != nil {
			refused++
			if !dropped {
				require.Error(t, err, "%s\n%s\n%s", describe(), show(before), out)
			}
			continue
		}
		require.NoError(t, err, "%s\n%s\n%s", describe(), show(before), out)
		got := tableOf(t, image)
		if dropped {
			sameIDs(got, im.Table)
		}
		require.Equal(t, show(got), show(im.Table), "%s\n%s\n%s", describe(), show(before), out)
	}
	t.Logf("%d runs, %d refusals", runs, refused)
	require.Less(t, refused, runs)
}
