package diagram

import (
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sdstub"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/uki"
)

// maxRows bounds a drawing: an image from a stranger may have thousands of sections.
const maxRows = 64

// UKI is the drawing of a unified kernel image and its add-ons.
type UKI struct {
	Name   string
	Size   int64 // of the file
	Groups []Group
}

// Group are sections that belong together: what all profiles share, a profile, an add-on.
type Group struct {
	Title    string
	Sections []Section
}

// Section is a part of the image.
type Section struct {
	Name     string
	Size     int64
	Measured bool // into PCR 11 when the image boots in that profile
}

// OfUKI is the drawing of an image. Sections that are there are drawn whatever the stub does with
// them; that they are measured is said of a stub that is known.
func OfUKI(name string, src osmith.Source, f *uki.File) *UKI {
	u := &UKI{Name: name, Size: src.Size(), Groups: []Group{{Title: "shared by all profiles"}}}
	if len(f.Profiles()) == 0 {
		u.Groups[0].Title = "sections"
	}
	for _, p := range f.Profiles() {
		title := fmt.Sprintf("profile %d", p.Index)
		if p.ID != "" {
			title += " " + p.ID
		}
		if p.Title != "" {
			title += ": " + p.Title
		}
		u.Groups = append(u.Groups, Group{Title: title})
	}
	measured := map[string]bool{}
	variants, err := f.Variants()
	for _, v := range variants {
		if err != nil {
			break
		}
		for _, name := range measuredNames(f, v) {
			measured[fmt.Sprint(v.Profile, name)] = true
		}
	}
	for _, s := range f.Sections() {
		at := min(max(s.Profile+1, 0), len(u.Groups)-1)
		u.Groups[at].Sections = append(u.Groups[at].Sections, Section{s.Name, s.Size, measured[fmt.Sprint(max(s.Profile, 0), s.Name)]})
	}
	return u
}

// measuredNames are the sections that the stub measures in a variant.
func measuredNames(f *uki.File, v uki.Variant) (names []string) {
	list, err := f.MeasureVariant(v)
	if err != nil {
		return nil // then nothing is said to be measured
	}
	for _, m := range list {
		names = append(names, m.Section)
	}
	return names
}

// AddAddon puts an add-on beside the image.
func (u *UKI) AddAddon(name string, f *uki.File) {
	g := Group{Title: "add-on " + name}
	for _, s := range f.Sections() {
		g.Sections = append(g.Sections, Section{Name: s.Name, Size: s.Size})
	}
	u.Groups = append(u.Groups, g)
}

// kind says what a section holds; what the stub does not look for is a part of the stub itself.
func (s Section) kind() (words string, t tone) {
	known := sdstub.SectionOf(s.Name)
	switch {
	case known == nil:
		return "stub", toneEmpty
	case s.Name == ".linux":
		t = toneCode
	case strings.HasPrefix(s.Name, ".pcr"):
		t = toneSigned
	case known.Text:
		t = toneText
	default:
		t = toneData
	}
	return known.Holds, t
}

// bounded are the groups with at most maxRows sections in all, and how many are left out.
func (u *UKI) bounded() (groups []Group, left int) {
	room := maxRows
	for _, g := range u.Groups {
		n := min(len(g.Sections), room)
		left += len(g.Sections) - n
		if n > 0 {
			groups = append(groups, Group{g.Title, g.Sections[:n]})
		}
		room -= n
	}
	return groups, left
}

func (u *UKI) title() string {
	return fmt.Sprintf("%s, %s", cut(u.Name, 60), partition.Bytes(u.Size))
}

func leftOut(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("and %d more sections", n)
}

// SVG is the drawing as a document, 880 pixels wide: a bar with a box for each section, as wide as
// its size allows, and the sections by name.
func (u *UKI) SVG() string {
	const width, left, row, bar = 880, 8, 24, 56
	groups, rest := u.bounded()
	c := &canvas{width: width}
	c.words(left, 24, "start", "strong", u.title())
	var all []Section
	var sizes []int64
	for _, g := range groups {
		for _, s := range g.Sections {
			all, sizes = append(all, s), append(sizes, s.Size)
		}
	}
	x := left
	for i, w := range divide(sizes, width-2*left, 14) {
		_, t := all[i].kind()
		c.box(x+1, 40, w-2, bar, t)
		if name := inPixels(all[i].Name, w-8); len(name) == len(all[i].Name) {
			c.words(x+w/2, 40+bar/2+4, "middle", "", name)
		}
		x += w
	}
	y := 40 + bar + 12
	for _, g := range groups {
		y += row
		c.words(left, y, "start", "dim", cut(g.Title, 80))
		c.rule(y+7, left, width-left)
		for _, s := range g.Sections {
			y += row
			words, t := s.kind()
			c.box(left+1, y-12, 14, 14, t)
			c.words(left+26, y, "start", "mono", inPixels(s.Name, 110))
			c.words(left+140, y, "start", "", words)
			c.words(480, y, "end", "", partition.Bytes(s.Size))
			if s.Measured {
				c.words(520, y, "start", "dim", "measured into PCR 11")
			}
		}
		y += 4
	}
	if rest > 0 {
		y += row
		c.words(left, y, "start", "dim", leftOut(rest))
	}
	c.height = y + 16
	return c.document("The unified kernel image "+u.title(), u.describe(groups, rest))
}

// describe is the drawing in words.
func (u *UKI) describe(groups []Group, rest int) string {
	var parts []string
	for _, g := range groups {
		var names []string
		for _, s := range g.Sections {
			names = append(names, fmt.Sprintf("%s %s", cut(s.Name, 16), partition.Bytes(s.Size)))
		}
		parts = append(parts, cut(g.Title, 80)+": "+strings.Join(names, ", "))
	}
	if rest > 0 {
		parts = append(parts, leftOut(rest))
	}
	return strings.Join(parts, ". ") + "."
}

// String is the drawing as a text of 72 columns.
func (u *UKI) String() string {
	const barWidth = 24
	groups, rest := u.bounded()
	var most int64
	for _, g := range groups {
		for _, s := range g.Sections {
			most = max(most, s.Size)
		}
	}
	var out strings.Builder
	fmt.Fprintln(&out, printable(u.title()))
	for _, g := range groups {
		fmt.Fprintf(&out, "┌─ %s\n", cut(printable(g.Title), 68))
		for _, s := range g.Sections {
			words, _ := s.kind()
			filled := int(int64(barWidth) * min(s.Size, most) / max(most, 1))
			bar := strings.Repeat("█", max(filled, 1)) + strings.Repeat("·", barWidth-max(filled, 1))
			line := fmt.Sprintf("│ %s %s %10s  %s", column(s.Name, 9), bar, partition.Bytes(s.Size), words)
			if s.Measured {
				line += ", PCR 11"
			}
			out.WriteString(line + "\n")
		}
	}
	if rest > 0 {
		fmt.Fprintf(&out, "  %s\n", leftOut(rest))
	}
	return out.String()
}
