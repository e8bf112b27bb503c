package oracle

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"strings"
	"sync"
	"testing"
	"unicode/utf16"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/faultio"
)

// The volumes on which the FAT readers are compared with what drivers and fsck.fat said of them:
// five that other tools made (testdata/README.md), and those with one thing changed each.

// fatImage pokes into a volume. It has its own idea of the format, so that the tests do not read
// with the code under test.
type fatImage struct {
	d                                  *faultio.Disk
	sector, cluster, fatStart, fatSize int64
	fats                               int
	root, data                         int64
	bits                               int
	end                                uint32
}

func (f *fatImage) bytes(at, n int64) []byte {
	b := make([]byte, n)
	if _, err := f.d.ReadAt(b, at); err != nil {
		panic(err)
	}
	return b
}

func (f *fatImage) u16(at int64) uint16 { return binary.LittleEndian.Uint16(f.bytes(at, 2)) }
func (f *fatImage) u32(at int64) uint32 { return binary.LittleEndian.Uint32(f.bytes(at, 4)) }

func (f *fatImage) put16(at int64, v uint16) {
	put(f.d, at, binary.LittleEndian.AppendUint16(nil, v))
}

func (f *fatImage) put32(at int64, v uint32) {
	put(f.d, at, binary.LittleEndian.AppendUint32(nil, v))
}

func openImage(d *faultio.Disk) *fatImage {
	f := &fatImage{d: d}
	f.sector = int64(f.u16(11))
	f.cluster = f.sector * int64(f.bytes(13, 1)[0])
	f.fatStart = f.sector * int64(f.u16(14))
	f.fats = int(f.bytes(16, 1)[0])
	f.fatSize = f.sector * int64(f.u16(22))
	total := int64(f.u16(19))
	if total == 0 {
		total = int64(f.u32(32))
	}
	f.bits, f.end = 16, 0xffff
	if f.fatSize == 0 {
		f.bits, f.end = 32, 0x0fffffff
		f.fatSize = f.sector * int64(f.u32(36))
	}
	f.root = f.fatStart + int64(f.fats)*f.fatSize
	f.data = f.root + int64(f.u16(17))*32
	if f.bits == 16 && (total*f.sector-f.data)/f.cluster < 4085 {
		f.bits, f.end = 12, 0xfff
	}
	if f.bits == 32 {
		f.root = f.at(f.u32(44))
	}
	return f
}

// at is where a cluster is.
func (f *fatImage) at(cluster uint32) int64 { return f.data + int64(cluster-2)*f.cluster }

func (f *fatImage) entryAt(copy int, n uint32) int64 {
	return f.fatStart + int64(copy)*f.fatSize + int64(n)*int64(f.bits)/8
}

// set sets an entry in both FATs.
func (f *fatImage) set(n, v uint32) {
	for i := range f.fats {
		f.setIn(i, n, v)
	}
}

func (f *fatImage) setIn(copy int, n, v uint32) {
	at := f.entryAt(copy, n)
	switch f.bits {
	case 12:
		old := f.u16(at)
		if n%2 == 1 {
			f.put16(at, old&0xf|uint16(v)<<4)
		} else {
			f.put16(at, old&0xf000|uint16(v)&0xfff)
		}
	case 16:
		f.put16(at, uint16(v))
	default:
		f.put32(at, v)
	}
}

// find returns where the entry with an 8.3 name is in the directory at an offset.
func (f *fatImage) find(dir int64, name string) int64 {
	for at := dir; f.bytes(at, 1)[0] != 0; at += 32 {
		if string(f.bytes(at, 11)) == name && f.bytes(at+11, 1)[0] != 0x0f {
			return at
		}
	}
	panic("no entry " + name)
}

func (f *fatImage) start(entry int64) uint32 {
	n := uint32(f.u16(entry + 26))
	if f.bits == 32 {
		n |= uint32(f.u16(entry+20)) << 16
	}
	return n
}

// free returns where the entries of a directory end.
func (f *fatImage) free(dir int64) int64 {
	for f.bytes(dir, 1)[0] != 0 {
		dir += 32
	}
	return dir
}

