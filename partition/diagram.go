package partition

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// Diagram is a picture of a disk of size bytes in text, width columns wide (at least 60, 0 for 80):
// a bar with a box for each partition, as wide as the disk allows, and a list with sizes. Free
// space is hatched.
func Diagram(t *Table, size int64, width int) string {
	if width == 0 {
		width = 80
	}
	width = max(width, 60)
	parts := pieces(t, size)
	widths := share(parts, width-1-len(parts))
	var out strings.Builder
	free := int64(0)
	for _, p := range parts {
		if p.number == 0 {
			free += p.size
		}
	}
	fmt.Fprintf(&out, "GPT disk %s, %s, %d-byte sectors", t.DiskID, Bytes(size), t.SectorSize)
	if t.UsedBackup {
		out.WriteString(", read from its backup table")
	}
	out.WriteString("\n")
	line := func(left, fill, mid, right string) {
		out.WriteString(left)
		for i, w := range widths {
			if i > 0 {
				out.WriteString(mid)
			}
			out.WriteString(strings.Repeat(fill, w))
		}
		out.WriteString(right + "\n")
	}
	line("┌", "─", "┬", "┐")
	for row := range 3 {
		out.WriteString("│")
		for i, p := range parts {
			out.WriteString(p.cell(row, widths[i]))
			out.WriteString("│")
		}
		out.WriteString("\n")
	}
	line("└", "─", "┴", "┘")
	out.WriteString(list(parts, free))
	return out.String()
}

// piece is a partition or, with number 0, free space.
type piece struct {
	number     int
	off, size  int64
	name, kind string
	attributes []string
	empty      bool
}

// minFree is the smallest gap that the picture shows: alignment is not worth a box.
const minFree = 4 << 20

func pieces(t *Table, size int64) []piece {
	var out []piece
	for i, p := range t.Partitions {
		off, n := t.Extent(i)
		number := p.Number
		if number == 0 {
			number = i + 1
		}
		out = append(out, piece{number: number, off: off, size: n, name: printable(p.Name), kind: TypeName(p.Type),
			attributes: AttributeNames(p.Attributes), empty: p.Name == EmptyName})
	}
	slices.SortStableFunc(out, func(a, b piece) int { return cmp.Compare(a.off, b.off) })
	var all []piece
	pos := int64(0)
	for _, p := range append(out, piece{off: size}) {
		if p.off-pos >= minFree {
			all = append(all, piece{off: pos, size: p.off - pos})
		}
		if p.number > 0 {
			all = append(all, p)
			pos = max(pos, p.off+p.size)
		}
	}
	if len(all) == 0 {
		all = append(all, piece{size: size})
	}
	return all
}

// share gives each piece columns: up to a half of all is shared alike, so that names can be read,
// the rest in proportion to the size.
func share(parts []piece, columns int) []int {
	least := min(max(columns/(2*max(len(parts), 1)), 3), 8)
	var total int64
	for _, p := range parts {
		total += p.size
	}
	widths := make([]int, len(parts))
	rest := make([]float64, len(parts)) // of a column, lost by rounding
	spare := max(columns-least*len(parts), 0)
	left := spare
	for i, p := range parts {
		extra := float64(spare) * float64(p.size) / float64(max(total, 1))
		widths[i] = least + int(extra)
		rest[i] = extra - math.Floor(extra)
		left -= int(extra)
	}
	for ; left > 0; left-- {
		most := 0
		for i := range rest {
			if rest[i] > rest[most] {
				most = i
			}
		}
		widths[most]++
		rest[most]--
	}
	return widths
}

// cell is one row of a box: number, name, size. Free space is hatched, an empty slot dotted.
func (p *piece) cell(row, width int) string {
	if p.number == 0 {
		return strings.Repeat("░", width)
	}
	text := [3]string{fmt.Sprint(p.number), p.name, Bytes(p.size)}[row]
	if n := utf8.RuneCountInString(text); n > width {
		switch {
		case row == 1 && width > 3:
			text = string([]rune(text)[:width-1]) + "…"
		default: // half a number says nothing
			text = ""
		}
	}
	fill := " "
	if p.empty {
		fill = "·"
	}
	n := utf8.RuneCountInString(text)
	if p.empty && n > 0 && n <= width-2 {
		text, n = " "+text+" ", n+2
	}
	left := (width - n) / 2
	return strings.Repeat(fill, left) + text + strings.Repeat(fill, width-n-left)
}

