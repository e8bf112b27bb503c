package fat

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
)

// snapshot is what a reader sees: path -> contents, directories with a slash and nothing.
func snapshot(t *testing.T, d *faultio.Disk) map[string]string {
	t.Helper()
	f, err := OpenReader(d)
	require.NoError(t, err)
	out := map[string]string{}
	require.NoError(t, fs.WalkDir(f, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			out[name+"/"] = ""
			return nil
		}
		b, err := f.ReadFile(name)
		out[name] = string(b)
		return err
	}))
	return out
}

func equal(a, b map[string]string) bool { return maps.Equal(a, b) }

// cutEverywhere runs op on d and looks at the disk after every write, after every sector of a longer write, and with
// unsynced writes lost at random. Each time all files are as before or as after; extra may allow more.
func cutEverywhere(t *testing.T, d *faultio.Disk, op func(*FS) error, extra ...func(map[string]string) bool) {
	t.Helper()
	before := snapshot(t, d)
	f, err := Open(d)
	require.NoError(t, err)
	d.Record()
	require.NoError(t, op(f))
	after := snapshot(t, d)
	requireClean(t, d)

	writes := d.Writes()
	check := func(what string, cut *faultio.Disk, deep bool) {
		t.Helper()
		got := snapshot(t, cut)
		ok := equal(got, before) || equal(got, after)
		for _, e := range extra {
			ok = ok || e(got)
		}
		require.True(t, ok, "%s: files are %v", what, slices.Sorted(maps.Keys(got)))
		if deep {
			requireSurvivable(t, cut)
			again := cut.Clone()
			f, err := Open(again)
			require.NoError(t, err)
			_, err = f.Repair()
			require.NoError(t, err, what)
			require.True(t, equal(got, snapshot(t, again)), what)
			requireClean(t, again)
		}
	}
	rng := rand.New(rand.NewPCG(1, uint64(len(writes))))
	for k := range len(writes) + 1 {
		check(fmt.Sprintf("cut after write %d of %d", k, len(writes)), d.Prefix(k), true)
		if k == len(writes) {
			break
		}
		sectors := len(writes[k].Data) / 512
		for s := 1; s < sectors; s += 1 + sectors/8 {
			check(fmt.Sprintf("write %d torn after sector %d", k, s), d.Torn(k, s*512), s == 1)
		}
		for range 4 {
			check(fmt.Sprintf("writes lost before %d", k), d.Lossy(k, func(int) bool { return rng.IntN(2) == 0 }), false)
		}
	}
}

func TestCutUpdates(t *testing.T) {
	big := pattern(300_000, 9)
	for _, c := range []struct {
		name string
		op   func(f *FS) error
	}{
		{"add", func(f *FS) error { return f.WriteFile("EFI/Linux/os_2.0+3-0.efi", bytes.NewReader(big)) }},
		{"add empty", func(f *FS) error { return f.WriteFile("EFI/Linux/flag", strings.NewReader("")) }},
		{"add long", func(f *FS) error {
			return f.WriteFile("loader/"+strings.Repeat("long name ", 24)+".conf", strings.NewReader("x"))
		}},
		{"count down", func(f *FS) error { return f.Rename("EFI/Linux/os_1.0+3-0.efi", "EFI/Linux/os_1.0+2-1.efi") }},
		{"bless", func(f *FS) error { return f.Rename("EFI/Linux/os_1.0+3-0.efi", "EFI/Linux/os_1.0.efi") }},
		{"short name", func(f *FS) error { return f.Rename("EFI/Linux/os_1.0+3-0.efi", "EFI/Linux/A.EFI") }},
		{"longer", func(f *FS) error {
			return f.Rename("EFI/Linux/os_1.0+3-0.efi", "EFI/Linux/os_1.0_with_a_much_longer_name+3-0.efi")
		}},
		{"exact alias", func(f *FS) error { return f.Rename("EFI/BOOT/BOOTX64.EFI", "EFI/BOOT/old.efi") }},
		{"case", func(f *FS) error { return f.Rename("loader/loader.conf", "loader/LOADER.conf") }},
		{"directory", func(f *FS) error { return f.Rename("EFI/systemd", "EFI/Systemd-Boot") }},
		{"remove", func(f *FS) error { return f.Remove("EFI/Linux/os_1.0+3-0.efi") }},
		{"remove directory", func(f *FS) error { return f.Remove("loader/entries") }},
		{"replace", func(f *FS) error { return f.ReplaceFile("loader/loader.conf", strings.NewReader("timeout 10\n")) }},
		{"replace with nothing", func(f *FS) error { return f.ReplaceFile("loader/loader.conf", strings.NewReader("")) }},
		{"mkdir", func(f *FS) error { return f.MkdirAll("EFI/new") }},
	} {
		for _, o := range []BuildOptions{{Size: 40 << 20}, {Size: 24 << 20}, {Size: 6 << 20, Kind: 12}} {
			d := build(t, esp(), o)
			f, err := Open(d)
			require.NoError(t, err)
			t.Run(fmt.Sprintf("%s on FAT%d", c.name, f.Kind()), func(t *testing.T) {
				t.Parallel() // fsck.fat mostly waits
				cutEverywhere(t, d, c.op)
			})
		}
	}
}