func shortEntry(name string, attributes byte, start, size uint32) []byte {
	b := append([]byte(name), attributes)
	b = append(b, make([]byte, 8)...)
	b = binary.LittleEndian.AppendUint16(b, uint16(start>>16))
	b = append(b, 0, 0, 0x21, 0x5a)
	b = binary.LittleEndian.AppendUint16(b, uint16(start))
	return binary.LittleEndian.AppendUint32(b, size)
}

// longEntries are the entries of a long name for an 8.3 name.
func longEntries(units []uint16, name string) []byte {
	units = append([]uint16(nil), units...)
	n := (len(units) + 12) / 13
	if len(units)%13 != 0 {
		units = append(units, 0)
	}
	for len(units) < n*13 {
		units = append(units, 0xffff)
	}
	var sum byte
	for _, c := range []byte(name) {
		sum = (sum&1<<7 | sum>>1) + c
	}
	var all []byte
	for i := n; i > 0; i-- {
		e := make([]byte, 32)
		e[0], e[11], e[13] = byte(i), 0x0f, sum
		if i == n {
			e[0] |= 0x40
		}
		for j, at := range []int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30} {
			binary.LittleEndian.PutUint16(e[at:], units[(i-1)*13+j])
		}
		all = append(all, e...)
	}
	return all
}

func units(s string) []uint16 { return utf16.Encode([]rune(s)) }

// add adds entries to the root directory.
func (f *fatImage) add(entries ...[]byte) { put(f.d, f.free(f.root), bytes.Join(entries, nil)) }

// file adds a file of one cluster to the root directory.
func (f *fatImage) file(long []uint16, short string, cluster uint32, content string) {
	var l []byte
	if long != nil {
		l = longEntries(long, short)
	}
	f.add(l, shortEntry(short, 0x20, cluster, uint32(len(content))))
	f.set(cluster, f.end)
	put(f.d, f.at(cluster), []byte(content))
}

type fatVolume struct {
	name string
	make func() *faultio.Disk
}

