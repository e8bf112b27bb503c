package fat

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/testtools"
)

// foreign makes a volume with mkfs.vfat and mtools.
func foreign(t *testing.T, size int64, mkfs ...string) *faultio.Disk {
	t.Helper()
	dir := t.TempDir()
	name := filepath.Join(dir, "foreign.img")
	require.NoError(t, os.WriteFile(name, nil, 0o644))
	require.NoError(t, os.Truncate(name, size))
	testtools.Run(t, "mkfs.vfat", append(mkfs, "-n", "FOREIGN", "-i", "1234abcd", name)...)
	m := func(prog string, args ...string) {
		cmd := exec.Command(testtools.Require(t, prog), append([]string{"-i", name}, args...)...)
		cmd.Env = append(os.Environ(), "MTOOLSRC=/dev/null", "LC_ALL=C.UTF-8")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
	}
	for i, b := range [][]byte{pattern(200_000, 4), nil, []byte("x")} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), b, 0o644))
	}
	m("mmd", "::EFI", "::EFI/Linux", "::Long directory name")
	m("mcopy", filepath.Join(dir, "0"), "::EFI/Linux/os_1.0+3-0.efi")
	m("mcopy", filepath.Join(dir, "1"), "::EFI/empty")
	for i := range 30 {
		m("mcopy", filepath.Join(dir, "2"), fmt.Sprintf("::Long directory name/file with a long name %d.txt", i))
	}
	m("mdel", "::Long directory name/file with a long name 7.txt")
	var d *faultio.Disk
	{
		f, err := os.Open(name)
		require.NoError(t, err)
		defer f.Close()
		d = faultio.NewDisk(size)
		b := make([]byte, 1<<20)
		for off := int64(0); off < size; off += int64(len(b)) {
			n, _ := f.ReadAt(b, off)
			d.WriteAt(b[:n], off)
		}
	}
	return d
}

// FAT12, FAT16 and FAT32 of other makers are read and updated.
func TestForeign(t *testing.T) {
	for _, c := range []struct {
		kind int
		size int64
		args []string
	}{
		{12, 4 << 20, []string{"-F", "12"}},
		{16, 32 << 20, []string{"-F", "16"}},
		{32, 64 << 20, []string{"-F", "32"}},
		{32, 300 << 20, []string{"-F", "32", "-S", "4096", "-s", "1"}},
		{32, 64 << 20, []string{"-F", "32", "-f", "1"}},
	} {
		t.Run(strings.Join(c.args, ""), func(t *testing.T) {
			d := foreign(t, c.size, c.args...)
			f, err := Open(d)
			require.NoError(t, err)
			require.Equal(t, c.kind, f.Kind())
			require.Equal(t, "FOREIGN", f.Label())
			require.Equal(t, uint32(0x1234abcd), f.VolumeID())
			require.NoError(t, fstest.TestFS(f, "EFI/Linux/os_1.0+3-0.efi", "EFI/empty", "Long directory name/file with a long name 29.txt"))
			b, err := f.ReadFile("efi/linux/OS_1.0+3-0.EFI")
			require.NoError(t, err)
			require.True(t, bytes.Equal(pattern(200_000, 4), b))
			_, err = f.Stat("Long directory name/file with a long name 7.txt")
			require.ErrorIs(t, err, fs.ErrNotExist)
			err = f.Rename("EFI/Linux/os_1.0+3-0.efi", "EFI/Linux/os_1.0+2-1.efi")
			require.NoError(t, err)
			require.NoError(t, f.WriteFile("Long directory name/new file.txt", strings.NewReader("new")))
			require.NoError(t, f.Remove("EFI/empty"))
			requireClean(t, d)
			require.Contains(t, mtool(t, d, "mdir", "-/", "-b", "::"), "::/EFI/Linux/os_1.0+2-1.efi")
		})
	}
}

// A FAT32 with too few clusters, as mkfs.vfat -F 32 makes it, is a FAT32 to Linux and nothing to
// mtools: it is read, not written.
func TestFewClusters(t *testing.T) {
	name := filepath.Join(t.TempDir(), "few.img")
	require.NoError(t, os.WriteFile(name, nil, 0o644))
	require.NoError(t, os.Truncate(name, 20<<20))
	testtools.Run(t, "mkfs.vfat", "-F", "32", name)
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	d := faultio.NewDisk(20 << 20)
	d.WriteAt(b, 0)
	f, err := Open(d)
	require.NoError(t, err)
	require.Equal(t, 32, f.Kind())
	require.NoError(t, fstest.TestFS(f))

	root, _, err := plant(esp(), BuildOptions{})
	require.NoError(t, err)
	im := lay(root, plan32(20<<20, 512, 512), BuildOptions{})
	b = make([]byte, im.Size())
	_, err = im.ReadAt(b, 0)
	require.NoError(t, err)
	d = faultio.NewDisk(im.Size())
	d.WriteAt(b, 0)
	f, err = Open(d)
	require.NoError(t, err)
	require.NoError(t, fstest.TestFS(f, "EFI/Linux/os_1.0+3-0.efi", "loader/empty"))
	require.ErrorIs(t, f.WriteFile("new", strings.NewReader("x")), ErrReadOnly)
	_, err = f.Repair()
	require.ErrorIs(t, err, ErrReadOnly)
}

