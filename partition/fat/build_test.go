package fat

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
)

func pattern(n int, seed byte) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(uint64(seed), 7))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func esp() []osmith.ESPFile {
	return []osmith.ESPFile{
		{Path: "EFI/BOOT/BOOTX64.EFI", Content: bytes.NewReader(pattern(100_000, 1))},
		{Path: "EFI/systemd/systemd-bootx64.efi", Content: bytes.NewReader(pattern(100_000, 1))},
		{Path: "EFI/Linux/os_1.0+3-0.efi", Content: bytes.NewReader(pattern(3<<20+17, 2))},
		{Path: "loader/loader.conf", Content: strings.NewReader("timeout 3\n")},
		{Path: "loader/entries.srel", Content: strings.NewReader("type1\n")},
		{Path: "loader/loader.con1", Content: strings.NewReader("x")},
		{Path: "loader/empty", Content: strings.NewReader("")},
		{Path: "loader/.hidden", Content: strings.NewReader("h")},
		{Path: "loader/entries/", Content: nil},
		{Path: "loader/Größe 日本 𝄞.txt", Content: strings.NewReader("unicode")},
	}
}

func build(t testing.TB, files []osmith.ESPFile, o BuildOptions) *faultio.Disk {
	t.Helper()
	im, err := Plan(files, o)
	require.NoError(t, err)
	d := faultio.NewDisk(im.Size())
	o.TargetIsZero = true
	require.NoError(t, Build(d, files, o))
	return d
}

func TestBuild(t *testing.T) {
	o := BuildOptions{Size: 64 << 20, VolumeID: 0x1234abcd, Label: "esp", Time: time.Date(2026, 3, 4, 5, 6, 8, 0, time.UTC), HiddenSectors: 2048}
	d := build(t, esp(), o)
	requireClean(t, d)
	list := mtool(t, d, "mdir", "-/", "-a", "::")
	for _, want := range []string{"Volume in drive : is ESP", "1234-ABCD", "os_1.0+3-0.efi", "Größe 日本", "2026-03-04", ".hidden", "LOADER~1 CON"} {
		require.Contains(t, list, want)
	}
	require.Equal(t, string(pattern(3<<20+17, 2)), mtool(t, d, "mtype", "::EFI/Linux/os_1.0+3-0.efi"))

	f, err := OpenReader(d)
	require.NoError(t, err)
	require.Equal(t, "ESP", f.Label())
	require.Equal(t, uint32(0x1234abcd), f.VolumeID())
	var names []string
	for _, file := range esp() {
		name := strings.TrimSuffix(file.Path, "/")
		names = append(names, name)
		if file.Content == nil {
			continue
		}
		want := make([]byte, file.Content.Size())
		file.Content.ReadAt(want, 0)
		got, err := f.ReadFile(fold(name))
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got), name)
	}
	require.NoError(t, fstest.TestFS(f, names...))
	info, err := f.Stat("loader/loader.conf")
	require.NoError(t, err)
	require.True(t, info.ModTime().Equal(o.Time))
	require.Equal(t, "LOADER~1.CON", info.Sys().(Attributes).ShortName)
}

// Holes and the state of the target change no byte, and neither does a second run.
func TestBuildSameBytes(t *testing.T) {
	for _, ss := range []int{512, 4096} {
		o := BuildOptions{SectorSize: ss}
		a := build(t, esp(), o)
		dirty := faultio.NewDisk(a.Size())
		for off := int64(0); off < a.Size(); off += 1 << 20 {
			dirty.WriteAt(bytes.Repeat([]byte{0x55}, int(min(1<<20, a.Size()-off))), off)
		}
		var last int64
		o.Progress = func(done, total int64) { require.Equal(t, a.Size(), total); last = done }
		require.NoError(t, Build(dirty, esp(), o))
		require.Equal(t, a.Size(), last)
		p, q := make([]byte, a.Size()), make([]byte, a.Size())
		a.ReadAt(p, 0)
		dirty.ReadAt(q, 0)
		require.True(t, bytes.Equal(p, q))
		requireClean(t, a)
		im, err := Plan(esp(), o)
		require.NoError(t, err)
		// any read of the planned image gives the bytes of the built one
		rng := rand.New(rand.NewPCG(3, 4))
		for range 2000 {
			off := rng.Int64N(a.Size())
			if rng.IntN(2) == 0 {
				off = rng.Int64N(8 << 20)
			}
			b := make([]byte, min(int64(rng.IntN(70_000)), a.Size()-off))
			_, err := im.ReadAt(b, off)
			require.NoError(t, err)
			require.True(t, bytes.Equal(p[off:off+int64(len(b))], b))
		}
	}
}

func TestMinSize(t *testing.T) {
	files := append(esp(), osmith.ESPFile{Path: "big", Content: bytes.NewReader(make([]byte, 80<<20))})
	for _, ss := range []int{512, 4096} {
		for _, set := range [][]osmith.ESPFile{nil, esp(), files} {
			o := BuildOptions{SectorSize: ss, Kind: 32}
			need, err := MinSize(set, o)
			require.NoError(t, err)
			o.Size = need
			_, err = Plan(set, o)
			require.NoError(t, err)
			o.Size = need - int64(ss)
			_, err = Plan(set, o)
			var space *SpaceError
			require.ErrorAs(t, err, &space)
			require.Equal(t, need, space.Need)
			require.Equal(t, o.Size, space.Have)
			require.ErrorContains(t, err, fmt.Sprint(need))
		}
	}
	d := build(t, nil, BuildOptions{})
	requireClean(t, d)
}

