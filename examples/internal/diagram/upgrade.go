package diagram

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade"
)

// Upgrade is the drawing of an upgrade: the disk before it, after each step, and so at its end.
type Upgrade struct {
	Title  string
	Places []string // the ESP, then the slots
	Rows   []Row
}

// Row is the disk at one moment.
type Row struct {
	Step   string // that leads here; "before" of the first row
	Detail string // what the step writes
	Cells  []Cell // one for each of Places
	Boots  string // what starts next
	Cut    string // what a power cut within the step leaves
	tone   tone   // of Boots: toneCode once that is the new version
}

// Cell is what a place of the disk holds.
type Cell struct {
	Lines []string
	tone  tone
}

// OfUpgrade is the drawing of a plan, from what the disk held when it was made.
func OfUpgrade(before *upgrade.State, p *upgrade.Plan) *Upgrade {
	u := &Upgrade{Title: "upgrade to version " + p.Version, Places: []string{"ESP"}}
	d := &moment{old: path.Base(p.From), plan: p, target: -1}
	if p.From == "" {
		d.old = "nothing known"
	}
	for _, e := range before.Entries {
		if name := path.Base(e.Path); !slices.Contains(d.files, name) {
			d.files = append(d.files, name)
		}
	}
	for i, s := range before.Slots {
		u.Places = append(u.Places, "slot "+s.Name())
		d.slots = append(d.slots, slotCell(s))
		if p.Target != nil && s.Index == p.Target.Index {
			d.target = i
		}
	}
	last := 0
	for i, s := range p.Steps {
		if s.Kind == upgrade.StepAddEntry || s.Kind == upgrade.StepPreferEntry {
			last = i
		}
	}
	u.Rows = append(u.Rows, Row{Step: "before", Cells: d.cells(), Boots: d.old, tone: toneEmpty})
	for i, s := range p.Steps {
		d.apply(s)
		r := Row{Step: fmt.Sprintf("%d  %s", i+1, s.Kind), Cells: d.cells(), Boots: d.old, Cut: s.Cut, tone: toneEmpty}
		if s.Bytes > 0 {
			r.Detail = partition.Bytes(s.Bytes)
		}
		if i >= last {
			r.Boots, r.tone = path.Base(p.Entry), toneCode
		}
		u.Rows = append(u.Rows, r)
	}
	return u
}

// slotCell is what a slot holds before the upgrade.
func slotCell(s *upgrade.Slot) Cell {
	text := cmp.Or(s.Version, s.Label, "?")
	switch s.State {
	case partition.SlotInstalled:
		return Cell{[]string{text}, toneData}
	case partition.SlotEmpty:
		return Cell{[]string{"empty"}, toneEmpty}
	}
	return Cell{[]string{text, string(s.State)}, toneWritten}
}

// moment is the disk as the steps change it.
type moment struct {
	plan   *upgrade.Plan
	old    string   // what starts until the new entry is there
	files  []string // entries on the ESP, and what is staged
	fresh  string   // of files, the last one that a step wrote
	slots  []Cell
	target int // index in slots; -1: the release is a UKI alone
}

// apply is what a step does to the disk.
func (d *moment) apply(s upgrade.Step) {
	d.fresh = ""
	name := path.Base(s.Target)
	switch s.Kind {
	case upgrade.StepRemoveStaged, upgrade.StepRemoveEntry:
		d.files = slices.DeleteFunc(d.files, func(f string) bool { return f == name })
	case upgrade.StepMarkPartial:
		d.slot(toneWritten, "partial")
	case upgrade.StepWriteRoot:
		d.slot(toneWritten, "root")
	case upgrade.StepWriteTree:
		d.slot(toneWritten, "root", "hash tree")
	case upgrade.StepWriteSignature:
		d.slot(toneWritten, "root", "tree", "signature")
	case upgrade.StepVerifySlot:
		d.slot(toneWritten, "read back:", "root hash is right")
	case upgrade.StepActivateSlot:
		d.slot(toneData, d.plan.Version)
	case upgrade.StepStageUKI:
		d.files, d.fresh = append(d.files, name), name
	case upgrade.StepAddEntry:
		d.fresh = path.Base(s.To)
		d.files = append(slices.DeleteFunc(d.files, func(f string) bool { return f == name }), d.fresh)
	}
}

