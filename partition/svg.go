package partition

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// SVG is the picture of [Diagram] as an SVG document, 960 pixels wide, on white. Like Diagram it shows what it is given,
// so that a disk that is still planned looks as it will.
func SVG(t *Table, size int64) string {
	const (
		width, bar, row, left = 960, 84, 24, 8
		space                 = width - 2*left
	)
	parts := pieces(t, size)
	widths := share(parts, space)
	height := 44 + bar + 16 + row*(len(parts)+1)
	var out strings.Builder
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="ui-sans-serif, system-ui, sans-serif" font-size="13" role="img">`+"\n",
		width, height, width, height)
	fmt.Fprintf(&out, "<title>GPT disk of %s</title>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n", Bytes(size))
	fmt.Fprintf(&out, `<text x="%d" y="26" font-weight="600" fill="#1f2328">GPT disk %s, %s, %d-byte sectors</text>`+"\n", left, t.DiskID, Bytes(size), t.SectorSize)
	x := left
	for i, p := range parts {
		fill, dash := p.colour()
		fmt.Fprintf(&out, `<rect x="%d" y="44" width="%d" height="%d" rx="4" fill="%s" stroke="#57606a"%s/>`+"\n", x+1, max(widths[i]-2, 1), bar, fill, dash)
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
		fill, dash := p.colour()
		fmt.Fprintf(&out, `<rect x="%d" y="%d" width="14" height="14" rx="2" fill="%s" stroke="#57606a"%s/>`+"\n", left+1, y-12, fill, dash)
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

// colour says what a box looks like: system, hash trees and signatures, the ESP, data; empty slots and free space are
// dashed.
func (p *piece) colour() (fill, attributes string) {
	const dashed = ` stroke-dasharray="4 3"`
	verity := strings.Contains(p.kind, "-verity")
	switch {
	case p.number == 0:
		return "#ffffff", dashed
	case p.empty:
		return "#f6f8fa", dashed
	case p.kind == "esp" || p.kind == "xbootldr":
		return "#ffd8b5", ""
	case verity:
		return "#b6e3ff", ""
	case strings.HasPrefix(p.kind, "root") || strings.HasPrefix(p.kind, "usr"):
		return "#80ccff", ""
	}
	return "#d2f4d3", ""
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
