package partition

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/strictjson"
)

// Spec is a partition to be laid out. Its size is fixed (Size), that of its Content, or between
// MinSize and MaxSize: then it gets a share of the free space, by Weight. Sizes are bytes.
type Spec struct {
	Type osmith.GUID // partition type, for example [RootX8664]
	ID   osmith.GUID // PARTUUID; zero: derived from the Seed of the layout
	Name string      // at most [MaxName] UTF-16 units; [EmptyName] for a slot without content
	// DefaultName gives a partition without Name the name of its type, as systemd-repart does:
	// "root-x86-64", or "linux" for a type that systemd does not know; then "root-x86-64-2" and so
	// on, if an earlier partition of the layout has that name.
	DefaultName bool
	// the size, rounded up to 4096; 0: as large as Content and Reserve, or more (below)
	Size       int64
	Attributes uint64
	Content    osmith.Source // content of the partition, followed by zeros; nil: only zeros

	// MinSize and MaxSize bound the size, which Weight then decides; the first is rounded up to a
	// multiple of 4096, the second down. With any of the three set, MaxSize 0 is no bound. They
	// exclude Size.
	MinSize, MaxSize int64
	// Weight is the share of the free space, in relation to all other weights (systemd-repart takes
	// 1000 by default). 0: only space that no other partition can take.
	Weight uint32
	// Reserve is room for growth: bytes to be left free after Content, so that larger contents of
	// later versions fit.
	Reserve int64
	// Priority above 0: the partition may be left out when the disk is too small, the highest
	// number first.
	Priority int32
	// Padding is left free after the partition: at least PaddingMin, at most PaddingMax (0: no
	// bound; below 4096: none is left), decided by PaddingWeight, as Weight decides sizes.
	PaddingMin, PaddingMax int64
	PaddingWeight          uint32
	// Number is the entry number; 0: the next free one. It does not affect the place on the disk.
	Number int
	// Definition is a name for the partition within the layout, for SupplementFor: of a definition
	// file "10-esp.conf" it is "10-esp".
	Definition string
	// SupplementFor is the Definition of the partition into which this one is merged if possible.
	// Weight and PaddingWeight of this one replace those of the other; of MinSize and PaddingMin
	// the larger value counts, of MaxSize and PaddingMax the smaller one that is given; the merged
	// partition is filled with the contents of both ([Image.Fill]). This one stays a separate
	// partition if the disk has it already, or if the merged partition does not fit.
	SupplementFor string
	// Merged are the bounds of the merged partition, instead of those described at SupplementFor;
	// [ReadRepart] sets them as systemd-repart does.
	Merged *Bounds
	// Fill says what the partition is to be filled with. [Plan] does not carry it out: the caller,
	// who has the files, sets Content.
	Fill *Fill
}

// Bounds are bounds of a partition, as [Spec] has them.
type Bounds struct {
	MinSize    int64 `json:"minSize,omitempty"`
	MaxSize    int64 `json:"maxSize,omitempty"`
	PaddingMin int64 `json:"paddingMin,omitempty"`
	PaddingMax int64 `json:"paddingMax,omitempty"`
}

// Layout is a disk to be made, or the partitions that an existing disk is to have ([PlanOnto]). As
// JSON it has the schema "osmith.layout/1".
type Layout struct {
	DiskID osmith.GUID // zero: derived from Seed
	// seed from which missing IDs are derived; zero: all IDs must be given
	Seed       osmith.GUID
	SectorSize int   // 512 (also 0) or 4096
	Size       int64 // bytes of the disk; 0: as small as possible, rounded up to Align
	Align      int64 // every partition starts at a multiple of it; 0: 1 MiB
	Start      int64 // first byte that partitions may use; 0: after the table
	Partitions []Spec

	// Repart takes all rules of systemd-repart about sizes, as [ReadRepart] sets it: without
	// MinSize a partition has at least 10 MiB, unless its content decides its size (erofs,
	// squashfs, hash trees); the file systems and LUKS2 volumes of Fill have a least size; and
	// MaxSize is exceeded if a new partition needs more for these and for Content. Start counts
	// only on a new disk of more than 4 MiB, and a disk without Size is not rounded up to Align.
	Repart bool
	// FileSystemSectorSize is the sector size of file systems, LUKS2 volumes and hash trees, in
	// bytes; 0: that of the disk. systemd-repart takes 4096 for an image file unless it is called
	// with --sector-size.
	FileSystemSectorSize int
	// LayoutOnly is for a disk that a different program fills: a partition with a Fill needs no
	// Content. A layout file does not have this field.
	LayoutOnly bool
}

