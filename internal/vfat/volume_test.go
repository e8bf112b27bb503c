package vfat_test

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/oracle"
	"github.com/osmith-dev/osmith/internal/vfat"
)

// MountedVolume is what package upgrade writes through.
var _ interface {
	Create(name string, content osmith.Source) error
	Exchange(a, b string) error
	Remove(name string) error
	Mkdir(name string) error
	Sync() error
} = (*vfat.Volume)(nil)

func TestAliases(t *testing.T) {
	d := build(t, kinds[1])
	v := mount(t, d)
	for _, c := range []struct {
		name, short string
		long        bool
	}{
		{"README.TXT", "README.TXT", false},
		{"NOEXT", "NOEXT", false},
		{"lower.txt", "LOWER.TXT", true},
		{"Mixed.Txt", "MIXED.TXT", true},
		{"os_1.0+3-0.efi", "OS_10_~1.EFI", true},
		{"os_1.0+2-1.efi", "OS_10_~2.EFI", true},
		{"OS_10_~3.EFI", "OS_10_~3.EFI", false},
		{"os_1.0+1-2.efi", "OS_10_~4.EFI", true},
		{"loader.conf", "LOADER~1.CON", true},
		{".hidden", "HIDDEN~1", true},
		{"a b;c,d=e[f].x", "AB_C_D~1.X", true},
		{"a.b.c", "AB~1.C", true},
		{"a+b", "A_B~1", true},
		{"dots...", "DOTS", true},
	} {
		require.NoError(t, v.Create(c.name, strings.NewReader(c.name)))
		require.ErrorIs(t, v.Create(strings.ToLower(c.short), strings.NewReader("")), fs.ErrExist, "the 8.3 name is one, too")
		got, err := oracle.ReadFAT(d, d.Size(), oracle.FATOptions{})
		require.NoError(t, err)
		f, ok := got.File(strings.TrimRight(c.name, "."))
		require.True(t, ok, c.name)
		require.Equal(t, c.short, f.Short, c.name)
		require.Equal(t, c.long, f.Long, c.name)
	}
}

// More names that begin alike than there are numbers of one digit.
func TestManyAliases(t *testing.T) {
	k := kinds[4]
	d := build(t, k)
	v := mount(t, d)
	want := files.clone()
	for i := range 40 {
		name := "EFI/Linux/os with a long name " + strings.Repeat("i", i) + ".efi"
		require.NoError(t, v.Create(name, strings.NewReader(name)))
		want[name] = []byte(name)
	}
	requireContents(t, d, k, want, "forty names")
}

// A name takes the first slots that suffice.
func TestFirstFit(t *testing.T) {
	d := build(t, kinds[1])
	v := mount(t, d)
	for _, name := range []string{"A", "a long name.x", "B", "C"} {
		require.NoError(t, v.Create("loader/entries/"+name, strings.NewReader("")))
	}
	require.NoError(t, v.Unlink("loader/entries/A"))
	require.NoError(t, v.Unlink("loader/entries/a long name.x"))
	require.NoError(t, v.Create("loader/entries/this is of three slots", strings.NewReader("")))
	require.NoError(t, v.Create("loader/entries/D", strings.NewReader("")))
	got, err := oracle.ReadFAT(d, d.Size(), oracle.FATOptions{})
	require.NoError(t, err)
	var names []string
	for _, f := range got.Files {
		if name, ok := strings.CutPrefix(f.Path, "loader/entries/"); ok {
			names = append(names, name)
		}
	}
	require.Equal(t, []string{"this is of three slots", "B", "C", "D"}, names)
}

// A volume that is full keeps what fitted, and takes new files again when others are gone.
func TestNoSpace(t *testing.T) {
	k := kinds[0]
	d := build(t, k)
	v := mount(t, d)
	err := v.Create("BIG", bytes.NewReader(make([]byte, k.size)))
	require.ErrorIs(t, err, vfat.ErrNoSpace)
	var path *fs.PathError
	require.ErrorAs(t, err, &path)
	require.Equal(t, "BIG", path.Path)
	got, err := vfat.ReadBack(v, "BIG")
	require.NoError(t, err)
	want := files.clone()
	want["BIG"] = got
	requireContents(t, d, k, want, "full")
	require.Positive(t, len(got))
	require.ErrorIs(t, v.Mkdir("DIR"), vfat.ErrNoSpace)
	requireContents(t, d, k, want, "no directory")
	require.ErrorIs(t, v.Create("SMALL", strings.NewReader("x")), vfat.ErrNoSpace)
	want["SMALL"] = nil
	requireContents(t, d, k, want, "no cluster for the file")
	require.NoError(t, v.Unlink("BIG"))
	require.NoError(t, v.Mkdir("DIR"))
	delete(want, "BIG")
	want["DIR/"] = nil
	requireContents(t, d, k, want, "room again")
	// The root directory does not grow.
	for i := 0; ; i++ {
		name := "full " + strings.Repeat("x", 100+i)
		if err := v.Create(name, strings.NewReader("")); err != nil {
			require.ErrorIs(t, err, vfat.ErrNoSpace)
			break
		}
		want[name] = nil
	}
	requireContents(t, d, k, want, "the root directory is full")
}

