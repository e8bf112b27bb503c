package fat

import (
	"encoding/binary"
	"io"
	"io/fs"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
)

func put(d *faultio.Disk, off int64, b ...byte) { d.WriteAt(b, off) }

func TestHostileBootSector(t *testing.T) {
	le := binary.LittleEndian
	for field, lie := range map[string]func(b []byte){
		"signature":                         func(b []byte) { b[510] = 0 },
		"BPB_BytsPerSec":                    func(b []byte) { le.PutUint16(b[11:], 0) },
		"BPB_SecPerClus":                    func(b []byte) { b[13] = 3 },
		"BPB_RsvdSecCnt":                    func(b []byte) { le.PutUint16(b[14:], 0) },
		"BPB_NumFATs":                       func(b []byte) { b[16] = 255 },
		"BPB_RootEntCnt":                    func(b []byte) { le.PutUint16(b[17:], 16) },
		"BPB_TotSec32":                      func(b []byte) { le.PutUint32(b[32:], 0xffffffff) },
		"BPB_FATSz32 huge":                  func(b []byte) { le.PutUint32(b[36:], 0x7fffff) },
		"BPB_FATSz32 larger":                func(b []byte) { le.PutUint32(b[36:], 0xffffffff) },
		"BPB_FATSz32 zero":                  func(b []byte) { le.PutUint32(b[36:], 0) },
		"BPB_FATSz32 short":                 func(b []byte) { le.PutUint32(b[36:], 10) },
		"cluster count":                     func(b []byte) { le.PutUint16(b[22:], uint16(le.Uint32(b[36:]))) },
		"BPB_ExtFlags":                      func(b []byte) { b[40] = 0x8f },
		"BPB_FSVer":                         func(b []byte) { b[42] = 1 },
		"BPB_RootClus":                      func(b []byte) { le.PutUint32(b[44:], 1) },
		"BPB_RootClus beyond":               func(b []byte) { le.PutUint32(b[44:], 0x0fffffff) },
		"BPB_TotSec32 beyond the partition": func(b []byte) { le.PutUint32(b[32:], 34<<11+1) },
	} {
		d := build(t, esp(), BuildOptions{Size: 34 << 20})
		b := make([]byte, 512)
		d.ReadAt(b, 0)
		lie(b)
		d.WriteAt(b, 0)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f, err := Open(d)
		runtime.ReadMemStats(&after)
		var format *osmith.FormatError
		require.ErrorAs(t, err, &format, field)
		require.Nil(t, f)
		require.Contains(t, format.Field, strings.Fields(field)[0])
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20))
	}
	for _, size := range []int64{-1, 0, 511} {
		_, err := OpenReader(claims{faultio.NewDisk(1024), size})
		require.Error(t, err)
	}
}

// claims says that a disk has another size.
type claims struct {
	io.ReaderAt
	size int64
}

func (c claims) Size() int64 { return c.size }

// Chains that bite their tail, cross, end early or leave the volume.
func TestHostileChains(t *testing.T) {
	for _, o := range []BuildOptions{{Size: 34 << 20}, {Size: 24 << 20}, {Size: 6 << 20, Kind: 12}} {
		testHostileChains(t, o)
	}
}