// A directory that is full has to grow, and one whose sector is full cannot take a longer name there.
func TestCutFullDirectory(t *testing.T) {
	for _, o := range []BuildOptions{{Size: 34 << 20}, {Size: 24 << 20, ClusterSize: 512}, {Size: 1 << 20, ClusterSize: 512}} {
		im, err := Plan(nil, o)
		require.NoError(t, err)
		t.Run(fmt.Sprintf("FAT%d", im.Kind()), func(t *testing.T) { testCutFullDirectory(t, o) })
	}
}

func testCutFullDirectory(t *testing.T, o BuildOptions) {
	var files []osmith.ESPFile
	for i := range 7 { // '.', '..' and seven sets of two entries: one sector, one cluster
		files = append(files, osmith.ESPFile{Path: fmt.Sprintf("d/%c.lower", 'a'+i), Content: strings.NewReader(fmt.Sprint("file ", i))})
	}
	t.Run("grow", func(t *testing.T) {
		cutEverywhere(t, build(t, files, o), func(f *FS) error { return f.WriteFile("d/new name.txt", strings.NewReader("new")) })
	})
	t.Run("in place", func(t *testing.T) {
		cutEverywhere(t, build(t, files, o), func(f *FS) error { return f.Rename("d/c.lower", "d/c2.lower") })
	})
	t.Run("copy", func(t *testing.T) {
		both := func(got map[string]string) bool {
			return got["d/c.lower"] == "file 2" && got["d/a longer name.lower"] == "file 2" && len(got) == 10
		}
		cutEverywhere(t, build(t, files, o), func(f *FS) error { return f.Rename("d/c.lower", "d/a longer name.lower") }, both)
	})
	t.Run("repack", func(t *testing.T) {
		d := build(t, files, o)
		f, err := Open(d)
		require.NoError(t, err)
		require.NoError(t, f.Remove("d/f.lower"))
		cutEverywhere(t, d, func(f *FS) error { return f.Rename("d/c.lower", "d/a longer name.lower") })
	})
}

// Clusters of several sectors: a set that does not fit the rest of a sector goes to the next one, and what another
// writer left behind the end marker must not show up.
func TestCutNextSector(t *testing.T) {
	var files []osmith.ESPFile
	for i := range 6 { // '.', '..' and six sets of two entries: two entries are left
		files = append(files, osmith.ESPFile{Path: fmt.Sprintf("d/%c.lower", 'a'+i), Content: strings.NewReader(fmt.Sprint("file ", i))})
	}
	disk := func(t *testing.T, garbage bool) *faultio.Disk {
		d := build(t, files, BuildOptions{Size: 260 << 20})
		f, err := Open(d)
		require.NoError(t, err)
		require.Equal(t, int64(4096), f.ClusterSize())
		if garbage {
			_, e, err := f.walk("d")
			require.NoError(t, err)
			set := entrySet("garbage", padShort("GARBAGE", ""), false, attrArchive, 0, 0, stamp{})
			for i := int64(15); i < 48; i++ {
				d.WriteAt(set[len(set)-entrySize:], f.geo.clusterOff(e.cluster)+i*entrySize)
			}
		}
		return d
	}
	for _, garbage := range []bool{false, true} {
		for _, name := range []string{"d/ab", "d/name of three entries.txt", "d/" + strings.Repeat("long ", 40) + "name"} {
			t.Run(fmt.Sprint(garbage, len(name)), func(t *testing.T) {
				d := disk(t, garbage)
				if !garbage {
					cutEverywhere(t, d, func(f *FS) error { return f.WriteFile(name, strings.NewReader("new")) })
					return
				}
				before := snapshot(t, d) // fsck.fat looks behind the marker, so that it has no say here
				f, err := Open(d)
				require.NoError(t, err)
				d.Record()
				require.NoError(t, f.WriteFile(name, strings.NewReader("new")))
				after := maps.Clone(before)
				after[name] = "new"
				for k := range len(d.Writes()) + 1 {
					got := snapshot(t, d.Prefix(k))
					require.True(t, equal(got, before) || equal(got, after), slices.Sorted(maps.Keys(got)))
				}
				require.True(t, equal(after, snapshot(t, d)))
			})
		}
	}
}

// The operation itself runs into the cut: the FS then refuses to go on, and the disk is old or new.
func TestCutWhileRunning(t *testing.T) {
	base := build(t, esp(), BuildOptions{Size: 40 << 20})
	before := snapshot(t, base)
	for k := 0; ; k++ {
		d := base.Clone()
		f, err := Open(d)
		require.NoError(t, err)
		d.CutAfter(k)
		err = f.Rename("EFI/Linux/os_1.0+3-0.efi", "EFI/Linux/os_1.0+2-1.efi")
		if err == nil {
			require.Greater(t, k, 0)
			break
		}
		require.ErrorIs(t, err, faultio.ErrCut)
		got := snapshot(t, d)
		require.True(t, equal(before, got) || got["EFI/Linux/os_1.0+2-1.efi"] != "")
		require.ErrorIs(t, f.MkdirAll("x"), errBroken)
	}
}