func list(parts []piece, free int64) string {
	nameWidth, kindWidth, sizeWidth, startWidth := 4, 4, 4, 5
	for _, p := range parts {
		nameWidth = max(nameWidth, utf8.RuneCountInString(p.name))
		kindWidth = max(kindWidth, utf8.RuneCountInString(p.kind))
		sizeWidth = max(sizeWidth, len(Bytes(p.size)))
		startWidth = max(startWidth, len(Bytes(p.off)))
	}
	var out strings.Builder
	for _, p := range parts {
		if p.number == 0 {
			continue
		}
		notes := strings.Join(p.attributes, " ")
		if p.empty {
			notes = strings.TrimSpace("○ free slot  " + notes)
		}
		row := fmt.Sprintf("%3d  %s  %s  %*s at %*s  %s", p.number, pad(p.name, nameWidth), pad(p.kind, kindWidth),
			sizeWidth, Bytes(p.size), startWidth, Bytes(p.off), notes)
		out.WriteString(strings.TrimRight(row, " ") + "\n")
	}
	if free > 0 {
		fmt.Fprintf(&out, "  ░  %s  %s  %*s\n", pad("free", nameWidth), pad("", kindWidth), sizeWidth, Bytes(free))
	}
	return out.String()
}

func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(width-utf8.RuneCountInString(s), 0))
}

// printable keeps a name read from a disk from moving the cursor.
func printable(name string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || (r >= 0x7f && r < 0xa0) || (r >= 0x200b && r <= 0x202e) || (r >= 0x2060 && r <= 0x2069) {
			return '\ufffd'
		}
		return r
	}, name)
}

// Bytes is a size for people, in powers of 1024 with one decimal: "1.5 GiB"; exact multiples have
// none: "64 MiB".
func Bytes(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	unit, i := int64(1024), 0
	for n/unit >= 1024 && i < len(units)-1 {
		unit *= 1024
		i++
	}
	if n%unit == 0 {
		return fmt.Sprintf("%d %ciB", n/unit, units[i])
	}
	return fmt.Sprintf("%.1f %ciB", float64(n)/float64(unit), units[i])
}

// String is a [Diagram] of 80 columns.
func (im *Image) String() string { return Diagram(im.Table, im.Size, 80) }

