package upgrade

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sparse"
	"github.com/osmith-dev/osmith/internal/superblock"
	"github.com/osmith-dev/osmith/partition"
)

// DiskContents lists the contents of a disk that may be overwritten: recognised tables, file
// systems, volumes and members of RAIDs, and unrecognised data.
type DiskContents struct {
	// Table is "gpt", "mbr", "damaged gpt" or "" (none).
	Table  string
	DiskID osmith.GUID // disk ID of a GPT

	Found []FoundContent // in the order of the disk

	// Digest identifies all of these contents, with the names and places of partitions and the
	// bytes by which something was recognised: 64 hexadecimal digits. A person who agrees to erase
	// a disk agrees to its digest.
	Digest string

	table *partition.Table // of a GPT
}

// FoundContent is one item found on a disk.
type FoundContent struct {
	Offset    int64  // bytes from the start of the disk
	Size      int64  // bytes; 0: unknown
	Partition int    // number in the table; 0: none
	Name      string // label of the partition
	What      string // "a FAT file system"; "data that is not recognised"
}

// String is one line for a person.
func (f FoundContent) String() string {
	if f.Partition > 0 {
		return fmt.Sprintf("partition %d (%q, %s): %s", f.Partition, f.Name, partition.Bytes(f.Size), f.What)
	}
	return fmt.Sprintf("%s at byte %d", f.What, f.Offset)
}

// Empty reports whether nothing was found.
func (c *DiskContents) Empty() bool { return c.Table == "" && len(c.Found) == 0 }

// String is the contents for a person, a line for each.
func (c *DiskContents) String() string {
	if c.Empty() {
		return "nothing is on the disk\n"
	}
	var b strings.Builder
	if c.Table != "" {
		fmt.Fprintf(&b, "a partition table (%s)", c.Table)
		if !c.DiskID.IsZero() {
			fmt.Fprintf(&b, " with the disk ID %s", c.DiskID)
		}
		b.WriteByte('\n')
	}
	for _, f := range c.Found {
		fmt.Fprintln(&b, f)
	}
	fmt.Fprintf(&b, "digest %s\n", c.Digest)
	return b.String()
}

// How many bytes are checked for data other than zeros: at both ends of a disk, and at both ends of
// a partition. In addition, every signature of package internal/superblock is looked for, at its
// own place.
const (
	probedOfDisk      = 4 << 20
	probedOfPartition = 256 << 10
)

// maxProbed bounds how many partitions are looked at: a table may have thousands that overlap, and
// each costs as much to read.
const maxProbed = 256

// maxFound bounds how many ranges of bytes are listed that are not recognised; all of them are in
// the digest.
const maxFound = 16

// ReadContents finds out what is on a disk. It writes nothing. It reads the table, both ends of the
// disk and of each partition, and each place where something is recognised: a disk with zeros in
// all of these places and data only elsewhere counts as empty. A read error is an error, since the
// contents are then unknown.
func ReadContents(disk osmith.Source) (c *DiskContents, err error) {
	defer prefix.Add("upgrade", &err)
	return readContents(disk, nil)
}