// grain is what partition sizes are rounded to: the block size of file systems and of dm-verity, as
// in systemd-repart.
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
	out.Partitions = append([]Spec{}, l.Partitions...)
	if l.Seed.IsZero() {
		return &out
	}
	if out.DiskID.IsZero() {
		out.DiskID = SeedDiskID(l.Seed)
	}
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

// Names are the names that the partitions have on a new disk, in the order of the layout: their
// own, or with DefaultName that of their type.
func (l *Layout) Names() []string {
	named := Layout{Partitions: slices.Clone(l.Partitions)}
	named.name(func(int) string { return "" })
	names := make([]string, len(named.Partitions))
	for i, s := range named.Partitions {
		names[i] = s.Name
	}
	return names
}

// name gives every partition its name. existing is the name that one has on the disk already, ""
// for none.
func (l *Layout) name(existing func(i int) string) {
	taken := map[string]bool{}
	for i := range l.Partitions {
		s := &l.Partitions[i]
		if name := existing(i); name != "" {
			taken[name] = true
			continue
		}
		if s.Name == "" && s.DefaultName {
			base, ok := systemTypeName(s.Type)
			if !ok {
				base = "linux"
			}
			s.Name = base
			for n := 2; taken[s.Name]; n++ {
				s.Name = fmt.Sprintf("%s-%d", base, n)
			}
		}
		taken[s.Name] = true
	}
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

// bounds is what a partition may have. One that exists is not filled any more: nothing of its
// content counts.
func (l *Layout) bounds(s *Spec, exists bool) (bounds, error) {
	none := bounds{}
	if err := l.filled(s, exists); err != nil {
		return none, err
	}
	for _, v := range []struct {
		name string
		n    int64
	}{{"size", s.Size}, {"minimum size", s.MinSize}, {"maximum size", s.MaxSize}, {"reserve", s.Reserve},
		{"minimum padding", s.PaddingMin}, {"maximum padding", s.PaddingMax}} {
		if v.n < 0 || v.n > largest {
			return none, &EntryError{Name: s.title(), Err: fmt.Errorf("%s %d: want 0 to 2^60", v.name, v.n)}
		}
	}
	flexible := s.MinSize > 0 || s.MaxSize > 0 || s.Weight > 0
	if s.Size > 0 && flexible {
		return none, &EntryError{Name: s.title(), Err: errors.New("has a size as well as a minimum, maximum or weight")}
	}
	content := int64(0)
	if !exists {
		var err error
		if content, err = s.content(); err != nil {
			return none, err
		}
	}
	b := bounds{padMin: up(s.PaddingMin), padMax: unbounded}
	if s.PaddingMax > 0 {
		if b.padMax = s.PaddingMax / grain * grain; b.padMax < b.padMin {
			return none, &EntryError{Name: s.title(), Err: fmt.Errorf("maximum padding %d is less than the minimum %d", s.PaddingMax, s.PaddingMin)}
		}
	}
	b.max = unbounded
	if s.MaxSize > 0 {
		b.max = s.MaxSize / grain * grain
		if least := max(up(s.MinSize), grain); b.max < least && (s.MinSize > 0 || !l.Repart) {
			return none, &EntryError{Name: s.title(), Err: fmt.Errorf("maximum size %d is less than the minimum %d", s.MaxSize, least)}
		}
	}
	switch {
	case s.Size > 0:
		b.min, b.max = up(s.Size), up(s.Size)
	case l.Repart && isVeritySig(s.Type):
		b.min, b.max = signatureFix, signatureFix
	case l.Repart:
		b.min = l.repartLeast(s, content, exists)
		b.max = max(b.max, b.min)
	case flexible:
		b.min = max(up(s.MinSize), up(content), grain)
	case exists: // its size was that of its content: it stays
		b.min, b.max = grain, grain
	case content == 0:
		return none, &EntryError{Name: s.title(), Err: errors.New("has neither size nor content")}
	default:
		b.min, b.max = up(content), up(content)
	}
	if content > b.max {
		return none, &SpaceError{Need: content, Have: b.max, Partition: s.title()}
	}
	return b, nil
}

// filled says whether all is there that a partition is to be filled with.
func (l *Layout) filled(s *Spec, exists bool) error {
	if s.Fill == nil {
		return nil
	}
	if err := s.Fill.check(); err != nil {
		return &EntryError{Name: s.title(), Err: err}
	}
	switch {
	case exists || s.Content != nil:
	case !l.LayoutOnly:
		return &EntryError{Name: s.title(), Err: fmt.Errorf("%w: declared to hold %s", ErrUnfilled, s.Fill)}
	case s.Fill.Minimize != "" && l.treeOf(s) == 0:
		return &EntryError{Name: s.title(), Err: errors.New("has Minimize= but no content yet: make the content first and set Content")}
	}
	return nil
}

// repartLeast is the least size of a partition by the rules of systemd-repart.
func (l *Layout) repartLeast(s *Spec, content int64, exists bool) int64 {
	n := int64(grain)
	switch {
	case s.MinSize > 0:
		n = up(s.MinSize)
	case !s.Fill.growsFromNothing():
		n = defaultLeast
	}
	if exists {
		return n
	}
	return max(n, up(content), s.Fill.least(s.Type, l.sectorSizeOf(s.Fill)), up(l.treeOf(s)))
}

// title is what an error calls a partition: its name, if it has one.
func (s *Spec) title() string { return cmp.Or(s.Name, s.Definition, TypeName(s.Type)) }

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
	Repart     bool         `json:"repart,omitempty"`
	FSSector   int          `json:"fileSystemSectorSize,omitempty"`
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
	DefaultName   bool         `json:"defaultName,omitempty"`
	Definition    string       `json:"definition,omitempty"`
	SupplementFor string       `json:"supplementFor,omitempty"`
	Merged        *Bounds      `json:"merged,omitempty"`
}