// The root directory of a FAT16 has its size for good; a builder that is given more names makes it
// larger.
func TestFixedRoot(t *testing.T) {
	d := build(t, nil, BuildOptions{Size: 16 << 20})
	f, err := Open(d)
	require.NoError(t, err)
	n := 0
	for ; err == nil; n++ {
		err = f.WriteFile(fmt.Sprintf("FILE%d", n), strings.NewReader(""))
	}
	require.ErrorIs(t, err, ErrDirectoryFull)
	require.Equal(t, 512, n-1)
	requireClean(t, d)
	var files []osmith.ESPFile
	for i := range 3000 {
		files = append(files, osmith.ESPFile{Path: fmt.Sprintf("a long name of number %d", i), Content: strings.NewReader("")})
	}
	for _, o := range []BuildOptions{{Size: 16 << 20}, {Size: 16 << 20, Kind: 12}, {Kind: AnyKind, SectorSize: 4096}} {
		d := build(t, files, o)
		requireClean(t, d)
		f, err := OpenReader(d)
		require.NoError(t, err)
		entries, err := f.ReadDir(".")
		require.NoError(t, err)
		require.Len(t, entries, 3000)
	}
}

// A FAT12 entry in two sectors cannot be changed by one write: a directory that ends there does not
// grow.
func TestFAT12EntryInTwoSectors(t *testing.T) {
	var files []osmith.ESPFile
	for i := range 400 {
		files = append(files, osmith.ESPFile{Path: fmt.Sprintf("D%d/FILE", i), Content: strings.NewReader("")})
	}
	d := build(t, files, BuildOptions{Size: 2 << 20, Kind: 12, ClusterSize: 512})
	f, err := Open(d)
	require.NoError(t, err)
	refused := 0
	for i := range 400 {
		name := fmt.Sprintf("D%d/", i)
		_, e, err := f.walk(name[:len(name)-1])
		require.NoError(t, err)
		for n := 0; n < 14 && err == nil; n++ { // '.', '..', FILE and 13 more fill the cluster
			err = f.WriteFile(fmt.Sprintf("%sNEW%d", name, n), strings.NewReader(""))
		}
		if split := int64(e.cluster)*3/2%512 == 511; split {
			refused++
			require.ErrorIs(t, err, ErrDirectoryFull)
		} else {
			require.NoError(t, err)
		}
	}
	require.NotZero(t, refused)
	requireClean(t, d)
}

// Hundreds of operations at random, on our volume and a foreign one, against a map; fsck.fat looks
// in between.
func TestRandomUpdates(t *testing.T) {
	for name, d := range map[string]*faultio.Disk{
		"ours": build(t, esp(), BuildOptions{Size: 34 << 20}), "foreign": foreign(t, 34<<20, "-F", "32"),
		"ours, FAT16": build(t, esp(), BuildOptions{Size: 32 << 20}), "foreign, FAT16": foreign(t, 32<<20, "-F", "16"),
		"ours, FAT12": build(t, esp(), BuildOptions{Size: 30 << 20, Kind: 12}), "foreign, FAT12": foreign(t, 30<<20, "-F", "12"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(11, 12))
			f, err := Open(d)
			require.NoError(t, err)
			free := f.Free()
			require.NoError(t, f.MkdirAll("work/deep/dir"))
			model := map[string][]byte{}
			dirs := []string{"work", "work/deep", "work/deep/dir"}
			pick := func() string {
				names := []string{""}
				for n := range model {
					names = append(names, n)
				}
				return names[rng.IntN(len(names))]
			}
			fresh := func(dir string) string {
				return dir + "/" + strings.Repeat("n", 1+rng.IntN(40)) + fmt.Sprint(rng.IntN(1000)) + ".efi"
			}
			for step := range 400 {
				old := pick()
				switch op := rng.IntN(6); {
				case op < 2 || old == "":
					to := fresh(dirs[rng.IntN(len(dirs))])
					if model[to] != nil {
						require.ErrorIs(t, f.WriteFile(to, strings.NewReader("")), fs.ErrExist)
						continue
					}
					b := pattern(rng.IntN(100_000), byte(step))
					require.NoError(t, f.WriteFile(to, bytes.NewReader(b)))
					model[to] = b
				case op < 4:
					dir, _ := splitPath(old)
					to := fresh(dir)
					if model[to] != nil {
						continue
					}
					require.NoError(t, f.Rename(old, to))
					model[to] = model[old]
					delete(model, old)
				case op == 4:
					require.NoError(t, f.Remove(old))
					delete(model, old)
				default:
					b := pattern(rng.IntN(100_000), byte(step))
					require.NoError(t, f.ReplaceFile(old, bytes.NewReader(b)))
					model[old] = b
				}
				if step%100 == 99 {
					requireClean(t, d)
					f, err = Open(d) // and from the disk again
					require.NoError(t, err)
				}
			}
			for name, want := range model {
				got, err := f.ReadFile(name)
				require.NoError(t, err)
				require.True(t, bytes.Equal(want, got), name)
				require.NoError(t, f.Remove(name))
			}
			for _, dir := range []string{"work/deep/dir", "work/deep", "work"} {
				require.NoError(t, f.Remove(dir))
			}
			requireClean(t, d)
			require.Equal(t, free, f.Free(), "every cluster came back")
			done, err := f.Repair()
			require.NoError(t, err)
			require.Equal(t, Repaired{}, done)
		})
	}
}

