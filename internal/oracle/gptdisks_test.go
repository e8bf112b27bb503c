package oracle

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"unicode/utf16"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/faultio"
)

// The disks on which the readers of a GPT are compared with what real firmware and kernels did with
// them.
//
// g00-g30 are made here as the Python program of testdata/README.md makes them, byte for byte
// (TestGPTDisksAreTheRecordedOnes). g40-g44 were made by other tools and are stored. m.. and k..
// change one field of a header, an entry or the MBR each, and were made to learn what each reader
// checks.

const (
	espType   = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
	linuxType = "0fc63daf-8483-4772-8e79-3d69d8477de4"
)

// guidBytes returns the bytes of a GUID's text as they are on the disk.
func guidBytes(text string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(b) != 16 {
		panic("GUID " + text)
	}
	return []byte{b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]}
}

// craftedPart is one entry of a table; slot is its place in the array, -1 the next one.
type craftedPart struct {
	typ         string
	first, last uint64
	name        string
	slot        int
	id          string
	attributes  uint64
}

// crafted says how a disk with a GPT is made. Fields that are nil have the value that a good table
// has.
type crafted struct {
	sectors, sectorSize            int64
	parts, backupParts             []craftedPart
	entryLBA, backupEntryLBA       *int64
	backupLBA                      *int64 // where the backup header is
	first, last                    *int64
	alternate, backupAlternate     *int64
	myLBA, backupMyLBA             *int64
	count, entrySize, headerSize   *uint32
	revision, reserved             uint32
	mbr                            string
	noPrimary, noBackup, noEntries bool
	// after is called with the finished disk.
	after func(d *faultio.Disk)
}

func or[T any](p *T, v T) T {
	if p != nil {
		return *p
	}
	return v
}

func mbrRecord(boot, typ byte, start, size uint32) []byte {
	b := []byte{boot, 0, 2, 0, typ, 0xff, 0xff, 0xff}
	b = binary.LittleEndian.AppendUint32(b, start)
	return binary.LittleEndian.AppendUint32(b, size)
}

func craftMBR(kind string, c crafted, total int64) []byte {
	size := uint32(min(total-1, 0xffffffff))
	var recs [][]byte
	signature := true
	switch kind {
	case "", "pmbr":
		recs = [][]byte{mbrRecord(0, 0xee, 1, size)}
	case "ffff":
		recs = [][]byte{mbrRecord(0, 0xee, 1, 0xffffffff)}
	case "second":
		recs = [][]byte{make([]byte, 16), mbrRecord(0, 0xee, 1, size)}
	case "fourth":
		recs = [][]byte{make([]byte, 16), make([]byte, 16), make([]byte, 16), mbrRecord(0, 0xee, 1, size)}
	case "start0":
		recs = [][]byte{mbrRecord(0, 0xee, 0, size+1)}
	case "start2":
		recs = [][]byte{mbrRecord(0, 0xee, 2, size-1)}
	case "active":
		recs = [][]byte{mbrRecord(0x80, 0xee, 1, size)}
	case "two":
		recs = [][]byte{mbrRecord(0, 0xee, 1, 33), mbrRecord(0, 0xee, 2048, size-2047)}
	case "hyb":
		p := c.parts[0]
		recs = [][]byte{mbrRecord(0, 0x0c, uint32(p.first), uint32(p.last-p.first+1)), mbrRecord(0, 0xee, 1, 33)}
	case "ef": // an MBR with an EFI system partition and no protective record
		p := c.parts[0]
		recs = [][]byte{mbrRecord(0, 0xef, uint32(p.first), uint32(p.last-p.first+1))}
	case "size0":
		recs = [][]byte{mbrRecord(0, 0xee, 1, 0)}
	case "small":
		recs = [][]byte{mbrRecord(0, 0xee, 1, 33)}
	case "unsigned":
		recs, signature = [][]byte{mbrRecord(0, 0xee, 1, size)}, false
	case "none":
		return nil
	default:
		panic(kind)
	}
	m := make([]byte, 512)
	for i, r := range recs {
		copy(m[446+16*i:], r)
	}
	if signature {
		m[510], m[511] = 0x55, 0xaa
	}
	return m
}

