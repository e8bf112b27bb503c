package partition

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/strictjson"
)

// Spec is a partition to be laid out. Its size is fixed (Size), that of its Content, or between MinSize and MaxSize: then
// it takes part in what is free, by Weight. Sizes are bytes.
type Spec struct {
	Type       osmith.GUID // what is in it, for example [RootX8664]
	ID         osmith.GUID // PARTUUID; zero: derived from the Seed of the layout
	Name       string      // at most [MaxName] UTF-16 units; [EmptyName] for a slot without content
	Size       int64       // the size, rounded up to 4096; 0: as large as Content and Reserve, or more (below)
	Attributes uint64
	Content    osmith.Source // what is in it, followed by zeros; nil: zeros

	// MinSize and MaxSize bound the size, which Weight then decides; both are rounded to 4096. With any of the three set,
	// MaxSize 0 is no bound. They exclude Size.
	MinSize, MaxSize int64
	// Weight is the share of the free space, in relation to all other weights (systemd-repart takes 1000 by default).
	// 0: only what nobody else can take.
	Weight uint32
	// Reserve is room for growth: bytes to be left behind Content, so that larger contents of later versions fit.
	Reserve int64
	// Priority above 0: the partition may be left out when the disk is too small, the highest number first.
	Priority int32
	// Padding is left free behind the partition: at least PaddingMin, at most PaddingMax (0: no bound), decided by
	// PaddingWeight as with sizes.
	PaddingMin, PaddingMax int64
	PaddingWeight          uint32
	// Number is the entry number; 0: the next free one. It decides nothing about the place.
	Number int
	// Fill tells in a layout file where Content comes from. [Plan] does not follow it: whoever has the files sets Content.
	Fill *Fill
}

// Fill says what a partition is to be filled with: one of its fields is set.
type Fill struct {
	// File is the path of a file whose bytes are the content.
	File string `json:"file,omitempty"`
	// FAT is a FAT file system, as an ESP has.
	FAT *FATFill `json:"fat,omitempty"`
}

// FATFill is a FAT file system to be made of files.
type FATFill struct {
	Label string `json:"label,omitempty"` // volume label; "": none
	Files []Copy `json:"files,omitempty"`
}

// Copy puts a file, or a directory with all that is in it, into a file system.
type Copy struct {
	Source string `json:"source,omitempty"` // path of a file or directory; "": Target is a directory to be made
	Target string `json:"target"`           // where it goes, from the root of the file system
}

// Layout is a disk to be made, or what a disk is to have ([PlanOnto]). As JSON it has the schema "osmith.layout/1".
type Layout struct {
	DiskID     osmith.GUID // zero: derived from Seed
	Seed       osmith.GUID // what IDs that are not given are derived from; zero: all IDs must be given
	SectorSize int         // 512 (also 0) or 4096
	Size       int64       // bytes of the disk; 0: as small as possible, rounded up to Align
	Align      int64       // every partition starts at a multiple of it; 0: 1 MiB
	Start      int64       // no partition starts before it; 0: behind the table
	Partitions []Spec
}

// grain is what partition sizes are rounded to: the block size of file systems and of dm-verity, as in systemd-repart.
const grain = 4096

func (l *Layout) sectorSize() (int64, error) {
	switch l.SectorSize {
	case 0, 512:
		return 512, nil
	case 4096:
		return 4096, nil
	}
	return 0, fmt.Errorf("sector size %d: want 512 or 4096", l.SectorSize)
}

// align checks Align and Start and returns the first.
func (l *Layout) align(ss int64) (int64, error) {
	align := l.Align
	if align == 0 {
		align = 1 << 20
	}
	if align < ss || align%ss != 0 || align > 1<<40 {
		return 0, fmt.Errorf("alignment %d: want a multiple of the sector size %d, at most 1 TiB", l.Align, ss)
	}
	if l.Start < 0 || l.Start > 1<<40 {
		return 0, fmt.Errorf("start %d: want 0 to 1 TiB", l.Start)
	}
	return align, nil
}

// identified returns the layout with all IDs, derived where they are not given.
func (l *Layout) identified() *Layout {
	out := *l
	if l.Seed.IsZero() {
		return &out
	}
	if out.DiskID.IsZero() {
		out.DiskID = SeedDiskID(l.Seed)
	}
	out.Partitions = append([]Spec{}, l.Partitions...)
	count := map[osmith.GUID]int{}
	for i := range out.Partitions {
		s := &out.Partitions[i]
		if s.ID.IsZero() {
			s.ID = SeedPartitionID(l.Seed, s.Type, count[s.Type])
		}
		count[s.Type]++
	}
	return &out
}

// bounds are the limits of one partition, all rounded.
type bounds struct {
	min, max       int64
	padMin, padMax int64
}

const (
	unbounded = math.MaxInt64
	largest   = 1 << 60 // bytes of a disk or a part of it: sums of a few do not overflow
)