func TestBuildRefuses(t *testing.T) {
	x := strings.NewReader("x")
	var name *NameError
	for _, bad := range []string{"", "/a", "a//b", "a/../b", ".", "a:b", "x?y", "con", "aux.txt", "lpt1", "end.", "end ", "a\x01", "a\x7fb",
		"bad\xff", strings.Repeat("a", 256), strings.Repeat("𝄞", 128), `a\b`} {
		_, err := Plan([]osmith.ESPFile{{Path: bad, Content: x}}, BuildOptions{})
		require.ErrorAs(t, err, &name, bad)
	}
	_, err := Plan([]osmith.ESPFile{{Path: strings.Repeat("a", 255), Content: x}, {Path: "a/console", Content: x}, {Path: "b/com0", Content: x}}, BuildOptions{})
	require.NoError(t, err)
	for _, set := range [][]osmith.ESPFile{{{Path: "a/b", Content: x}, {Path: "A/B", Content: x}}, {{Path: "a", Content: x}, {Path: "a/b", Content: x}}, {{Path: "a/b", Content: x}, {Path: "a", Content: x}}} {
		_, err := Plan(set, BuildOptions{})
		require.ErrorIs(t, err, fs.ErrExist)
	}
	for _, label := range []string{"twelve chars", "a.b", "é", " x"} {
		_, err := Plan(nil, BuildOptions{Label: label})
		require.ErrorAs(t, err, &name)
	}
	for _, o := range []BuildOptions{{SectorSize: 513}, {Size: 64<<20 + 1}, {Size: -512}, {Kind: 8}, {Kind: -2}, {ClusterSize: 513}, {ClusterSize: 1536},
		{ClusterSize: 256}, {ClusterSize: -512}, {ClusterSize: 128 << 10}, {SectorSize: 4096, ClusterSize: 2048}, {Size: 4 << 40}} {
		_, err := Plan(nil, o)
		require.Error(t, err)
	}
}

// Thousands of names that begin alike get distinct short names, in linear time.
func TestManyNames(t *testing.T) {
	var files []osmith.ESPFile
	for i := range 2000 {
		files = append(files, osmith.ESPFile{Path: fmt.Sprintf("dir/a long name number %d.conf", i), Content: strings.NewReader("x")})
	}
	files = append(files, osmith.ESPFile{Path: "dir/ALONGN~1.CON", Content: strings.NewReader("taken")})
	d := build(t, files, BuildOptions{ShortCase: true})
	requireClean(t, d)
	f, err := OpenReader(d)
	require.NoError(t, err)
	b, err := f.ReadFile("dir/ALONGN~1.CON")
	require.NoError(t, err)
	require.Equal(t, "taken", string(b))
}

func TestShortCase(t *testing.T) {
	set := []osmith.ESPFile{{Path: "loader.efi", Content: strings.NewReader("1")}, {Path: "ABC.txt", Content: strings.NewReader("2")}, {Path: "AbC.doc", Content: strings.NewReader("3")}}
	d := build(t, set, BuildOptions{ShortCase: true})
	requireClean(t, d)
	f, err := OpenReader(d)
	require.NoError(t, err)
	require.NoError(t, fstest.TestFS(f, "loader.efi", "ABC.txt", "AbC.doc"))
	root, err := f.readDir(0, "")
	require.NoError(t, err)
	require.Equal(t, []int{1, 1, 2}, []int{root.entries[0].n, root.entries[1].n, root.entries[2].n})
}

// The length of a directory is known before its entries are.
func TestDirectoryLength(t *testing.T) {
	for _, o := range []BuildOptions{{}, {ShortCase: true}, {Label: "ESP"}} {
		root, _, err := plant(append(volumes()[0].cutFiles(), esp()...)[5:], o)
		require.NoError(t, err)
		var walk func(n *node)
		walk = func(n *node) {
			if n.dir {
				require.Equal(t, n.dirBytes, max(entrySize, int64(len(n.entries(0, o, n == root, false)))), n.path)
				require.Equal(t, n.apartBytes, int64(len(n.entries(0, o, n == root, true))), n.path)
			}
			for _, c := range n.children {
				walk(c)
			}
		}
		walk(root)
	}
}

// Volumes that Build made before it kept things apart are read and changed as they are.
func TestEarlierForm(t *testing.T) {
	d := stored(t, "v0")
	f, err := Open(d)
	require.NoError(t, err)
	require.Equal(t, []any{"ESP", uint32(0x12345678), int64(512)}, []any{f.Label(), f.VolumeID(), f.geo.fsInfo})
	require.NoError(t, f.WriteFile("EFI/Linux/os_1.1+3-0.efi", strings.NewReader("new")))
	require.NoError(t, f.Rename("EFI/Linux/os_1.0+3-0.efi", "EFI/Linux/os_1.0.efi"))
	require.NoError(t, f.Remove("loader/loader.conf"))
	require.Equal(t, map[string]string{
		"EFI/": "", "EFI/BOOT/": "", "EFI/Linux/": "", "loader/": "", "EFI/BOOT/BOOTX64.EFI": "loader",
		"EFI/Linux/os_1.0.efi": strings.Repeat("kernel", 500), "EFI/Linux/os_1.1+3-0.efi": "new", "./": "",
	}, snapshot(t, d))
	require.NoError(t, volume{sector: 512, device: 512}.clean(d))
}
