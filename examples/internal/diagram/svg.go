// Package diagram draws what the example programs show: unified kernel images with their sections,
// and upgrades step by step. Each drawing is an SVG document for a page and a text for a terminal,
// made of the same values. They look like the disks that package partition draws.
//
// An SVG has no script and loads nothing; its colours follow the reader's preference for light or
// dark, and whatever colour says stands beside it in words. What comes from an image is escaped and
// cut to a bounded length.
package diagram

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A tone is what a box means; its name is the CSS class.
type tone string

const (
	toneCode    tone = "code"    // what runs: kernel, stub, a system that boots
	toneData    tone = "data"    // what the code is given: initrds, hash trees
	toneText    tone = "text"    // short texts, state
	toneSigned  tone = "signed"  // keys, signatures, the ESP
	toneWritten tone = "written" // is being written
	toneEmpty   tone = "empty"   // holds nothing that counts
)

// fills are the colours of the tones, on white and on black. Package partition has the first ones.
var fills = []struct {
	tone        tone
	light, dark string
}{
	{toneCode, "#80ccff", "#1158a0"},
	{toneData, "#b6e3ff", "#0c3f6e"},
	{toneText, "#d2f4d3", "#1c5a2c"},
	{toneSigned, "#ffd8b5", "#7a4413"},
	{toneWritten, "#fff3b8", "#6b5710"},
	{toneEmpty, "#f6f8fa", "#21262d"},
}

// styleSheet is that of all drawings. Each document has it; a page with several drawings takes it
// once ([Inline]).
func styleSheet() string {
	var light, dark strings.Builder
	light.WriteString(".dg{font:13px ui-sans-serif,system-ui,sans-serif}.dg text{fill:#1f2328}" +
		".dg .dim{fill:#59636e}.dg .strong{font-weight:600}.dg .mono{font-family:ui-monospace,monospace}" +
		".dg rect{stroke:#57606a;stroke-width:1}.dg .ground{fill:#ffffff;stroke:none}.dg .empty{stroke-dasharray:4 3}.dg .rule{stroke:#d1d9e0}")
	dark.WriteString(".dg text{fill:#e6edf3}.dg .dim{fill:#9198a1}.dg rect{stroke:#8b949e}.dg .ground{fill:#0d1117}.dg .rule{stroke:#3d444d}")
	for _, f := range fills {
		fmt.Fprintf(&light, ".dg .%s{fill:%s}", f.tone, f.light)
		fmt.Fprintf(&dark, ".dg .%s{fill:%s}", f.tone, f.dark)
	}
	return light.String() + "@media screen and (prefers-color-scheme:dark){" + dark.String() + "}"
}

// Inline takes a document of this package, or of package partition, apart for a page: the drawing
// without style sheet and ground, and the style sheet, which is the same for all drawings of a
// package.
func Inline(svg string) (drawing, style string) {
	before, rest, found := strings.Cut(svg, "<style>")
	style, after, closed := strings.Cut(rest, "</style>\n")
	if !found || !closed {
		return svg, ""
	}
	if line, rest, ok := strings.Cut(after, "\n"); ok && strings.HasPrefix(line, `<rect class="ground"`) {
		after = rest
	}
	return before + after, style
}

const ground = `<rect class="ground" width="100%" height="100%"/>` + "\n"

// canvas writes an SVG document.
type canvas struct {
	body          strings.Builder
	width, height int
}

// document is the whole, with what it says for those who do not see it.
func (c *canvas) document(title, description string) string {
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" class="dg" width="%d" height="%d" viewBox="0 0 %[1]d %d" role="img">`+"\n"+
		"<title>%s</title>\n<desc>%s</desc>\n<style>%s</style>\n%s%s</svg>\n",
		c.width, c.height, escape(title), escape(description), styleSheet(), ground, c.body.String())
}

func (c *canvas) box(x, y, width, height int, t tone) {
	fmt.Fprintf(&c.body, `<rect class="%s" x="%d" y="%d" width="%d" height="%d" rx="4"/>`+"\n", t, x, y, max(width, 1), height)
}

func (c *canvas) rule(y, from, to int) {
	fmt.Fprintf(&c.body, `<line class="rule" x1="%d" y1="%d" x2="%d" y2="%[2]d"/>`+"\n", from, y, to)
}

// words writes a text; the anchor is start, middle or end, and the class may be empty.
func (c *canvas) words(x, y int, anchor, class, text string) {
	if text == "" {
		return
	}
	if class != "" {
		class = ` class="` + class + `"`
	}
	if anchor != "start" {
		anchor = ` text-anchor="` + anchor + `"`
	} else {
		anchor = ""
	}
	fmt.Fprintf(&c.body, `<text x="%d" y="%d"%s%s>%s</text>`+"\n", x, y, anchor, class, escape(text))
}

var markup = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&#39;")

// escape makes a text one of XML. What XML cannot hold becomes U+FFFD.
func escape(s string) string { return markup.Replace(printable(s)) }

// printable keeps what a stranger put into an image from controlling terminals and turning lines
// around.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// cut shortens a text to so many characters.
func cut(s string, most int) string {
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	if most < 3 {
		return ""
	}
	return string([]rune(s)[:most-1]) + "…"
}

// inPixels shortens a text to a width, at 8 pixels for a character.
func inPixels(s string, width int) string { return cut(s, width/8) }

// column pads a text to a width of a terminal.
func column(s string, width int) string {
	s = cut(printable(s), width)
	return s + strings.Repeat(" ", width-utf8.RuneCountInString(s))
}

// divide shares room out: everyone gets least, and the rest goes by size.
func divide(sizes []int64, room, least int) []int {
	least = min(least, room/max(len(sizes), 1))
	var total float64
	for _, n := range sizes {
		total += float64(max(n, 0))
	}
	out := make([]int, len(sizes))
	rest := room - least*len(sizes)
	for i, n := range sizes {
		out[i] = least + int(float64(rest)*float64(max(n, 0))/max(total, 1))
	}
	return out
}