// readContents looks at more places, too, where something will be written.
func readContents(disk osmith.Source, more []extent) (*DiskContents, error) {
	c := &DiskContents{}
	p := &prober{disk: disk, contents: c, sum: sha256.New()}
	t, err := partition.Read(disk, partition.ReadOptions{})
	switch {
	case err == nil:
		c.Table, c.DiskID, c.table = "gpt", t.DiskID, t
		fmt.Fprintf(p.sum, "gpt %s %d\n", t.DiskID, t.SectorSize)
		p.ofTable(t)
	case errors.Is(err, partition.ErrDamaged):
		c.Table = "damaged gpt"
	case !errors.Is(err, partition.ErrNoTable):
		return nil, err
	}
	if c.Table == "" {
		if err := p.mbr(); err != nil {
			return nil, err
		}
	}
	if len(p.parts) > maxProbed {
		return nil, fmt.Errorf("the disk has %d partitions, want at most %d", len(p.parts), maxProbed)
	}
	for _, e := range p.parts {
		if err := p.partition(e); err != nil {
			return nil, err
		}
	}
	whole := extent{size: disk.Size()}
	if err := p.signatures(whole, 0, ""); err != nil {
		return nil, err
	}
	for _, e := range append([]extent{{size: min(probedOfDisk, whole.size)}, {off: max(whole.size-probedOfDisk, 0), size: min(probedOfDisk, whole.size)}}, more...) {
		if err := p.unrecognised(e, 0, ""); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(c.Found, func(a, b FoundContent) int { return int(min(max(a.Offset-b.Offset, -1), 1)) })
	c.Digest = hex.EncodeToString(p.sum.Sum(nil))
	return c, nil
}

// extent is a range of a disk.
type extent struct{ off, size int64 }

func (e extent) end() int64 { return e.off + e.size }

// ends are both ends of a partition that is looked at or wiped.
func (e extent) ends(of int64) []extent {
	if e.size <= 2*of {
		return []extent{e}
	}
	return []extent{{e.off, of}, {e.end() - of, of}}
}

type foundPartition struct {
	extent
	number int
	name   string
}

// digester is a hash.Hash, as far as it is used here.
type digester interface {
	io.Writer
	Sum(b []byte) []byte
}

type prober struct {
	disk     osmith.Source
	contents *DiskContents
	sum      digester
	parts    []foundPartition
	known    []extent // that are explained: tables, and what partitions have
	unknown  int      // ranges that are not recognised
}

// ofTable takes the partitions of a GPT, and what the table itself takes.
func (p *prober) ofTable(t *partition.Table) {
	ss := int64(t.SectorSize)
	for i, q := range t.Partitions {
		off, size := t.Extent(i)
		fmt.Fprintf(p.sum, "partition %d %s %s %d %d %q %x\n", q.Number, q.Type, q.ID, q.FirstLBA, q.LastLBA, q.Name, q.Attributes)
		p.parts = append(p.parts, foundPartition{extent{off, size}, q.Number, q.Name})
	}
	for _, b := range t.BadEntries {
		fmt.Fprintf(p.sum, "bad entry %d %s %s\n", b.Number, b.Type, b.ID)
	}
	p.known = append(p.known, extent{0, int64(t.FirstUsableLBA) * ss})
	if last := int64(t.LastUsableLBA+1) * ss; last < p.disk.Size() {
		p.known = append(p.known, extent{last, p.disk.Size() - last})
	}
}

// mbr takes the partitions of an MBR (UEFI Specification 2.10, section 5.2.1).
func (p *prober) mbr() error {
	b := make([]byte, 512)
	if p.disk.Size() < int64(len(b)) {
		return nil
	}
	if err := sparse.ReadFull(p.disk, b, 0); err != nil {
		return err
	}
	if b[510] != 0x55 || b[511] != 0xaa {
		return nil
	}
	le := func(b []byte) int64 { return int64(b[0]) | int64(b[1])<<8 | int64(b[2])<<16 | int64(b[3])<<24 }
	sector := int64(512)
	if s, ok := p.disk.(interface{ SectorSize() int }); ok && s.SectorSize() > 0 {
		sector = int64(s.SectorSize())
	}
	for i := range 4 {
		r := b[446+16*i:][:16]
		off, size := le(r[8:])*sector, le(r[12:])*sector
		if r[4] == 0 || r[0]&0x7f != 0 || off == 0 || size == 0 || off >= p.disk.Size() {
			continue
		}
		if p.contents.Table == "" {
			p.contents.Table = "mbr"
			p.known = append(p.known, extent{0, int64(len(b))})
		}
		fmt.Fprintf(p.sum, "mbr %d %x\n", i, r)
		p.parts = append(p.parts, foundPartition{extent{off, min(size, p.disk.Size()-off)}, i + 1, ""})
	}
	return nil
}

// partition looks at one partition.
func (p *prober) partition(q foundPartition) error {
	before := len(p.contents.Found)
	if err := p.signatures(q.extent, q.number, q.name); err != nil {
		return err
	}
	found := slices.Clone(p.contents.Found[before:])
	p.contents.Found = p.contents.Found[:before]
	var what []string
	for _, f := range found {
		if !slices.Contains(what, f.What) {
			what = append(what, f.What)
		}
	}
	zero := true
	for _, e := range q.ends(probedOfPartition) {
		sum, isZero, err := p.digestOf(e)
		if err != nil {
			return err
		}
		zero = zero && isZero
		if what == nil && !isZero { // what has a file system has other bytes each day
			fmt.Fprintf(p.sum, "bytes at %d %x\n", e.off, sum)
		}
	}
	switch {
	case what == nil && zero:
		what = []string{"nothing"}
	case what == nil:
		what = []string{"data that is not recognised"}
	}
	p.contents.Found = append(p.contents.Found, FoundContent{q.off, q.size, q.number, q.name, strings.Join(what, ", ")})
	p.known = append(p.known, q.extent)
	return nil
}

// signatures finds what is recognised. Within a partition that is known it is of that.
func (p *prober) signatures(e extent, number int, name string) error {
	found, err := superblock.Find(p.disk, e.off, e.size)
	if err != nil {
		return err
	}
	for _, f := range found {
		at := e.off + f.At
		if number == 0 && p.explains(extent{at, 1}) {
			continue
		}
		sum, _, err := p.digestOf(extent{at / sectorOfProbe * sectorOfProbe, min(sectorOfProbe, p.disk.Size()-at/sectorOfProbe*sectorOfProbe)})
		if err != nil {
			return err
		}
		fmt.Fprintf(p.sum, "%s at %d %x\n", f.What, at, sum)
		p.contents.Found = append(p.contents.Found, FoundContent{Offset: at, Partition: number, Name: name, What: f.What})
	}
	return nil
}

const sectorOfProbe = 512

// explains reports whether a range is one of the table or of a partition.
func (p *prober) explains(e extent) bool {
	return slices.ContainsFunc(p.known, func(k extent) bool { return k.off <= e.off && e.end() <= k.end() })
}

// unrecognised lists what is not zero in a range and is not known to be anything.
func (p *prober) unrecognised(e extent, number int, name string) error {
	const block = sectorOfProbe // tables end between pages
	buf := make([]byte, 256<<10)
	start := int64(-1)
	flush := func(end int64) error {
		if start < 0 {
			return nil
		}
		sum, _, err := p.digestOf(extent{start, end - start})
		if err != nil {
			return err
		}
		fmt.Fprintf(p.sum, "bytes at %d %x\n", start, sum)
		f := FoundContent{Offset: start, Size: end - start, Partition: number, Name: name, What: "data that is not recognised"}
		if !slices.ContainsFunc(p.contents.Found, func(have FoundContent) bool { return have.Offset >= start && have.Offset < end }) {
			if p.unknown++; p.unknown <= maxFound {
				p.contents.Found = append(p.contents.Found, f)
			}
		}
		p.known = append(p.known, extent{start, end - start})
		start = -1
		return nil
	}
	for off := e.off; off < e.end(); off += int64(len(buf)) {
		b := buf[:min(int64(len(buf)), e.end()-off)]
		if err := sparse.ReadFull(p.disk, b, off); err != nil {
			return fmt.Errorf("the content at byte %d of the disk is unknown: %w", off, err)
		}
		for i := int64(0); i < int64(len(b)); i += block {
			at := extent{off + i, min(block, int64(len(b))-i)}
			if sparse.Zero(b[i:][:at.size]) || p.explains(at) {
				if err := flush(at.off); err != nil {
					return err
				}
			} else if start < 0 {
				start = at.off
			}
		}
	}
	return flush(e.end())
}

// digestOf is the digest of a range.
func (p *prober) digestOf(e extent) (sum []byte, zero bool, err error) {
	h := sha256.New()
	zero = true
	buf := make([]byte, min(256<<10, e.size))
	for off := e.off; off < e.end(); off += int64(len(buf)) {
		b := buf[:min(int64(len(buf)), e.end()-off)]
		if err := sparse.ReadFull(p.disk, b, off); err != nil {
			return nil, false, fmt.Errorf("the content at byte %d of the disk is unknown: %w", off, err)
		}
		zero = zero && sparse.Zero(b)
		h.Write(b)
	}
	return h.Sum(nil), zero, nil
}

// OccupiedError says that the disk to be installed has contents that the options do not allow to
// erase.
type OccupiedError struct {
	Contents *DiskContents

	// Agreed is the digest in the options, if it differs from that of the disk: the disk was
	// exchanged, or has changed since. "": the options have none.
	Agreed string
}

func (e *OccupiedError) Error() string {
	lines := strings.Split(strings.TrimSpace(e.Contents.String()), "\n")
	what := strings.Join(lines[:len(lines)-1], "; ")
	if e.Agreed != "" {
		return fmt.Sprintf("the disk changed since erasing it was agreed to: contains %s; want the digest %s, got %s: inspect the disk again", what, e.Agreed, e.Contents.Digest)
	}
	return fmt.Sprintf("the disk is not empty: contains %s; to erase all of it, give its digest %s as InstallOptions.EraseForEverTheDiskWithThisDigest", what, e.Contents.Digest)
}