func testHostileChains(t *testing.T, o BuildOptions) {
	open := func(change func(d *faultio.Disk, f *FS, file, dir *entry)) *FS {
		d := build(t, esp(), o)
		f, err := Open(d)
		require.NoError(t, err)
		_, file, err := f.walk("EFI/Linux/os_1.0+3-0.efi")
		require.NoError(t, err)
		_, dir, err := f.walk("EFI/Linux")
		require.NoError(t, err)
		change(d, f, file, dir)
		return f
	}
	set := func(d *faultio.Disk, f *FS, c, v uint32) {
		for k := range int64(f.geo.fats) {
			at := f.geo.fatOff + k*f.geo.fatSize + int64(c)*int64(f.geo.kind)/8
			b := make([]byte, 4)
			d.ReadAt(b, at)
			f.geo.putEntry(b, 0, c, v)
			d.WriteAt(b, at)
		}
	}
	var format *osmith.FormatError
	for name, change := range map[string]func(d *faultio.Disk, f *FS, file, dir *entry){
		"cycle":     func(d *faultio.Disk, f *FS, file, dir *entry) { set(d, f, file.cluster+100, file.cluster+50) },
		"self":      func(d *faultio.Disk, f *FS, file, dir *entry) { set(d, f, file.cluster, file.cluster) },
		"free":      func(d *faultio.Disk, f *FS, file, dir *entry) { set(d, f, file.cluster+5, 0) },
		"bad":       func(d *faultio.Disk, f *FS, file, dir *entry) { set(d, f, file.cluster+5, clusterBad) },
		"beyond":    func(d *faultio.Disk, f *FS, file, dir *entry) { set(d, f, file.cluster+5, 0x0ffffff0) },
		"too short": func(d *faultio.Disk, f *FS, file, dir *entry) { set(d, f, file.cluster+5, endOfChain) },
	} {
		f := open(change)
		_, err := f.ReadFile("EFI/Linux/os_1.0+3-0.efi")
		require.ErrorAs(t, err, &format, name)
		err = f.Remove("EFI/Linux/os_1.0+3-0.efi")
		if name != "too short" {
			require.ErrorAs(t, err, &format, name)
		}
	}
	f := open(func(d *faultio.Disk, f *FS, file, dir *entry) { set(d, f, dir.cluster, dir.cluster) })
	_, err := f.ReadDir("EFI/Linux")
	require.ErrorAs(t, err, &format)
	f = open(func(d *faultio.Disk, f *FS, file, dir *entry) {
		_, other, err := f.walk("EFI/BOOT/BOOTX64.EFI")
		require.NoError(t, err)
		set(d, f, other.cluster, file.cluster)
	})
	_, err = f.Repair()
	require.ErrorAs(t, err, &format, "two files on one cluster")

	// A directory that is its own parent, and one under two names.
	f = open(func(d *faultio.Disk, f *FS, file, dir *entry) {
		b := appendShort(nil, padShort("LOOP", ""), 0, attrDirectory, dir.cluster, 0, stamp{})
		d.WriteAt(b, f.geo.clusterOff(dir.cluster)+10*entrySize)
		for i := int64(2); i < 10; i++ {
			put(d, f.geo.clusterOff(dir.cluster)+i*entrySize, entryDeleted)
		}
	})
	require.ErrorAs(t, fs.WalkDir(f, ".", func(_ string, _ fs.DirEntry, err error) error { return err }), &format)
	f = open(func(d *faultio.Disk, f *FS, file, dir *entry) {
		for i := int64(2); i < 4; i++ {
			b := appendShort(nil, padShort(string(rune('A'+i)), ""), 0, attrDirectory, 9, 0, stamp{})
			d.WriteAt(b, f.geo.clusterOff(dir.cluster)+i*entrySize)
		}
	})
	list, err := f.ReadDir("EFI/Linux")
	require.NoError(t, err)
	require.Len(t, list, 3)
	_, err = f.ReadDir("EFI/Linux/D")
	require.ErrorAs(t, err, &format)
}

// Names on disk that cannot be names of a path are errors or fall back to the short name.
func TestHostileNames(t *testing.T) {
	d := build(t, nil, BuildOptions{Size: 34 << 20})
	f, err := Open(d)
	require.NoError(t, err)
	root := f.geo.clusterOff(2)
	s := padShort("SHORT", "TXT")
	write := func(b []byte) {
		d.WriteAt(make([]byte, 512), root)
		d.WriteAt(b, root)
	}
	for _, long := range []string{"../../etc/passwd", "a/b", "..", "\ufffd"} {
		write(appendShort(appendLong(nil, long, s.checksum()), s, 0, attrArchive, 0, 0, stamp{}))
		list, err := f.ReadDir(".")
		require.NoError(t, err)
		want := map[string]string{"\ufffd": "\ufffd"}[long]
		if want == "" {
			want = "SHORT.TXT"
		}
		require.Equal(t, want, list[0].Name())
		require.Equal(t, want == "SHORT.TXT", list[0].(*info).Sys().(Attributes).ByAlias)
	}
	write(appendShort(appendLong(nil, "wrong sum", 1), s, lowerBase|lowerExt, attrArchive, 0, 0, stamp{}))
	list, err := f.ReadDir(".")
	require.NoError(t, err)
	require.Equal(t, "short.txt", list[0].Name())
	for short, name := range map[string]string{"A/B        ": "A_B", "           ": "_", "A\x00B     T X": "A_B.T X", "/       /..": "_._.."} {
		write(appendShort(nil, shortName([]byte(short)), 0, attrArchive, 0, 0, stamp{}))
		list, err = f.ReadDir(".")
		require.NoError(t, err)
		require.Equal(t, name, list[0].Name())
		_, err = f.Stat(name)
		require.NoError(t, err)
	}
	write(appendShort(nil, shortName([]byte("\x05BC        ")), 0, attrArchive, 0, 0, stamp{}))
	list, err = f.ReadDir(".")
	require.NoError(t, err)
	require.Equal(t, "σBC", list[0].Name())
}