func craftEntries(parts []craftedPart, count, size uint32) []byte {
	a := make([]byte, int(count)*int(size))
	next := 0
	for _, p := range parts {
		n := p.slot
		if n < 0 {
			n = next
		}
		next = n + 1
		e := make([]byte, 128)
		copy(e, guidBytes(p.typ))
		id := p.id
		if id == "" {
			id = fmt.Sprintf("00001000-0000-4000-8000-%012x", n+1)
		}
		copy(e[16:], guidBytes(id))
		binary.LittleEndian.PutUint64(e[32:], p.first)
		binary.LittleEndian.PutUint64(e[40:], p.last)
		binary.LittleEndian.PutUint64(e[48:], p.attributes)
		for i, u := range utf16.Encode([]rune(p.name)) {
			binary.LittleEndian.PutUint16(e[56+2*i:], u)
		}
		if at := n * int(size); at < len(a) {
			copy(a[at:], e)
		}
	}
	return a
}

func put(d *faultio.Disk, off int64, b []byte) {
	if _, err := d.WriteAt(b, off); err != nil {
		panic(err)
	}
}

func (c crafted) disk() *faultio.Disk {
	ss := max(c.sectorSize, 512)
	count, esize := or(c.count, 128), or(c.entrySize, 128)
	arrayBytes := int64(count) * int64(esize)
	if arrayBytes > 1<<23 { // a count that lies: the array is the usual one
		arrayBytes = 128 * 128
	}
	es := (arrayBytes + ss - 1) / ss
	elba := or(c.entryLBA, 2)
	blba := or(c.backupLBA, c.sectors-1)
	belba := or(c.backupEntryLBA, blba-es)
	first := or(c.first, elba+es)
	last := or(c.last, belba-1)
	realCount, realSize := count, esize
	if int64(count)*int64(esize) > 1<<23 || esize < 128 {
		realCount, realSize = 128, 128
	}
	entries := craftEntries(c.parts, realCount, realSize)
	backupEntries := entries
	if c.backupParts != nil {
		backupEntries = craftEntries(c.backupParts, realCount, realSize)
	}
	span := func(a []byte) []byte { // what the CRC covers
		if n := int64(count) * int64(esize); n <= int64(len(a)) {
			return a[:n]
		}
		return a
	}
	header := func(my, alternate, entryLBA int64, entries []byte) []byte {
		h := make([]byte, ss)
		le := binary.LittleEndian
		copy(h, "EFI PART")
		revision := c.revision
		if revision == 0 {
			revision = 0x10000
		}
		le.PutUint32(h[8:], revision)
		hsize := or(c.headerSize, 92)
		le.PutUint32(h[12:], hsize)
		le.PutUint32(h[20:], c.reserved)
		le.PutUint64(h[24:], uint64(my))
		le.PutUint64(h[32:], uint64(alternate))
		le.PutUint64(h[40:], uint64(first))
		le.PutUint64(h[48:], uint64(last))
		copy(h[56:], guidBytes("11111111-2222-3333-4444-555555555555"))
		le.PutUint64(h[72:], uint64(entryLBA))
		le.PutUint32(h[80:], count)
		le.PutUint32(h[84:], esize)
		le.PutUint32(h[88:], crc32.ChecksumIEEE(span(entries)))
		le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:min(int64(hsize), ss)]))
		return h
	}
	d := faultio.NewDisk(c.sectors * ss)
	if m := craftMBR(c.mbr, c, c.sectors); m != nil {
		put(d, 0, m)
	}
	if !c.noPrimary {
		put(d, ss, header(or(c.myLBA, 1), or(c.alternate, blba), elba, entries))
		if at := elba * ss; !c.noEntries && at+int64(len(entries)) <= d.Size() {
			put(d, at, entries)
		}
	}
	if !c.noBackup {
		if at := belba * ss; at+int64(len(backupEntries)) <= d.Size() {
			put(d, at, backupEntries)
		}
		put(d, blba*ss, header(or(c.backupMyLBA, blba), or(c.backupAlternate, 1), belba, backupEntries))
	}
	if c.after != nil {
		c.after(d)
	}
	return d
}

