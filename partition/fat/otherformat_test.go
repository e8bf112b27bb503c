package fat

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/internal/oracle"
)

// What is not a FAT is named in the error of Open.
func TestOtherFormats(t *testing.T) {
	mbr := func(change func(b []byte)) func(d *faultio.Disk) {
		return func(d *faultio.Disk) {
			b := make([]byte, 512)
			b[510], b[511] = 0x55, 0xaa
			copy(b[446:], []byte{0x80, 0, 2, 0, 0x0c, 0xff, 0xff, 0xff, 0, 8, 0, 0, 0, 16, 0, 0})
			change(b)
			d.WriteAt(b, 0)
		}
	}
	at := func(off int64, text string) func(d *faultio.Disk) {
		return func(d *faultio.Disk) { d.WriteAt([]byte(text), off); d.WriteAt([]byte{0x55, 0xaa}, 510) }
	}
	// 512 bytes, 8 sectors, none reserved, no FAT
	ntfs := append([]byte("\xeb\x52\x90NTFS    \x00\x02\x08"), make([]byte, 7)...)
	for _, c := range []struct {
		format, text string
		do           func(d *faultio.Disk)
	}{
		{"exFAT", "found an exFAT volume, want FAT: firmware boots from FAT only", at(0, "\xeb\x76\x90EXFAT   ")},
		{"NTFS", "found an NTFS volume, want FAT: firmware boots from FAT only", at(0, string(append(ntfs, 0xf8)))},
		{"MBR", "found a disk with a partition table (MBR), want FAT: open one of its partitions", mbr(func([]byte) {})},
		{"GPT", "a partition table (GPT)", func(d *faultio.Disk) {
			mbr(func(b []byte) { copy(b[446:], []byte{0, 0, 2, 0, 0xee, 255, 255, 255, 1, 0, 0, 0}) })(d)
			at(512, "EFI PART")(d)
		}},
		{"GPT", "4096-byte sectors", at(4096, "EFI PART")},
		{"qcow2", "found a qcow2 image, want FAT: convert it to a raw image first", at(0, "QFI\xfb\x00\x00\x00\x03")},
		{"VHDX", "found a VHDX image, want FAT: ", at(0, "vhdxfile")},
		{"VHD", "found a VHD image, want FAT: ", at(0, "conectix")},
		{"VHD", "found a VHD image of fixed size, want FAT: ", func(d *faultio.Disk) { mbr(func([]byte) {})(d); at(d.Size()-512, "conectix")(d) }},
		{"VMDK", "found a VMDK image, want FAT: ", at(0, "KDMV")},
		{"xz", "found a file compressed with xz, want FAT: decompress it first", at(0, "\xfd7zXZ\x00")},
		{"gzip", "compressed with gzip", at(0, "\x1f\x8b\x08\x00")},
		{"zstd", "compressed with zstd", at(0, "\x28\xb5\x2f\xfd")},
		{"", "BPB_BytsPerSec", mbr(func(b []byte) { clear(b[446:510]) })},
		{"", "BPB_BytsPerSec", mbr(func(b []byte) { b[446] = 7 })},
		{"", "BPB_BytsPerSec", mbr(func(b []byte) { binary.LittleEndian.PutUint32(b[454:], 1<<30) })},
		{"", "signature", func(*faultio.Disk) {}},
	} {
		d := faultio.NewDisk(4 << 20)
		c.do(d)
		for _, open := range []func() (*FS, error){func() (*FS, error) { return Open(d) }, func() (*FS, error) { return OpenReader(d) }} {
			f, err := open()
			require.Nil(t, f)
			var format *osmith.FormatError
			require.ErrorAs(t, err, &format)
			require.Contains(t, err.Error(), c.text)
			require.NotContains(t, err.Error(), "\n")
			other, ok := errors.AsType[*NotFATError](err)
			require.Equal(t, c.format != "", ok, err)
			if ok {
				require.Equal(t, c.format, other.Format)
			}
		}
	}
	_, err := OpenReader(bytes.NewReader([]byte("\xfd7zXZ\x00 and a few bytes more")))
	require.ErrorContains(t, err, "xz")
	// A FAT that happens to have such bytes is a FAT.
	d := build(t, smallESP(), BuildOptions{Size: 24 << 20})
	at(3, "NTFS    ")(d)
	_, err = Open(d)
	require.NoError(t, err)
}

