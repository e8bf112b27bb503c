package fat

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
)

// What another FAT library was found to do wrong, each as a test of ours on every kind of FAT. FATs
// too short for the volume are in TestEverySize, cycles and lies about sizes in the tests of
// hostile input.
func TestDefectsSeenElsewhere(t *testing.T) {
	for _, o := range []BuildOptions{{Size: 66<<20 + 77*512}, {Size: 32 << 20}, {Size: 5<<20 + 77*512, Kind: 12}} {
		im, err := Plan(nil, o)
		require.NoError(t, err)
		t.Run(fmt.Sprintf("FAT%d", im.Kind()), func(t *testing.T) {
			t.Run("parent of a top directory", func(t *testing.T) { defectDotDot(t, o) })
			t.Run("filling the volume", func(t *testing.T) { defectFull(t, o) })
			t.Run("removing", func(t *testing.T) { defectRemove(t, o) })
			t.Run("cut rename", func(t *testing.T) { defectRename(t, o) })
			t.Run("names", func(t *testing.T) { defectNames(t, o) })
			t.Run("empty files", func(t *testing.T) { defectEmpty(t, o) })
			t.Run("copies differ", func(t *testing.T) { defectCopies(t, o) })
		})
	}
	t.Run("a FAT32 of 20 MiB", func(t *testing.T) {
		_, err := Plan(nil, BuildOptions{Size: 20 << 20, Kind: 32})
		var space *SpaceError
		require.ErrorAs(t, err, &space)
	})
	t.Run("what can be chosen", func(t *testing.T) {
		o := BuildOptions{VolumeID: 0xcafe0001, HiddenSectors: 2048, Time: time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC)}
		d := build(t, esp(), o)
		b := make([]byte, 64<<10)
		d.ReadAt(b, 0)
		le := binary.LittleEndian
		info := 512 * int(le.Uint16(b[48:]))
		require.Equal(t, []uint32{2048, 0xcafe0001}, []uint32{le.Uint32(b[28:]), le.Uint32(b[67:])})
		f, err := Open(d)
		require.NoError(t, err)
		require.Equal(t, f.Free(), int64(le.Uint32(b[info+488:]))*f.ClusterSize(), "the free count of FSInfo")
	})
}

func defectDotDot(t *testing.T, o BuildOptions) {
	d := build(t, esp(), o)
	f, err := Open(d)
	require.NoError(t, err)
	require.NoError(t, f.MkdirAll("top/sub"))
	for _, name := range []string{"EFI", "loader", "top"} {
		_, e, err := f.walk(name)
		require.NoError(t, err)
		b := make([]byte, 64)
		d.ReadAt(b, f.geo.clusterOff(e.cluster))
		require.Equal(t, "..         ", string(b[32:43]))
		require.Zero(t, binary.LittleEndian.Uint16(b[32+20:]))
		require.Zero(t, binary.LittleEndian.Uint16(b[32+26:]))
	}
	requireClean(t, d)
}

func defectFull(t *testing.T, o BuildOptions) {
	d := faultio.NewDisk(o.Size + 1<<20)
	require.NoError(t, Build(d, esp(), o))
	guard := bytes.Repeat([]byte("guard"), 1<<18)[:1<<20]
	d.WriteAt(guard, o.Size)
	f, err := Open(d)
	require.NoError(t, err)
	for i := 0; err == nil; i++ {
		err = f.WriteFile(fmt.Sprint("fill ", i), bytes.NewReader(make([]byte, 256<<10)))
	}
	var space *SpaceError
	require.ErrorAs(t, err, &space)
	require.NoError(t, f.WriteFile("rest", bytes.NewReader(make([]byte, f.Free()))))
	require.Zero(t, f.Free())
	got := make([]byte, len(guard))
	d.ReadAt(got, o.Size)
	require.True(t, bytes.Equal(guard, got))
	volume := make([]byte, o.Size)
	d.ReadAt(volume, 0)
	d = faultio.NewDisk(o.Size)
	d.WriteAt(volume, 0)
	requireClean(t, d)
}

