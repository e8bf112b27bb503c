package partition

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"strconv"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/strictjson"
)

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