// The label that counts is the one of the root directory.
func TestLabel(t *testing.T) {
	for _, o := range threeKinds {
		o.Label = "BUILT"
		base := build(t, smallESP(), o)
		label := func(o OpenOptions, do func(e *editor, root int64)) string {
			d := base.Clone()
			e := edit(t, d)
			root := e.g.rootOff
			if e.g.kind == 32 {
				root = e.g.clusterOff(e.g.rootCluster)
			}
			do(e, root)
			f, err := OpenReaderWith(d, o)
			require.NoError(t, err)
			got := f.Label()
			if o.CodePage == 0 {
				require.Equal(t, strings.ReplaceAll(look(t, d).Label, "NO NAME", ""), map[bool]string{true: "", false: got}[got == "BOOT"])
			}
			return got
		}
		boot := map[int]int64{12: 43, 16: 43, 32: 71}
		inBoot := func(e *editor, text string) { e.WriteAt([]byte(text), boot[e.g.kind]) }
		require.Equal(t, "BUILT", label(OpenOptions{}, func(*editor, int64) {}))
		require.Equal(t, "ROOT", label(OpenOptions{}, func(e *editor, root int64) {
			e.WriteAt([]byte("ROOT       "), root)
			inBoot(e, "BOOT       ")
		}))
		require.Equal(t, "BOOT", label(OpenOptions{}, func(e *editor, root int64) {
			e.WriteAt([]byte{entryDeleted}, root)
			inBoot(e, "BOOT       ")
		}))
		require.Equal(t, "", label(OpenOptions{}, func(e *editor, root int64) {
			e.WriteAt([]byte{entryDeleted}, root)
			inBoot(e, "NO NAME    ")
		}))
		require.Equal(t, "", label(OpenOptions{}, func(e *editor, root int64) { e.WriteAt([]byte("NO NAME    "), root) }))
		require.Equal(t, "σΓÄ", label(OpenOptions{}, func(e *editor, root int64) { e.WriteAt([]byte("\x05\xe2\x8e        "), root) }))
		require.Equal(t, "хтО", label(OpenOptions{CodePage: 866}, func(e *editor, root int64) { e.WriteAt([]byte("\x05\xe2\x8e        "), root) }))
	}
}

// 8.3 names beyond ASCII are read in the code page that the caller names.
func TestCodePage(t *testing.T) {
	d := build(t, nil, BuildOptions{Size: 24 << 20})
	e := edit(t, d)
	e.add(".", named(nil, "GR\x99\xe1E   TXT", attrArchive, 0, 0))
	for page, name := range map[int]string{0: "GRÖßE.TXT", 437: "GRÖßE.TXT", 850: "GRÖßE.TXT", 852: "GRÖßE.TXT", 858: "GRÖßE.TXT", 866: "GRЩсE.TXT"} {
		f, err := OpenWith(d.Clone(), OpenOptions{CodePage: page})
		require.NoError(t, err)
		list, err := f.ReadDir(".")
		require.NoError(t, err)
		require.Equal(t, name, list[0].Name())
		require.NoError(t, f.Remove(strings.Replace(name, "GR", "gr", 1)))
	}
	for page, table := range codePages {
		require.Len(t, table, 128, page)
	}
	_, err := OpenWith(d, OpenOptions{CodePage: 932})
	require.ErrorContains(t, err, "fat: code page 932: want one of [437 850 852 858 866]")
}