func defectRemove(t *testing.T, o BuildOptions) {
	d := build(t, nil, o)
	f, err := Open(d)
	require.NoError(t, err)
	free := f.Free()
	big := bytes.NewReader(make([]byte, free/3))
	for range 10 {
		require.NoError(t, f.WriteFile("big", big))
		require.NoError(t, f.ReplaceFile("big", big))
		require.NoError(t, f.Remove("big"))
	}
	require.Equal(t, free, f.Free())
	requireClean(t, d)
}

func defectRename(t *testing.T, o BuildOptions) {
	var files []osmith.ESPFile
	for i := range 60 {
		files = append(files, osmith.ESPFile{Path: fmt.Sprintf("EFI/Linux/entry number %02d.efi", i), Content: strings.NewReader(fmt.Sprint(i))})
	}
	d := build(t, files, o)
	before := snapshot(t, d)
	f, err := Open(d)
	require.NoError(t, err)
	d.Record()
	require.NoError(t, f.Rename("EFI/Linux/entry number 30.efi", "EFI/Linux/entry number XX.efi"))
	after := maps.Clone(before)
	after["EFI/Linux/entry number XX.efi"] = after["EFI/Linux/entry number 30.efi"]
	delete(after, "EFI/Linux/entry number 30.efi")
	for k := range len(d.Writes()) + 1 {
		got := snapshot(t, d.Prefix(k))
		require.True(t, equal(got, before) || equal(got, after), slices.Sorted(maps.Keys(got)))
	}
	require.True(t, equal(after, snapshot(t, d)))
	require.ErrorIs(t, f.Rename("EFI/Linux/entry number 31.efi", "EFI/31.efi"), ErrCrossDirectory)
	require.ErrorIs(t, f.Rename("EFI/Linux/entry number 31.efi", "EFI/Linux/entry number 32.efi"), fs.ErrExist)
	requireClean(t, d)
}

func defectNames(t *testing.T, o BuildOptions) {
	d := build(t, []osmith.ESPFile{{Path: "loader/loader.conf", Content: strings.NewReader("1")}, {Path: "loader/loader.con1", Content: strings.NewReader("2")}}, o)
	f, err := Open(d)
	require.NoError(t, err)
	for _, name := range []string{"loader/loader.con2", "loader/.hidden", "loader/" + strings.Repeat("x", 255), "loader/console"} {
		require.NoError(t, f.WriteFile(name, strings.NewReader(name)))
		b, err := f.ReadFile(name)
		require.NoError(t, err)
		require.Equal(t, name, string(b))
	}
	aliases := map[string]bool{}
	entries, err := f.ReadDir("loader")
	require.NoError(t, err)
	for _, e := range entries {
		info, err := e.Info()
		require.NoError(t, err)
		alias := info.Sys().(Attributes).ShortName
		require.False(t, aliases[alias], alias)
		require.NotEmpty(t, alias)
		aliases[alias] = true
	}
	for _, name := range []string{strings.Repeat("x", 256), "a:b", "x?y", "con", "CON.txt", "a ", "a."} {
		var bad *NameError
		require.ErrorAs(t, f.WriteFile("loader/"+name, strings.NewReader("")), &bad, name)
	}
	requireClean(t, d)
}

func defectEmpty(t *testing.T, o BuildOptions) {
	d := build(t, []osmith.ESPFile{{Path: "built", Content: strings.NewReader("")}}, o)
	f, err := Open(d)
	require.NoError(t, err)
	require.NoError(t, f.WriteFile("written", strings.NewReader("")))
	for _, name := range []string{"built", "written"} {
		_, e, err := f.walk(name)
		require.NoError(t, err)
		require.Zero(t, e.cluster)
		b, err := f.ReadFile(name)
		require.NoError(t, err)
		require.Empty(t, b)
	}
	requireClean(t, d)
}

func defectCopies(t *testing.T, o BuildOptions) {
	d := build(t, esp(), o)
	g, err := readGeometry(d)
	require.NoError(t, err)
	before := snapshot(t, d)
	d.WriteAt(make([]byte, 512), g.fatOff+g.fatSize) // the second FAT
	require.True(t, equal(before, snapshot(t, d)), "it is read all the same")
	f, err := Open(d)
	require.NoError(t, err)
	require.NoError(t, f.WriteFile("new", strings.NewReader("new")))
	requireClean(t, d)
}