// bounds is what the partition may have.
func (s *Spec) bounds() (bounds, error) {
	none := bounds{}
	if s.Fill != nil && s.Content == nil {
		return none, &EntryError{Name: s.Name, Err: errors.New("is to be filled, but its content was not opened")}
	}
	for _, v := range []struct {
		name string
		n    int64
	}{{"size", s.Size}, {"minimum size", s.MinSize}, {"maximum size", s.MaxSize}, {"reserve", s.Reserve},
		{"minimum padding", s.PaddingMin}, {"maximum padding", s.PaddingMax}} {
		if v.n < 0 || v.n > largest {
			return none, fmt.Errorf("%q: %s %d: want 0 to 2^60", s.Name, v.name, v.n)
		}
	}
	flexible := s.MinSize > 0 || s.MaxSize > 0 || s.Weight > 0
	if s.Size > 0 && flexible {
		return none, &EntryError{Name: s.Name, Err: errors.New("has a size as well as a minimum, maximum or weight")}
	}
	content, err := s.content()
	if err != nil {
		return none, err
	}
	b := bounds{padMin: up(s.PaddingMin), padMax: unbounded}
	if s.PaddingMax > 0 {
		if b.padMax = s.PaddingMax / grain * grain; b.padMax < b.padMin {
			return none, &EntryError{Name: s.Name, Err: fmt.Errorf("maximum padding %d is less than the minimum %d", s.PaddingMax, s.PaddingMin)}
		}
	}
	switch {
	case s.Size > 0:
		b.min, b.max = up(s.Size), up(s.Size)
	case !flexible && content == 0:
		return none, &EntryError{Name: s.Name, Err: errors.New("has neither size nor content")}
	case !flexible:
		b.min, b.max = up(content), up(content)
	default:
		b.min, b.max = max(up(s.MinSize), up(content), grain), unbounded
		if s.MaxSize > 0 {
			if b.max = s.MaxSize / grain * grain; b.max < max(up(s.MinSize), grain) {
				return none, &EntryError{Name: s.Name, Err: fmt.Errorf("maximum size %d is less than the minimum %d", s.MaxSize, max(s.MinSize, grain))}
			}
		}
	}
	if content > b.max {
		return none, &SpaceError{Need: content, Have: b.max, Partition: s.Name}
	}
	return b, nil
}

// content is the number of bytes that content and reserve need.
func (s *Spec) content() (int64, error) {
	if s.Content == nil {
		return s.Reserve, nil
	}
	n := s.Content.Size()
	if n < 0 || n > largest {
		return 0, fmt.Errorf("%q: content of %d bytes", s.Name, n)
	}
	return n + s.Reserve, nil
}

// up rounds to the grain. Its argument is checked against overflow.
func up(n int64) int64 { return (n + grain - 1) / grain * grain }

func roundUp(n, unit int64) (int64, bool) {
	if n > math.MaxInt64-unit {
		return 0, false
	}
	return (n + unit - 1) / unit * unit, true
}

// LayoutSchema is the value of "schema" in a layout file.
const LayoutSchema = "osmith.layout/1"

const (
	maxLayout = 1 << 20 // bytes of a layout file
	maxSpecs  = 4096
)

// layoutJSON is a layout file. Sizes are bytes; what is left out is 0.
type layoutJSON struct {
	Schema     string       `json:"schema"`
	DiskID     *osmith.GUID `json:"diskId,omitempty"`
	Seed       *osmith.GUID `json:"seed,omitempty"`
	SectorSize int          `json:"sectorSize,omitempty"`
	Size       int64        `json:"size,omitempty"`
	Align      int64        `json:"align,omitempty"`
	Start      int64        `json:"start,omitempty"`
	Partitions []specJSON   `json:"partitions"`
}

type specJSON struct {
	Number        int          `json:"number,omitempty"`
	Type          string       `json:"type"`
	ID            *osmith.GUID `json:"id,omitempty"`
	Name          string       `json:"name,omitempty"`
	Size          int64        `json:"size,omitempty"`
	MinSize       int64        `json:"minSize,omitempty"`
	MaxSize       int64        `json:"maxSize,omitempty"`
	Weight        uint32       `json:"weight,omitempty"`
	Reserve       int64        `json:"reserve,omitempty"`
	Priority      int32        `json:"priority,omitempty"`
	PaddingMin    int64        `json:"paddingMin,omitempty"`
	PaddingMax    int64        `json:"paddingMax,omitempty"`
	PaddingWeight uint32       `json:"paddingWeight,omitempty"`
	Flags         []string     `json:"flags,omitempty"`
	Content       *Fill        `json:"content,omitempty"`
}