// A root directory whose size is no multiple of a sector ends where it says: what comes after it in
// its last sector is not shown and never written.
func TestRootEntCnt(t *testing.T) {
	for _, o := range []BuildOptions{{Size: 24 << 20}, {Size: 6 << 20, Kind: 12}, {Size: 30 << 20, Kind: 16, SectorSize: 4096}} {
		d := build(t, nil, o)
		per := 512 / entrySize
		if o.SectorSize != 0 {
			per = o.SectorSize / entrySize
		}
		entries := 512 - per/2 - 1
		b := binary.LittleEndian.AppendUint16(nil, uint16(entries))
		d.WriteAt(b, 17)
		e := edit(t, d)
		require.Equal(t, entries, e.g.rootEntries)
		slack := bytes.Repeat(named(nil, "BEHIND  TXT", attrArchive, 0, 0), 512-entries)
		at := e.g.rootOff + int64(entries)*entrySize
		e.WriteAt(slack, at)
		f, err := Open(d)
		require.NoError(t, err)
		n := 0
		for ; err == nil; n++ {
			require.Less(t, n, 600)
			err = f.WriteFile(fmt.Sprintf("FILE%d", n), strings.NewReader(""))
		}
		require.ErrorIs(t, err, ErrDirectoryFull)
		require.Equal(t, entries, n-1)
		for i := entries - per; i < entries; i++ { // in the last sector, and the one before
			require.NoError(t, f.Rename(fmt.Sprintf("FILE%d", i), fmt.Sprintf("NEW%d", i)))
			if i%3 == 0 {
				require.NoError(t, f.Remove(fmt.Sprintf("NEW%d", i)))
			}
		}
		require.NoError(t, f.Rename(fmt.Sprintf("NEW%d", entries-1), "a longer name.txt"))
		v, err := oracle.ReadFAT(d, d.Size(), oracle.FATOptions{SectorSize: o.SectorSize})
		require.NoError(t, err)
		list, err := f.ReadDir(".")
		require.NoError(t, err)
		require.Equal(t, len(list), len(v.Files))
		require.Empty(t, v.Problems)
		got := make([]byte, len(slack))
		d.ReadAt(got, at)
		require.True(t, bytes.Equal(slack, got))
		_, err = f.Repair()
		require.NoError(t, err)
		_, err = f.Stat("BEHIND.TXT")
		require.ErrorIs(t, err, fs.ErrNotExist)
	}
}

// The error of a FAT32 with too few clusters says why it cannot be written.
func TestFewClustersSaysWhy(t *testing.T) {
	root, _, err := plant(smallESP(), BuildOptions{})
	require.NoError(t, err)
	im := lay(root, plan32(20<<20, 512, 512), BuildOptions{})
	b := make([]byte, im.Size())
	_, err = im.ReadAt(b, 0)
	require.NoError(t, err)
	d := faultio.NewDisk(im.Size())
	d.WriteAt(b, 0)
	f, err := Open(d)
	require.NoError(t, err)
	require.Equal(t, 32, f.Kind())
	want := fmt.Sprintf("laid out as FAT32 with only %d clusters: below 65525, Linux reads the volume as FAT32", f.geo.clusters)
	for _, err := range []error{f.WriteFile("new", strings.NewReader("x")), f.Remove("loader/empty"), f.Rename("loader/empty", "loader/full"), f.MkdirAll("d")} {
		require.ErrorIs(t, err, ErrReadOnly)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "Linux reads the volume as FAT32 but UEFI firmware as FAT16, and each damages it for the other: create it as FAT16, or larger")
	}
	_, err = oracle.ReadFAT(d, d.Size(), oracle.FATOptions{Reader: oracle.FATReaderEDK2})
	require.Error(t, err, "firmware takes it for something else")
	require.NotEmpty(t, look(t, d).Contents(), "Linux reads it")
	reader, err := OpenReader(d)
	require.NoError(t, err)
	require.ErrorContains(t, reader.Remove("loader/empty"), "opened for reading")
}