// gptDisk is one disk of the set.
type gptDisk struct {
	name       string
	sectorSize int
	make       func() *faultio.Disk
}

const craftedSectors = 40960

func part(typ string, first, last uint64, name string) craftedPart {
	return craftedPart{typ: typ, first: first, last: last, name: name, slot: -1}
}

func partsOne() []craftedPart {
	return []craftedPart{part(espType, 2048, 6143, "esp"), part(linuxType, 8192, 16383, "root")}
}

func partsTwo() []craftedPart {
	return []craftedPart{part(espType, 2048, 6143, "esp"), part(linuxType, 8192, 20479, "root"), part(linuxType, 24576, 28671, "new")}
}

// grow returns a larger disk with the same start.
func grow(d *faultio.Disk, sectors int64) *faultio.Disk {
	g := faultio.NewDisk(sectors * 512)
	copyRange(d, g, 0, 0, min(d.Size(), g.Size()))
	return g
}

func copyRange(from, to *faultio.Disk, at, dst, n int64) {
	b := make([]byte, n)
	if _, err := from.ReadAt(b, at); err != nil {
		panic(err)
	}
	put(to, dst, b)
}

// breakHeader destroys a header's checksum.
func breakHeader(lba int64, sectorSize int64) func(*faultio.Disk) {
	return func(d *faultio.Disk) { put(d, lba*sectorSize+16, []byte{0xff, 0xff, 0xff, 0xff}) }
}

func both(fs ...func(*faultio.Disk)) func(*faultio.Disk) {
	return func(d *faultio.Disk) {
		for _, f := range fs {
			f(d)
		}
	}
}