// MarshalJSON returns the layout as a file, without the contents. Types are written by name if they
// have one ([TypeName]), flags are those of [AttributeNames] or "bit-N".
func (l Layout) MarshalJSON() ([]byte, error) {
	out := layoutJSON{Schema: LayoutSchema, DiskID: optional(l.DiskID), Seed: optional(l.Seed), SectorSize: l.SectorSize,
		Size: l.Size, Align: l.Align, Start: l.Start, Repart: l.Repart, FSSector: l.FileSystemSectorSize, Partitions: []specJSON{}}
	for _, s := range l.Partitions {
		out.Partitions = append(out.Partitions, specJSON{
			Number: s.Number, Type: TypeName(s.Type), ID: optional(s.ID), Name: s.Name, Size: s.Size, MinSize: s.MinSize, MaxSize: s.MaxSize,
			Weight: s.Weight, Reserve: s.Reserve, Priority: s.Priority, PaddingMin: s.PaddingMin, PaddingMax: s.PaddingMax,
			PaddingWeight: s.PaddingWeight, Flags: flagNames(s.Attributes), Content: s.Fill, DefaultName: s.DefaultName,
			Definition: s.Definition, SupplementFor: s.SupplementFor, Merged: s.Merged,
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

// ReadLayout reads a layout file, an object with the schema [LayoutSchema]. An unknown field is an
// error, so that no setting is ignored silently.
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

// UnmarshalJSON is [ReadLayout]. After an error the layout is unchanged.
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
	out := Layout{SectorSize: in.SectorSize, Size: in.Size, Align: in.Align, Start: in.Start, Repart: in.Repart, FileSystemSectorSize: in.FSSector}
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
		Priority: s.Priority, PaddingMin: s.PaddingMin, PaddingMax: s.PaddingMax, PaddingWeight: s.PaddingWeight, Fill: s.Content,
		DefaultName: s.DefaultName, Definition: s.Definition, SupplementFor: s.SupplementFor, Merged: s.Merged}
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
		return Spec{}, fmt.Errorf("the name has %d UTF-16 units, want at most %d", n, MaxName)
	}
	for _, name := range s.Flags {
		bit, ok := flagByName(name)
		if !ok {
			return Spec{}, fmt.Errorf("unknown flag %q", printable(name))
		}
		out.Attributes |= bit
	}
	if f := s.Content; f != nil {
		if err := f.check(); err != nil {
			return Spec{}, fmt.Errorf("content: %w", err)
		}
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