// Filling the volume never leaves it: the bytes behind it stay.
func TestFull(t *testing.T) {
	o := BuildOptions{Size: 34<<20 + 77*512}
	d := faultio.NewDisk(o.Size + 1<<20)
	require.NoError(t, Build(d, esp(), o))
	guard := bytes.Repeat([]byte("guard"), 1<<18)[:1<<20]
	d.WriteAt(guard, o.Size)
	f, err := Open(d)
	require.NoError(t, err)
	var space *SpaceError
	for i := 0; ; i++ {
		free := f.Free()
		err := f.WriteFile(fmt.Sprintf("fill %d", i), bytes.NewReader(make([]byte, 3<<20)))
		if err != nil {
			require.ErrorAs(t, err, &space)
			require.Equal(t, SpaceError{Need: 3 << 20, Have: free, What: fmt.Sprintf("/fill %d", i)}, *space)
			break
		}
	}
	require.NoError(t, f.WriteFile("rest", bytes.NewReader(make([]byte, f.Free()))))
	require.Zero(t, f.Free())
	require.ErrorAs(t, f.WriteFile("one more", strings.NewReader("x")), &space)
	require.ErrorAs(t, f.MkdirAll("directory"), &space)
	got := make([]byte, len(guard))
	d.ReadAt(got, o.Size)
	require.True(t, bytes.Equal(guard, got))
	volume := faultio.NewDisk(o.Size)
	b := make([]byte, o.Size)
	d.ReadAt(b, 0)
	volume.WriteAt(b, 0)
	requireClean(t, volume)
}

func TestUpdateRefuses(t *testing.T) {
	d := build(t, esp(), BuildOptions{Size: 34 << 20})
	f, err := Open(d)
	require.NoError(t, err)
	x := strings.NewReader("x")
	var name *NameError
	for _, c := range []struct {
		err  error
		want error
	}{
		{f.WriteFile("EFI/BOOT/bootx64.efi", x), fs.ErrExist},
		{f.WriteFile("loader/LOADER~1.CON", x), fs.ErrExist},
		{f.WriteFile("missing/file", x), fs.ErrNotExist},
		{f.WriteFile("loader/loader.conf/file", x), ErrNotDirectory},
		{f.WriteFile("/abs", x), fs.ErrInvalid},
		{f.WriteFile(".", x), fs.ErrInvalid},
		{f.MkdirAll("loader/loader.conf"), ErrNotDirectory},
		{f.MkdirAll("loader/loader.conf/d"), ErrNotDirectory},
		{f.Rename("EFI/BOOT/BOOTX64.EFI", "EFI/x.efi"), ErrCrossDirectory},
		{f.Rename("loader/loader.conf", "loader/entries"), fs.ErrExist},
		{f.Rename("missing", "x"), fs.ErrNotExist},
		{f.Rename("loader", "missing/x"), fs.ErrNotExist},
		{f.Rename("loader", "."), fs.ErrInvalid},
		{f.Remove("EFI"), ErrNotEmpty},
		{f.Remove("missing"), fs.ErrNotExist},
		{f.Remove("."), fs.ErrInvalid},
		{f.ReplaceFile("EFI", x), ErrIsDirectory},
		{f.ReplaceFile("missing", x), fs.ErrNotExist},
	} {
		require.ErrorIs(t, c.err, c.want)
	}
	require.ErrorAs(t, f.WriteFile("a:b", x), &name)
	require.ErrorAs(t, f.MkdirAll("ok/con/x"), &name)
	require.ErrorAs(t, f.Rename("loader", "load?r"), &name)
	require.NoError(t, f.MkdirAll("."))
	require.NoError(t, f.MkdirAll("EFI/boot"))

	before := snapshot(t, d)
	broken := errors.New("source broke")
	require.ErrorIs(t, f.WriteFile("new", brokenSource{broken}), broken)
	require.True(t, equal(before, snapshot(t, d)))
	require.NoError(t, f.WriteFile("new", x), "a broken source does not break the volume")
	requireClean(t, d)

	ro, err := OpenReader(d)
	require.NoError(t, err)
	require.ErrorIs(t, ro.WriteFile("y", x), ErrReadOnly)
	_, err = ro.Repair()
	require.ErrorIs(t, err, ErrReadOnly)
}

type brokenSource struct{ err error }

func (b brokenSource) Size() int64                       { return 100_000 }
func (b brokenSource) ReadAt([]byte, int64) (int, error) { return 0, b.err }