func (d *moment) slot(t tone, lines ...string) {
	if d.target >= 0 {
		d.slots[d.target] = Cell{lines, t}
	}
}

// cells are a picture of the moment.
func (d *moment) cells() []Cell {
	const most = 3
	esp := Cell{slices.Clone(d.files), toneSigned}
	if d.fresh != "" {
		esp.tone = toneWritten
	}
	if n := len(esp.Lines); n > most {
		esp.Lines = append(esp.Lines[n-most+1:], fmt.Sprintf("and %d more", n-most+1))
	}
	return append([]Cell{esp}, d.slots...)
}

// bounded are the rows and columns that are drawn.
func (u *Upgrade) bounded() (places []string, rows []Row, left int) {
	places = u.Places[:min(len(u.Places), 5)]
	rows = u.Rows[:min(len(u.Rows), maxRows)]
	return places, rows, len(u.Rows) - len(rows)
}

// SVG is the drawing as a document, 880 pixels wide: a row for each moment, with boxes for the
// places of the disk, and beside them what starts next.
func (u *Upgrade) SVG() string {
	const width, left, step, boots, box, gap = 880, 8, 160, 170, 60, 8
	places, rows, rest := u.bounded()
	c := &canvas{width: width}
	c.words(left, 24, "start", "strong", cut(u.Title, 80))
	room := width - 2*left - step - boots
	widths := make([]int, len(places))
	for i := range widths {
		widths[i] = room / len(places)
	}
	y := 52
	x := left + step
	for i, p := range places {
		c.words(x+widths[i]/2, y, "middle", "dim", p)
		x += widths[i]
	}
	c.words(width-left-boots+12, y, "start", "dim", "next start")
	y += 10
	for _, r := range rows {
		c.words(left, y+box/2+4, "start", "strong", inPixels(r.Step, step-8))
		if r.Detail != "" {
			c.words(left+14, y+box/2+20, "start", "dim", inPixels(r.Detail, step-30))
		}
		x = left + step
		for i := range places {
			cell := r.Cells[i]
			c.box(x+2, y, widths[i]-4, box, cell.tone)
			n := min(len(cell.Lines), 3)
			for k, line := range cell.Lines[:n] {
				c.words(x+widths[i]/2, y+box/2+5+17*k-17*(n-1)/2, "middle", "", inPixels(line, widths[i]-14))
			}
			x += widths[i]
		}
		class := ""
		if r.tone == toneCode {
			class = "strong"
		}
		c.words(width-left-boots+12, y+box/2+4, "start", class, inPixels(r.Boots, boots-12))
		y += box + gap
	}
	if rest > 0 {
		y += 16
		c.words(left, y, "start", "dim", fmt.Sprintf("and %d more steps", rest))
	}
	c.height = y + 12
	return c.document(u.Title+": the disk before, after each step, and after", u.describe(rows))
}

// describe is the drawing in words.
func (u *Upgrade) describe(rows []Row) string {
	var parts []string
	for _, r := range rows {
		text := r.Step + ": "
		for i, c := range r.Cells {
			text += fmt.Sprintf("%s holds %s; ", u.Places[i], cmp.Or(cut(strings.Join(c.Lines, " "), 60), "nothing"))
		}
		parts = append(parts, text+cut(r.Boots, 40)+" starts next.")
	}
	return strings.Join(parts, " ")
}

// String is the drawing as a text: a line for each moment.
func (u *Upgrade) String() string {
	places, rows, rest := u.bounded()
	widths := make([]int, len(places)+1)
	cell := func(r Row, i int) string { return strings.Join(r.Cells[i].Lines, " ") }
	widths[0] = len("1  activate-slot")
	for i, p := range places {
		widths[i+1] = len(p)
		for _, r := range rows {
			widths[i+1] = min(max(widths[i+1], len([]rune(cell(r, i)))), 34)
		}
	}
	var out strings.Builder
	line := func(first string, cells func(int) string, boots string) {
		out.WriteString(column(first, widths[0]))
		for i := range places {
			out.WriteString("  " + column(cells(i), widths[i+1]))
		}
		out.WriteString("  " + printable(boots) + "\n")
	}
	line("", func(i int) string { return places[i] }, "next start")
	for _, r := range rows {
		line(r.Step, func(i int) string { return cell(r, i) }, r.Boots)
	}
	if rest > 0 {
		fmt.Fprintf(&out, "and %d more steps\n", rest)
	}
	return out.String()
}