var gptDisks = sync.OnceValue(func() []gptDisk {
	const n = craftedSectors
	var all []gptDisk
	add := func(name string, c crafted) {
		if c.sectors == 0 {
			c.sectors = n
		}
		if c.parts == nil {
			c.parts = partsOne()
		}
		all = append(all, gptDisk{name, int(max(c.sectorSize, 512)), c.disk})
	}
	addFunc := func(name string, f func() *faultio.Disk) { all = append(all, gptDisk{name, 512, f}) }
	from := func(name string) *faultio.Disk { return diskNamed(all, name).make() }
	derive := func(base, name string, f func(*faultio.Disk)) {
		addFunc(name, func() *faultio.Disk { d := from(base); f(d); return d })
	}
	two := func() *faultio.Disk { return crafted{sectors: n, parts: partsTwo()}.disk() }
	i, u := func(v int64) *int64 { return &v }, func(v uint32) *uint32 { return &v }
	bad := breakHeader(1, 512)

	add("g00-good", crafted{})
	derive("g00-good", "g01-primary-header-bad", bad)
	derive("g00-good", "g02-primary-entries-bad", func(d *faultio.Disk) { put(d, 1024+56, []byte("X")) })
	derive("g00-good", "g03-cut-entries-new-header-old", func(d *faultio.Disk) { copyRange(two(), d, 1024, 1024, 16384) })
	derive("g03-cut-entries-new-header-old", "g04-cut-backup-new-entries-new-header-old", func(d *faultio.Disk) {
		copyRange(two(), d, (n-33)*512, (n-33)*512, 33*512)
	})
	derive("g00-good", "g05-both-valid-differ", func(d *faultio.Disk) { copyRange(two(), d, (n-33)*512, (n-33)*512, 33*512) })
	addFunc("g06-grown", func() *faultio.Disk { return grow(from("g00-good"), 61440) })
	derive("g06-grown", "g07-grown-primary-header-bad", bad)
	derive("g06-grown", "g08-stale-backup-at-end", func(d *faultio.Disk) {
		stale := crafted{sectors: 61440, parts: []craftedPart{part(linuxType, 34, 4000, "stale")}}.disk()
		copyRange(stale, d, (61440-33)*512, (61440-33)*512, 33*512)
	})
	derive("g08-stale-backup-at-end", "g09-stale-backup-primary-bad", bad)
	add("g10-elba64", crafted{entryLBA: i(64), first: i(2048)})
	derive("g10-elba64", "g11-elba64-primary-bad", both(bad, func(d *faultio.Disk) { put(d, 16*512, bytes.Repeat([]byte("SPL!"), 2048)) }))
	add("g12-no-pmbr", crafted{mbr: "none"})
	add("g13-no-backup", crafted{noBackup: true})
	add("g14-alt-not-last", crafted{backupLBA: i(30000)})
	add("g15-pmbr-size0", crafted{mbr: "size0"})
	add("g16-pmbr-ffff", crafted{mbr: "ffff"})
	add("g17-pmbr-second", crafted{mbr: "second"})
	add("g18-hybrid", crafted{mbr: "hyb"})
	add("g19-pmbr-start0", crafted{mbr: "start0"})
	add("g20-rev2", crafted{revision: 0x20000})
	add("g21-hsize512", crafted{headerSize: u(512)})
	add("g22-esize256", crafted{entrySize: u(256), count: u(64)})
	add("g23-count4", crafted{count: u(4)})
	add("g24-backup-alt-0", crafted{backupAlternate: i(0)})
	derive("g24-backup-alt-0", "g25-backup-alt-0-primary-bad", bad)
	add("g26-last-usable-beyond", crafted{last: i(n + 100)})
	add("g27-overlap", crafted{parts: []craftedPart{part(espType, 2048, 6143, "esp"), part(linuxType, 4096, 16383, "root")}})
	add("g28-out-of-usable", crafted{first: i(4096)})
	add("g29-esp-attr-bit1", crafted{parts: []craftedPart{
		{typ: espType, first: 2048, last: 6143, name: "esp", slot: 0, id: "00000000-0000-0000-0000-000000000005", attributes: 2},
		part(linuxType, 8192, 16383, "root"),
	}})
	derive("g00-good", "g30-both-bad", both(bad, breakHeader(n-1, 512)))
	for _, name := range []string{"g40-shared-grown", "g41-shared-grown-cut", "g42-shared-stale-before", "g43-shared-stale-cut", "g44-shared-nob"} {
		addFunc(name, func() *faultio.Disk { return storedDisk("gptdisks.json.gz", name) })
	}

	// The MBR.
	for _, kind := range []string{"unsigned", "active", "fourth", "two", "small", "start2", "ef"} {
		add("m00-mbr-"+kind, crafted{mbr: kind})
	}
	derive("g01-primary-header-bad", "m01-no-pmbr-primary-bad", func(d *faultio.Disk) { put(d, 0, make([]byte, 512)) })
	// The header.
	add("m02-hsize91", crafted{headerSize: u(91)})
	add("m03-hsize96", crafted{headerSize: u(96)})
	add("m04-hsize513", crafted{headerSize: u(513)})
	add("m05-hsize0", crafted{headerSize: u(0)})
	add("m06-reserved", crafted{reserved: 7})
	add("m07-mylba-2", crafted{myLBA: i(2), noBackup: true})
	add("m08-first-above-last", crafted{first: i(20000), last: i(10000)})
	add("m09-first-beyond", crafted{first: i(n + 10), last: i(n + 20)})
	add("m10-last-is-last-block", crafted{last: i(n - 1)})
	add("m11-last-is-size", crafted{last: i(n)})
	add("m12-first-0", crafted{first: i(0)})
	add("m13-esize64", crafted{entrySize: u(64)})
	add("m14-esize192", crafted{entrySize: u(192), count: u(64)})
	add("m15-esize0", crafted{entrySize: u(0)})
	add("m16-count0", crafted{count: u(0)})
	add("m17-count-huge", crafted{count: u(0x10000000)})
	add("m18-count127", crafted{count: u(127)})
	add("m19-count1", crafted{count: u(1)})
	add("m20-count256", crafted{count: u(256)})
	add("m21-rev1.2", crafted{revision: 0x10002})
	add("m22-rev0", crafted{revision: 0x00001})
	for _, count := range []uint32{24000, 32768, 32769, 40000} { // arrays of up to 5 MiB
		add(fmt.Sprintf("m23-count%d", count), crafted{count: u(count), parts: []craftedPart{
			part(espType, 12000, 14000, "esp"), {typ: linuxType, first: 16384, last: 20479, name: "root", slot: int(count) - 1},
		}})
	}
	// The entries.
	entry := func(name string, p ...craftedPart) { add(name, crafted{parts: append(partsOne()[:1:1], p...)}) }
	entry("m30-start-above-end", part(linuxType, 16383, 8192, "root"))
	entry("m31-end-beyond", part(linuxType, 8192, n+5, "root"))
	entry("m32-end-is-size", part(linuxType, 8192, n, "root"))
	entry("m33-end-is-last-block", part(linuxType, 8192, n-1, "root"))
	entry("m34-start-beyond", part(linuxType, n+5, n+9, "root"))
	entry("m35-end-one-below-start", part(linuxType, 8192, 8191, "root"))
	entry("m36-start-0", part(linuxType, 0, 100, "root"))
	entry("m37-same-id", craftedPart{typ: linuxType, first: 8192, last: 16383, name: "root", slot: -1, id: "00001000-0000-4000-8000-000000000001"})
	entry("m38-zero-id", craftedPart{typ: linuxType, first: 8192, last: 16383, name: "root", slot: -1, id: "00000000-0000-0000-0000-000000000000"})
	entry("m39-gap", craftedPart{typ: linuxType, first: 8192, last: 16383, name: "root", slot: 5})
	entry("m40-unused-with-range", part("00000000-0000-0000-0000-000000000000", 8192, 16383, "root"), part(linuxType, 20480, 28671, "two"))
	entry("m41-overlap-with-bad-entry", part(linuxType, 4096, n+5, "root"))
	entry("m42-slot-127", craftedPart{typ: linuxType, first: 8192, last: 16383, name: "root", slot: 127})
	// The two tables and their places.
	add("m50-primary-alt-0", crafted{alternate: i(0)})
	add("m51-primary-alt-1", crafted{alternate: i(1)})
	add("m52-primary-alt-beyond", crafted{alternate: i(n + 100)})
	add("m53-primary-alt-5", crafted{alternate: i(5)})
	add("m54-backup-alt-5-primary-bad", crafted{backupAlternate: i(5), after: bad})
	add("m55-backup-alt-beyond-primary-bad", crafted{backupAlternate: i(n + 100), after: bad})
	add("m56-backup-alt-itself-primary-bad", crafted{backupAlternate: i(n - 1), after: bad})
	add("m57-shared-array-primary-bad", crafted{backupEntryLBA: i(2), last: i(n - 2), after: bad})
	add("m58-shared-array-no-backup", crafted{entryLBA: i(n - 33), first: i(34), noBackup: true})
	add("m59-elba-beyond", crafted{entryLBA: i(n + 2), first: i(34), noBackup: true})
	add("m60-last-in-the-middle-no-backup", crafted{last: i(20000), noBackup: true})
	add("m61-last-beyond-no-backup", crafted{last: i(n + 100), noBackup: true})
	add("m62-last-is-penultimate-no-backup", crafted{last: i(n - 2), noBackup: true})
	add("m63-backup-entries-bad", crafted{after: func(d *faultio.Disk) { put(d, (n-33)*512+56, []byte("X")) }})
	add("m64-backup-header-bad", crafted{after: breakHeader(n-1, 512)})
	add("m65-backup-mylba-wrong-primary-bad", crafted{backupMyLBA: i(n - 2), after: bad})
	addFunc("m66-truncated", func() *faultio.Disk { return grow(from("g00-good"), 30000) })
	derive("g00-good", "m67-primary-header-zero", func(d *faultio.Disk) { put(d, 512, make([]byte, 512)) })
	derive("g02-primary-entries-bad", "m68-primary-entries-backup-header-bad", breakHeader(n-1, 512))
	derive("g06-grown", "m69-grown-primary-entries-bad", func(d *faultio.Disk) { put(d, 1024+56, []byte("X")) })
	derive("g14-alt-not-last", "m70-alt-not-last-primary-bad", bad)
	derive("g13-no-backup", "m71-no-backup-entries-bad", func(d *faultio.Disk) { put(d, 1024+56, []byte("X")) })
	derive("g20-rev2", "m72-rev2-primary-bad", bad)
	derive("g26-last-usable-beyond", "m73-last-usable-beyond-primary-bad", bad)
	derive("g21-hsize512", "m74-hsize512-primary-bad", bad)
	derive("g23-count4", "m75-count4-primary-bad", bad)
	add("m76-count3-primary-bad", crafted{count: u(3), after: both(bad, func(d *faultio.Disk) { put(d, 1024, bytes.Repeat([]byte("Z"), 512)) })})
	add("m77-hsize512-filled-primary-bad", crafted{headerSize: u(512), after: func(d *faultio.Disk) {
		h := make([]byte, 512)
		if _, err := d.ReadAt(h, (n-1)*512); err != nil {
			panic(err)
		}
		copy(h[92:], bytes.Repeat([]byte("F"), 420))
		copy(h[16:20], make([]byte, 4))
		binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h))
		put(d, (n-1)*512, h)
		bad(d)
	}})
	// Sectors of 4096 bytes.
	big := func(name string, c crafted) {
		c.sectorSize, c.sectors = 4096, 5120
		c.parts = []craftedPart{part(espType, 256, 767, "esp"), part(linuxType, 1024, 2047, "root")}
		add(name, c)
	}
	big("k00-good", crafted{})
	big("k01-primary-header-bad", crafted{after: breakHeader(1, 4096)})
	big("k02-no-backup", crafted{noBackup: true})
	all = append(all, gptDisk{"k03-512-table-on-4096", 4096, func() *faultio.Disk { return from("g00-good") }})
	all = append(all, gptDisk{"k04-4096-table-on-512", 512, func() *faultio.Disk { return from("k00-good") }})
	return all
})