// source is content that cannot be read.
type source struct{ size int64 }

var errSource = errors.New("the source is gone")

func (s source) Size() int64                     { return s.size }
func (source) ReadAt([]byte, int64) (int, error) { return 0, errSource }

func TestErrors(t *testing.T) {
	k := kinds[1]
	d := build(t, k)
	v := mount(t, d)
	none := strings.NewReader("")
	for _, name := range []string{"", ".", "/EFI", "EFI/", "EFI//x", "..", "EFI/../x", "a:b", "a\\b", "a?", "\x01", "\xff", "...", strings.Repeat("x", 256)} {
		require.ErrorIs(t, v.Create(name, none), fs.ErrInvalid, name)
		require.ErrorIs(t, v.Unlink(name), fs.ErrInvalid, name)
	}
	require.ErrorIs(t, v.Create("none/x", none), fs.ErrNotExist)
	require.ErrorIs(t, v.Create("empty/x", none), vfat.ErrNotDirectory)
	require.ErrorIs(t, v.Create("EMPTY", none), fs.ErrExist)
	require.ErrorIs(t, v.Create("x", source{-1}), fs.ErrInvalid)
	require.ErrorIs(t, v.Create("x", source{1 << 32}), fs.ErrInvalid)
	require.ErrorIs(t, v.Mkdir("efi/boot"), fs.ErrExist)
	require.ErrorIs(t, v.Mkdir("none/x"), fs.ErrNotExist)
	require.ErrorIs(t, v.Rename("none", "x"), fs.ErrNotExist)
	require.ErrorIs(t, v.Rename("empty", "none/x"), fs.ErrNotExist)
	require.ErrorIs(t, v.Rename("EFI", "EFI/BOOT/x"), fs.ErrInvalid)
	requireContents(t, d, k, files, "nothing changed")
	for _, size := range []int64{1, 2*k.cluster + 1} {
		require.ErrorIs(t, v.Create("x", source{size}), errSource)
		want := files.clone()
		want["x"] = nil
		requireContents(t, d, k, want, "the file is empty")
		require.NoError(t, v.Unlink("x"))
	}
	d.Faulty(faultio.Failure{})
	require.Error(t, v.Unlink("empty"))
}

func TestMountErrors(t *testing.T) {
	var format *osmith.FormatError
	_, err := vfat.Mount(faultio.NewDisk(1 << 20))
	require.ErrorAs(t, err, &format)
	require.ErrorContains(t, err, "vfat: ")
	_, err = vfat.Mount(faultio.NewDisk(100))
	require.Error(t, err)
	d := build(t, kinds[0])
	d.sector = 4096
	_, err = vfat.Mount(d)
	require.ErrorAs(t, err, &format, "sectors smaller than those of the disk")
}

// Whatever is on the disk, operations end, and with an error rather than a panic.
func TestDamaged(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	built := []*faultio.Disk{build(t, kinds[0]).Disk, build(t, kinds[4]).Disk}
	for range 60 {
		for _, before := range built {
			d := before.Clone()
			for range 1 + rng.IntN(40) {
				b := make([]byte, 1)
				b[0] = byte(rng.Uint32())
				_, err := d.WriteAt(b, int64(rng.IntN(64<<10)))
				require.NoError(t, err)
			}
			v, err := vfat.Mount(d)
			if err != nil {
				continue
			}
			for range 4 {
				_ = v.Create("EFI/Linux/new.efi", bytes.NewReader(twoClusters))
				_ = v.Rename("EFI/BOOT/BOOTX64.EFI", "loader/loader.conf")
				_ = v.Unlink("EFI/Linux/os_1.0+3-0.efi")
				_ = v.Mkdir("loader/new")
				_ = v.Rename("loader", "EFI/loader")
			}
		}
	}
}