// SVG is the picture of [Diagram] as an SVG document, 960 pixels wide, on white, or on black for a
// reader who prefers dark colours. It also draws a planned disk, as Diagram does.
func SVG(t *Table, size int64) string {
	const (
		width, bar, row, left = 960, 84, 24, 8
		space                 = width - 2*left
	)
	parts := pieces(t, size)
	widths := share(parts, space)
	height := 44 + bar + 16 + row*(len(parts)+1)
	var out strings.Builder
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="ui-sans-serif, system-ui, sans-serif" font-size="13" role="img" class="gpt">`+"\n",
		width, height, width, height)
	fmt.Fprintf(&out, "<title>GPT disk of %s</title>\n<desc>%s</desc>\n<style>%s</style>\n<rect class=\"ground\" width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n", Bytes(size), escape(describe(parts)), darkStyle)
	fmt.Fprintf(&out, `<text x="%d" y="26" font-weight="600" fill="#1f2328">GPT disk %s, %s, %d-byte sectors</text>`+"\n", left, t.DiskID, Bytes(size), t.SectorSize)
	x := left
	for i, p := range parts {
		class, fill, dash := p.colour()
		fmt.Fprintf(&out, `<rect class="%s" x="%d" y="44" width="%d" height="%d" rx="4" fill="%s" stroke="#57606a"%s/>`+"\n", class, x+1, max(widths[i]-2, 1), bar, fill, dash)
		if p.number > 0 {
			for line, text := range []string{fmt.Sprint(p.number), p.name, Bytes(p.size)} {
				if text = fitText(text, widths[i]-8, line == 1); text != "" {
					fmt.Fprintf(&out, `<text x="%d" y="%d" text-anchor="middle" fill="#1f2328">%s</text>`+"\n", x+widths[i]/2, 68+line*22, escape(text))
				}
			}
		}
		x += widths[i]
	}
	y := 44 + bar + 16 + row
	for _, p := range parts {
		class, fill, dash := p.colour()
		fmt.Fprintf(&out, `<rect class="%s" x="%d" y="%d" width="14" height="14" rx="2" fill="%s" stroke="#57606a"%s/>`+"\n", class, left+1, y-12, fill, dash)
		columns := []struct {
			x      int
			anchor string
			text   string
		}{{32, "start", fmt.Sprint(p.number)}, {64, "start", fitText(p.name, 300, true)}, {376, "start", fitText(p.kind, 250, true)},
			{704, "end", Bytes(p.size)}, {724, "start", "at " + Bytes(p.off)}, {820, "start", fitText(strings.Join(p.attributes, " "), 136, true)}}
		if p.number == 0 {
			columns[0].text, columns[1].text = "", "free"
		}
		for _, c := range columns {
			if c.text != "" {
				fmt.Fprintf(&out, `<text x="%d" y="%d" text-anchor="%s" fill="#1f2328">%s</text>`+"\n", c.x, y, c.anchor, escape(c.text))
			}
		}
		y += row
	}
	out.WriteString("</svg>\n")
	return out.String()
}

// darkStyle are the colours for a reader who prefers dark ones. What knows no style sheets shows
// the light ones, which are attributes.
const darkStyle = "@media screen and (prefers-color-scheme:dark){.gpt text{fill:#e6edf3}.gpt rect{stroke:#8b949e}.gpt .ground{fill:#0d1117;stroke:none}" +
	".gpt .free{fill:#0d1117}.gpt .empty{fill:#21262d}.gpt .esp{fill:#7a4413}.gpt .tree{fill:#0c3f6e}.gpt .root{fill:#1158a0}.gpt .data{fill:#1c5a2c}}"

// describe is the picture in words, for those who do not see it.
func describe(parts []piece) string {
	var out []string
	for _, p := range parts {
		if p.number == 0 {
			out = append(out, "free space, "+Bytes(p.size))
		} else {
			out = append(out, fmt.Sprintf("partition %d %s, %s, %s", p.number, p.name, p.kind, Bytes(p.size)))
		}
	}
	return strings.Join(out, "; ")
}

// colour says what a box looks like: system, hash trees and signatures, the ESP, data; empty slots
// and free space are dashed.
func (p *piece) colour() (class, fill, attributes string) {
	const dashed = ` stroke-dasharray="4 3"`
	verity := strings.Contains(p.kind, "-verity")
	switch {
	case p.number == 0:
		return "free", "#ffffff", dashed
	case p.empty:
		return "empty", "#f6f8fa", dashed
	case p.kind == "esp" || p.kind == "xbootldr":
		return "esp", "#ffd8b5", ""
	case verity:
		return "tree", "#b6e3ff", ""
	case strings.HasPrefix(p.kind, "root") || strings.HasPrefix(p.kind, "usr"):
		return "root", "#80ccff", ""
	}
	return "data", "#d2f4d3", ""
}

// fitText cuts a text to pixels, at about 7.5 for a character; what cannot be cut is left out.
func fitText(text string, pixels int, cut bool) string {
	room := pixels * 2 / 15
	if utf8.RuneCountInString(text) <= room {
		return text
	}
	if !cut || room < 3 {
		return ""
	}
	return string([]rune(text)[:room-1]) + "…"
}

var xmlEscapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;")

func escape(text string) string { return xmlEscapes.Replace(strings.ToValidUTF8(text, "\ufffd")) }
