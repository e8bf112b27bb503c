package partition

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/osmith-dev/osmith"
)

// OperationKind is what is done to a partition.
type OperationKind string

// The kinds of operations.
const (
	Keep   OperationKind = "keep"   // it is there, and stays as it is
	Grow   OperationKind = "grow"   // it gets larger, into free space behind it
	Create OperationKind = "create" // it is made and its content is written
	Skip   OperationKind = "skip"   // it is left out for lack of space: Priority
)

// Operation is what a plan does to one partition. Sizes and offsets are bytes.
type Operation struct {
	Kind    OperationKind `json:"op"`
	Number  int           `json:"number,omitempty"` // entry number
	Type    osmith.GUID   `json:"type"`
	ID      osmith.GUID   `json:"id"`
	Name    string        `json:"name"`
	Offset  int64         `json:"offset"`
	Size    int64         `json:"size"`
	OldSize int64         `json:"oldSize,omitempty"` // before it grows
	Content int64         `json:"content,omitempty"` // bytes written into it, zeros not counted
	Known   bool          `json:"known"`             // the layout names it
}

// Operations is a plan as a list, in the order of the disk; what is skipped comes last.
type Operations []Operation

// Operations lists what the plan does.
func (im *Image) Operations() Operations { return slices.Clone(im.operations) }

// list fills in the operations, once the table is complete.
func (im *Image) list(l *Layout, al *allocator) {
	for _, s := range al.slices {
		o := Operation{Kind: Skip, Known: s.known}
		if s.dropped {
			spec := &l.Partitions[s.spec]
			o.Type, o.ID, o.Name, o.Size = spec.Type, spec.ID, spec.Name, s.min
			im.operations = append(im.operations, o)
			continue
		}
		p := im.Table.Partitions[s.table]
		o.Number, o.Type, o.ID, o.Name = p.Number, p.Type, p.ID, p.Name
		o.Offset, o.Size = im.Table.Extent(s.table)
		switch {
		case im.fresh[s.table]:
			o.Kind = Create
			if c := im.contents[s.table]; c != nil {
				o.Content = c.Size()
			}
		case o.Size > s.old:
			o.Kind, o.OldSize = Grow, s.old
		default:
			o.Kind = Keep
		}
		im.operations = append(im.operations, o)
	}
	slices.SortStableFunc(im.operations, func(a, b Operation) int {
		if (a.Kind == Skip) != (b.Kind == Skip) {
			return cmp.Compare(boolInt(a.Kind == Skip), boolInt(b.Kind == Skip))
		}
		return cmp.Compare(a.Offset, b.Offset)
	})
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

var marks = map[OperationKind]string{Keep: " ", Grow: "~", Create: "+", Skip: "!"}

// String is one line for each partition, like a diff: "+" is made, "~" grows, "!" is left out, " " stays.
func (ops Operations) String() string {
	nameWidth, kindWidth := 4, 4
	for _, o := range ops {
		nameWidth = max(nameWidth, utf8.RuneCountInString(printable(o.Name)))
		kindWidth = max(kindWidth, len(TypeName(o.Type)))
	}
	var out strings.Builder
	for _, o := range ops {
		number := "-"
		if o.Number > 0 {
			number = fmt.Sprint(o.Number)
		}
		line := fmt.Sprintf("%s %3s  %s  %s  ", marks[o.Kind], number, pad(printable(o.Name), nameWidth), pad(TypeName(o.Type), kindWidth))
		switch o.Kind {
		case Skip:
			line += "left out: needs " + Bytes(o.Size)
		case Grow:
			line += fmt.Sprintf("%s at %s, was %s", Bytes(o.Size), Bytes(o.Offset), Bytes(o.OldSize))
		default:
			line += fmt.Sprintf("%s at %s", Bytes(o.Size), Bytes(o.Offset))
		}
		if o.Content > 0 {
			line += fmt.Sprintf(", %s written, %s spare", Bytes(o.Content), Bytes(o.Size-o.Content))
		}
		if !o.Known {
			line += ", not in the layout"
		}
		out.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return out.String()
}

// MarshalJSON is the plan as an object with the schema "osmith.diskplan/1".
func (im *Image) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Schema     string      `json:"schema"`
		DiskID     osmith.GUID `json:"diskId"`
		SectorSize int         `json:"sectorSize"`
		Size       int64       `json:"size"`
		NewTable   bool        `json:"newTable"`
		Operations Operations  `json:"operations"`
	}{"osmith.diskplan/1", im.Table.DiskID, im.Table.SectorSize, im.Size, im.base == nil, im.operations})
}