func diskNamed(all []gptDisk, name string) gptDisk {
	for _, d := range all {
		if d.name == name {
			return d
		}
	}
	panic("no disk " + name)
}

// storedDisk makes a disk of a file in testdata: the size and what is not zero of each disk. The
// disks with a GPT are without the contents of their partitions.
func storedDisk(file, name string) *faultio.Disk {
	f, err := os.Open("testdata/" + file)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		panic(err)
	}
	var disks map[string]struct {
		Size   int64            `json:"size"`
		Chunks map[int64][]byte `json:"chunks"`
	}
	if err := json.NewDecoder(z).Decode(&disks); err != nil {
		panic(err)
	}
	s, ok := disks[name]
	if !ok {
		panic("no stored disk " + name)
	}
	d := faultio.NewDisk(s.Size)
	for at, data := range s.Chunks {
		put(d, at, data)
	}
	return d
}

// TestGPTDisksAreTheRecordedOnes proves that the disks made here are those which firmware was tried
// on.
func TestGPTDisksAreTheRecordedOnes(t *testing.T) {
	sums := recordedSums(t)
	require.Len(t, sums, 31)
	for name, want := range sums {
		h := sha256.New()
		_, err := diskNamed(gptDisks(), name).make().WriteTo(h)
		require.NoError(t, err)
		require.Equal(t, want, hex.EncodeToString(h.Sum(nil)), name)
	}
}

func recordedSums(t *testing.T) map[string]string {
	t.Helper()
	b, err := os.ReadFile("testdata/gptdisks.sha256")
	require.NoError(t, err)
	sums := map[string]string{}
	for line := range strings.Lines(string(b)) {
		sum, name, ok := strings.Cut(strings.TrimSpace(line), "  ")
		require.True(t, ok, line)
		sums[strings.TrimSuffix(name, ".img")] = sum
	}
	return sums
}

var dumpDisks = flag.String("oracle.dump", "", "write the disks of the GPT tests into this `directory`, for firmware and kernels to be tried on")

func TestDumpGPTDisks(t *testing.T) {
	for _, d := range gptDisks() {
		dump(t, d.name, d.make)
	}
}

// dump writes a disk into the directory of -oracle.dump.
func dump(t *testing.T, name string, disk func() *faultio.Disk) {
	t.Helper()
	if *dumpDisks == "" {
		t.Skip("-oracle.dump is not given")
	}
	require.NoError(t, disk().Save(filepath.Join(*dumpDisks, name+".img")))
}

var _ io.ReaderAt = (*faultio.Disk)(nil)