var fatVolumes = sync.OnceValue(func() []fatVolume {
	var all []fatVolume
	add := func(name, base string, change func(f *fatImage)) {
		all = append(all, fatVolume{name, func() *faultio.Disk {
			d := storedDisk("fatvolumes.json.gz", base)
			if change != nil {
				change(openImage(d))
			}
			return d
		}})
	}
	on16 := func(name string, change func(f *fatImage)) { add(name, "fat16", change) }
	on32 := func(name string, change func(f *fatImage)) { add(name, "fat32", change) }
	const readme = "README  TXT"
	add("f00-fat16", "fat16", nil)
	add("f01-fat32", "fat32", nil)
	add("f02-fat12", "fat12", nil)
	add("f03-fat16-4096", "fat16-4096", nil)
	add("f04-mtools-dots", "mtools-dots", nil)
	add("f05-rename-cut", "rename-cut", nil)
	// Chains and sizes.
	on16("f10-lost", func(f *fatImage) { f.set(900, 901); f.set(901, f.end) })
	on16("f11-size-too-large", func(f *fatImage) { f.put32(f.find(f.root, readme)+28, 100000) })
	on16("f12-size-smaller", func(f *fatImage) { f.put32(f.find(f.root, readme)+28, 10) })
	on16("f13-chain-too-long", func(f *fatImage) { f.set(f.start(f.find(f.root, readme)), 900); f.set(900, f.end) })
	on16("f14-chain-free", func(f *fatImage) { f.set(f.start(f.find(f.root, readme)), 0) })
	on16("f15-loop", func(f *fatImage) { c := f.start(f.find(f.root, readme)); f.set(c, c) })
	on16("f16-shared", func(f *fatImage) {
		f.add(shortEntry("SHARED  TXT", 0x20, f.start(f.find(f.root, readme)), 2000))
	})
	on16("f17-entry-out-of-range", func(f *fatImage) { f.set(f.start(f.find(f.root, readme)), 0xf000) })
	on16("f18-start-beyond", func(f *fatImage) { f.add(shortEntry("BEYOND  TXT", 0x20, 0xf000, 2000)) })
	on16("f19-start-one", func(f *fatImage) { f.add(shortEntry("ONE     TXT", 0x20, 1, 2000)) })
	on16("f20-no-bytes-and-a-chain", func(f *fatImage) { f.set(900, f.end); f.add(shortEntry("ZSIZE   TXT", 0x20, 900, 0)) })
	on16("f21-bytes-and-no-chain", func(f *fatImage) { f.add(shortEntry("NOCHAIN TXT", 0x20, 0, 700)) })
	on16("f22-unused-bad-cluster", func(f *fatImage) { f.set(900, 0xfff7) })
	on16("f23-bad-cluster-in-chain", func(f *fatImage) { f.set(f.start(f.find(f.root, readme)), 0xfff7) })
	on16("f24-loader-chain-cut", func(f *fatImage) {
		efi := f.start(f.find(f.root, "EFI        "))
		boot := f.start(f.find(f.at(efi), "BOOT       "))
		f.set(f.start(f.find(f.at(boot), "ALONGN~1EFI"))+2, 0)
	})
	// The FATs.
	on16("f30-second-differs", func(f *fatImage) { f.setIn(1, 900, f.end) })
	on16("f31-first-entry-zero", func(f *fatImage) { f.put16(f.fatStart, 0) })
	on16("f32-first-entry-other-media", func(f *fatImage) { f.set(0, 0xfff0) })
	on16("f33-both-first-entries-zero", func(f *fatImage) { f.set(0, 0) })
	on16("f34-first-sector-zero", func(f *fatImage) { put(f.d, f.fatStart, make([]byte, 512)) })
	on16("f35-first-sector-ff", func(f *fatImage) { put(f.d, f.fatStart, bytes.Repeat([]byte{0xff}, 512)) })
	on16("f36-dirty", func(f *fatImage) { f.set(1, 0x7fff) })
	on32("f37-dirty", func(f *fatImage) { f.set(1, 0x07ffffff) })
	on32("f38-root-free", func(f *fatImage) { f.set(2, 0) })
	on32("f39-first-sector-zero", func(f *fatImage) { put(f.d, f.fatStart, make([]byte, 512)) })
	on16("f40-slack-differs", func(f *fatImage) { put(f.d, f.fatStart+f.fatSize*2-1, []byte{1}) })
	// Directories.
	dir := func(f *fatImage, name string) int64 { return f.at(f.start(f.find(f.root, name))) }
	on16("f50-dot-zero", func(f *fatImage) { f.put16(dir(f, "EFI        ")+26, 0) })
	on16("f51-dotdot-wrong", func(f *fatImage) { f.put16(dir(f, "EFI        ")+32+26, 77) })
	on16("f52-no-dots", func(f *fatImage) { d := dir(f, "LOADER     "); put(f.d, d, []byte{0xe5}); put(f.d, d+32, []byte{0xe5}) })
	on16("f53-no-dots-two-directories", func(f *fatImage) {
		d := dir(f, "LOADER     ")
		put(f.d, d, []byte("ONE        "))
		put(f.d, d+32, []byte("TWO        "))
		for i, at := range []int64{d, d + 32} {
			f.set(900+uint32(i), f.end)
			f.put16(at+26, 900+uint16(i))
			put(f.d, f.at(900+uint32(i)), shortEntry(dotNames[0], 0x10, 900+uint32(i), 0))
			put(f.d, f.at(900+uint32(i))+32, shortEntry(dotNames[1], 0x10, uint32((d-f.data)/f.cluster)+2, 0))
		}
	})
	on16("f54-size", func(f *fatImage) { f.put32(f.find(f.root, "EFI        ")+28, 4096) })
	on16("f55-no-cluster", func(f *fatImage) { f.add(shortEntry("DIRZERO    ", 0x10, 0, 0)) })
	on16("f56-in-itself", func(f *fatImage) {
		d := dir(f, "EFI        ")
		put(f.d, f.free(d), shortEntry("LOOP       ", 0x10, f.start(f.find(f.root, "EFI        ")), 0))
	})
	on16("f57-twice", func(f *fatImage) { f.add(shortEntry("EFI2       ", 0x10, f.start(f.find(f.root, "EFI        ")), 0)) })
	on16("f58-behind-end", func(f *fatImage) {
		f.set(900, f.end)
		put(f.d, f.free(f.root)+64, shortEntry("BEHIND  TXT", 0x20, 900, 5))
		put(f.d, f.at(900), []byte("hello"))
	})
	on16("f59-chain-free", func(f *fatImage) { f.set(f.start(f.find(f.root, "EFI        ")), 0) })
	on16("f60-chain-out-of-range", func(f *fatImage) { f.set(f.start(f.find(f.root, "EFI        ")), 0xf000) })
	on16("f61-chain-bad", func(f *fatImage) { f.set(f.start(f.find(f.root, "EFI        ")), 0xfff7) })
	on16("f62-start-beyond", func(f *fatImage) { f.add(shortEntry("BEYOND     ", 0x10, 0xf000, 0)) })
	on16("f63-label-in-directory", func(f *fatImage) {
		d := dir(f, "EFI        ")
		put(f.d, f.free(d), shortEntry("LABEL      ", 0x08, 0, 0))
	})
	on16("f64-loop", func(f *fatImage) { c := f.start(f.find(f.root, "LOADER     ")); f.set(c, c) })
	// Names.
	long := func(name string) []uint16 { return units(name) }
	on16("f70-orphan-long-name", func(f *fatImage) { f.add(longEntries(long("an orphan name.txt"), "ANORPH~1TXT")) })
	on16("f71-wrong-sum", func(f *fatImage) {
		f.add(longEntries(long("wrong sum.txt"), "OTHERN~1TXT"), shortEntry("WRONGS~1TXT", 0x20, 0, 0))
	})
	on16("f72-piece-missing", func(f *fatImage) {
		l := longEntries(long("a name of three parts, it is.txt"), "ANAMEO~1TXT")
		f.add(l[:32], l[64:], shortEntry("ANAMEO~1TXT", 0x20, 0, 0))
	})
	on16("f73-first-piece-missing", func(f *fatImage) {
		l := longEntries(long("a name of three parts, it is.txt"), "ANAMEO~1TXT")
		f.add(l[32:], shortEntry("ANAMEO~1TXT", 0x20, 0, 0))
	})
	on16("f74-last-piece-missing", func(f *fatImage) {
		l := longEntries(long("a name of three parts, it is.txt"), "ANAMEO~1TXT")
		f.add(l[:64], shortEntry("ANAMEO~1TXT", 0x20, 0, 0))
	})
	on16("f75-name-in-name", func(f *fatImage) {
		f.add(longEntries(long("unfinished, because"), "UNFINI~1TXT")[:32], longEntries(long("another name.txt"), "ANOTHE~1TXT"), shortEntry("ANOTHE~1TXT", 0x20, 0, 0))
	})
	on16("f76-erased-entry-in-name", func(f *fatImage) {
		l := longEntries(long("a name of three parts, it is.txt"), "ANAMEO~1TXT")
		l[32] = 0xe5
		f.add(l, shortEntry("ANAMEO~1TXT", 0x20, 0, 0))
	})
	on16("f77-type", func(f *fatImage) {
		l := longEntries(long("type one.txt"), "TYPEON~1TXT")
		l[12] = 1
		f.add(l, shortEntry("TYPEON~1TXT", 0x20, 0, 0))
	})
	on16("f78-cluster-in-name", func(f *fatImage) {
		l := longEntries(long("type one.txt"), "TYPEON~1TXT")
		l[26] = 5
		f.add(l, shortEntry("TYPEON~1TXT", 0x20, 0, 0))
	})
	on16("f79-odd-short-name", func(f *fatImage) { f.add(shortEntry("a+b     t x", 0x20, 0, 0)) })
	on16("f80-bad-short-name", func(f *fatImage) { f.add(shortEntry("A?B     T*X", 0x20, 0, 0)) })
	on16("f81-control-in-short-name", func(f *fatImage) { f.add(shortEntry("A\x01B     TXT", 0x20, 0, 0)) })
	on16("f82-duplicate", func(f *fatImage) { f.add(shortEntry(readme, 0x20, 0, 0)) })
	on16("f83-second-label", func(f *fatImage) { f.add(shortEntry("LABEL2     ", 0x08, 0, 0)) })
	on16("f84-other-label", func(f *fatImage) { put(f.d, f.root, []byte("OTHER      ")) })
	on16("f85-no-label", func(f *fatImage) { put(f.d, f.root, []byte{0xe5}) })
	on16("f86-attributes", func(f *fatImage) { f.add(shortEntry("ATTR    TXT", 0xe0, 0, 0)) })
	on16("f87-code-page", func(f *fatImage) { f.add(shortEntry("\x05\x80\x81\xa5    TXT", 0x20, 0, 0)) })
	on16("f88-case", func(f *fatImage) {
		f.file(long("Config Upper.efi"), "CONFIG~1EFI", 900, "AAA\n")
		f.file(long("config upper.efi"), "CONFIG~2EFI", 901, "bbb\n")
		f.file(long("\u017fys.efi"), "YS~1    EFI", 902, "long-s\n")
		f.file(nil, "SYS     EFI", 903, "plain\n")
	})
	on16("f89-odd-long-names", func(f *fatImage) {
		f.file(long("Report \ufffd 2024.txt"), "REPORT~1TXT", 900, "hello")
		f.file([]uint16{'R', 0xd83d, '.', 't', 'x', 't'}, "R~1     TXT", 901, "hello")
		f.file(long("emoji \U0001F600 ok.txt"), "EMOJI~1 TXT", 902, "hello")
		f.file(long(strings.Repeat("x", 255)), "XXXXXX~1   ", 903, "hello")
		f.file(long("a\u202eb.txt"), "AB~1    TXT", 904, "hello")
		f.file(long("exactly 13 un"), "EXACTL~1   ", 905, "hello")
	})
	// FAT32.
	on32("f90-free-count", func(f *fatImage) { f.put32(512+488, 5) })
	on32("f91-free-count-unknown", func(f *fatImage) { f.put32(512+488, 0xffffffff) })
	on32("f92-no-fsinfo", func(f *fatImage) { put(f.d, 512, make([]byte, 512)) })
	on32("f93-backup-boot", func(f *fatImage) { put(f.d, 6*512+100, []byte{0x77}) })
	on32("f94-upper-bits", func(f *fatImage) { c := f.start(f.find(f.root, readme)); f.set(c, 0xffffffff) })
	on32("f95-root-loop", func(f *fatImage) { f.set(2, 2) })
	return all
})

func volumeNamed(name string) *faultio.Disk {
	for _, v := range fatVolumes() {
		if v.name == name {
			return v.make()
		}
	}
	panic("no volume " + name)
}

func TestDumpFATVolumes(t *testing.T) {
	for _, v := range fatVolumes() {
		dump(t, v.name, v.make)
	}
}

// fatAnswer is what drivers and fsck.fat said about one volume.
type fatAnswer struct {
	// Linux is what Linux 6.12 and 7.2 found: the SHA-256 of each file, "" for directories, and
	// what begins with "!" could not be read. A volume that was not mounted has the one name "!".
	Linux map[string]string `json:"linux"`
	// EDK2 is what the shell of edk2-stable202211 listed: sizes, and -1 for directories.
	EDK2 map[string]int64 `json:"edk2"`
	// Fsck is what fsck.fat 4.2 -n said, without its first and last line.
	Fsck string `json:"fsck"`
}

func fatAnswers(t *testing.T) map[string]fatAnswer {
	t.Helper()
	b, err := os.ReadFile("testdata/fatanswers.json")
	require.NoError(t, err)
	var all map[string]fatAnswer
	require.NoError(t, json.Unmarshal(b, &all))
	return all
}