// MarshalJSON is the layout as a file: everything but the contents themselves. Types are names where they have one
// ([TypeName]), flags are those of [AttributeNames] or "bit-N".
func (l Layout) MarshalJSON() ([]byte, error) {
	out := layoutJSON{Schema: LayoutSchema, DiskID: optional(l.DiskID), Seed: optional(l.Seed), SectorSize: l.SectorSize,
		Size: l.Size, Align: l.Align, Start: l.Start, Partitions: []specJSON{}}
	for _, s := range l.Partitions {
		out.Partitions = append(out.Partitions, specJSON{
			Number: s.Number, Type: TypeName(s.Type), ID: optional(s.ID), Name: s.Name, Size: s.Size, MinSize: s.MinSize, MaxSize: s.MaxSize,
			Weight: s.Weight, Reserve: s.Reserve, Priority: s.Priority, PaddingMin: s.PaddingMin, PaddingMax: s.PaddingMax,
			PaddingWeight: s.PaddingWeight, Flags: flagNames(s.Attributes), Content: s.Fill,
		})
	}
	return json.Marshal(out)
}

func optional(id osmith.GUID) *osmith.GUID {
	if id.IsZero() {
		return nil
	}
	return &id
}

// ReadLayout reads a layout file, an object with the schema [LayoutSchema]. A field that it does not know is an error, so
// that no wish is passed over.
func ReadLayout(r io.Reader) (l Layout, err error) {
	defer prefix.Add("partition", &err)
	b, err := io.ReadAll(io.LimitReader(r, maxLayout+1))
	if err != nil {
		return Layout{}, fmt.Errorf("layout: %w", err)
	}
	if len(b) > maxLayout {
		return Layout{}, fmt.Errorf("layout: more than %d bytes", maxLayout)
	}
	err = l.UnmarshalJSON(b)
	return l, err
}

// UnmarshalJSON is [ReadLayout]. After an error the layout is what it was.
func (l *Layout) UnmarshalJSON(b []byte) (err error) {
	defer prefix.Add("partition", &err)
	var in layoutJSON
	if err := strictjson.Unmarshal(b, &in, strictjson.KnownFields); err != nil {
		return fmt.Errorf("layout: %w", err)
	}
	if in.Schema != LayoutSchema {
		return fmt.Errorf("layout: schema %q, want %q", printable(in.Schema), LayoutSchema)
	}
	if len(in.Partitions) > maxSpecs {
		return fmt.Errorf("layout: %d partitions, at most %d", len(in.Partitions), maxSpecs)
	}
	out := Layout{SectorSize: in.SectorSize, Size: in.Size, Align: in.Align, Start: in.Start}
	if in.DiskID != nil {
		out.DiskID = *in.DiskID
	}
	if in.Seed != nil {
		out.Seed = *in.Seed
	}
	for i := range in.Partitions {
		s, err := in.Partitions[i].spec()
		if err != nil {
			return fmt.Errorf("layout: partition %d (%q): %w", i+1, printable(in.Partitions[i].Name), err)
		}
		out.Partitions = append(out.Partitions, s)
	}
	*l = out
	return nil
}

func (s *specJSON) spec() (Spec, error) {
	out := Spec{Number: s.Number, Name: s.Name, Size: s.Size, MinSize: s.MinSize, MaxSize: s.MaxSize, Weight: s.Weight, Reserve: s.Reserve,
		Priority: s.Priority, PaddingMin: s.PaddingMin, PaddingMax: s.PaddingMax, PaddingWeight: s.PaddingWeight, Fill: s.Content}
	var ok bool
	if out.Type, ok = TypeByName(s.Type); !ok {
		var err error
		if out.Type, err = osmith.ParseGUID(s.Type); err != nil {
			return Spec{}, fmt.Errorf("type %q is neither the name of one nor a GUID", printable(s.Type))
		}
	}
	if s.ID != nil {
		out.ID = *s.ID
	}
	if n := efi.UTF16Len(s.Name); n > MaxName {
		return Spec{}, fmt.Errorf("the name has %d UTF-16 units, at most %d fit", n, MaxName)
	}
	for _, name := range s.Flags {
		bit, ok := flagByName(name)
		if !ok {
			return Spec{}, fmt.Errorf("no flag is called %q", printable(name))
		}
		out.Attributes |= bit
	}
	if f := s.Content; f != nil && (f.File == "") == (f.FAT == nil) {
		return Spec{}, errors.New(`content: want one of "file" and "fat"`)
	}
	return out, nil
}

// flagNames names all bits, the nameless ones by number.
func flagNames(attributes uint64) []string {
	out := AttributeNames(attributes)
	for _, name := range out {
		bit, _ := flagByName(name)
		attributes &^= bit
	}
	for ; attributes != 0; attributes &= attributes - 1 {
		out = append(out, "bit-"+strconv.Itoa(bits.TrailingZeros64(attributes)))
	}
	return out
}

func flagByName(name string) (uint64, bool) {
	if bit, ok := AttributeByName(name); ok {
		return bit, true
	}
	if digits, ok := strings.CutPrefix(name, "bit-"); ok {
		n, err := strconv.ParseUint(digits, 10, 8)
		return 1 << (n & 63), err == nil && n < 64
	}
	return 0, false
}