// FuzzOpen: no panic and no endless walk, whatever is changed in boot sector, FAT or directories,
// on every kind of FAT.
func FuzzOpen(f *testing.F) {
	var images []*Image
	var disks []*faultio.Disk
	for _, o := range []BuildOptions{{Size: 34 << 20}, {Size: 24 << 20}, {Size: 6 << 20, Kind: 12}} {
		im, err := Plan(esp(), o)
		if err != nil {
			f.Fatal(err)
		}
		o.TargetIsZero = true
		d := faultio.NewDisk(im.Size())
		if err := Build(d, esp(), o); err != nil {
			f.Fatal(err)
		}
		images, disks = append(images, im), append(disks, d)
	}
	f.Add(byte(0), []byte{0, 0, 1})
	f.Add(byte(0), []byte("\x00\x40\xff\x10\x41\x05some bytes that change things"))
	f.Add(byte(1), []byte("\x01\x00\x03\x07\x03\x00\x20\x0f"))
	f.Add(byte(2), []byte("\x01\x00\x03\x07\x03\x00\x20\x0f"))
	f.Fuzz(func(t *testing.T, kind byte, changes []byte) {
		im, d := images[kind%3], disks[kind%3].Clone()
		for ; len(changes) >= 4; changes = changes[4:] {
			off := int64(changes[1])<<8 | int64(changes[2])
			switch changes[0] % 4 {
			case 0:
				off %= 512
			case 1:
				off = im.geo.fatOff + off%1024
			case 2:
				off = im.geo.dataOff + off%(16*512)
			default:
				off = im.geo.rootOff + off%1024 // of a FAT32: the boot sector again
			}
			put(d, off, changes[3])
		}
		v, err := Open(d)
		if (v == nil) == (err == nil) {
			t.Fatal("volume and error")
		}
		if err != nil {
			return
		}
		n := 0
		fs.WalkDir(v, ".", func(name string, e fs.DirEntry, err error) error {
			if n++; n > 5000 {
				t.Fatal("a tree without end")
			}
			if err == nil && !e.IsDir() {
				v.ReadFile(name)
			}
			return nil
		})
		v.Repair()
		v.WriteFile("new file", strings.NewReader("x"))
		v.Rename("EFI/Linux/os_1.0+3-0.efi", "EFI/Linux/os_1.0+2-1.efi")
		v.Remove("loader/loader.conf")
		v.WriteFile("EFI/Linux/"+strings.Repeat("long name ", 20)+"x", strings.NewReader("x"))
	})
}

// FuzzName: a name that is accepted comes back from the disk.
func FuzzName(f *testing.F) {
	for _, s := range []string{"a", "loader.conf", "a.b.c", "x+3-0.efi", "Größe", "𝄞", " lead", "~1", "a~1.b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if checkName(name) != nil {
			return
		}
		short, ok := newAliases(0).take(name)
		if !ok {
			t.Fatal("no alias")
		}
		for _, c := range short {
			if c != ' ' && !shortChar(c) {
				t.Fatalf("alias %q", short)
			}
		}
		v := &FS{geo: plan32(34<<20, 512, 512)}
		for _, shortCase := range []bool{false, true} {
			d := &directory{cluster: 2, runs: []run{{2, 100}}, buf: append(entrySet(name, short, shortCase, attrArchive, 0, 0, stamp{}), make([]byte, entrySize)...)}
			if v.parse(d, &directory{}); len(d.entries) != 1 || d.entries[0].name != name {
				t.Fatalf("%q came back as %v", name, d.entries)
			}
		}
	})
}
