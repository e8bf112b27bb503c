package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"strings"

	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/examples/internal/diagram"
	"github.com/osmith-dev/osmith/partition"
)

//go:embed page.html
var pageText string

//go:embed page.css
var pageStyle string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"bytes": partition.Bytes, "cut": text, "mark": mark, "tally": tally, "title": title, "effect": effect, "point": point,
	"sign": sign, "zeros": zeros, "measured": func(values []string) bool { return len(values) > 0 && !zeros(values[0]) }, "body": body, "sections": changedSections, "add": func(i int) int { return i + 1 },
}).Parse(pageText))

// page is what the template shows.
type page struct {
	*report
	Title, Heading, Lead, Chain             string
	Last                                    *system
	Style                                   template.CSS
	Policy                                  string
	UKIDrawing, DiskDrawing, UpgradeDrawing *figure
}

// figure is a drawing in the page.
type figure struct {
	Name    string
	Drawing template.HTML
}

// page is the report as one file of HTML. The policy in it lets nothing be loaded or run, and takes
// the one style sheet by its hash.
func (r *report) page() ([]byte, error) {
	p := &page{report: r, Last: r.Releases[len(r.Releases)-1], Chain: "of the release"}
	p.Heading = cmp.Or(p.Last.UKI.System, p.Last.ID)
	if len(r.Releases) == 2 {
		p.Heading = fmt.Sprintf("%s %s → %s", cmp.Or(p.Last.UKI.Product, p.Last.ID), r.Releases[0].Version, p.Last.Version)
	}
	p.Title = "Report of " + p.Last.ID + " " + p.Last.Version
	p.Lead = lead(r, p.Last)
	style := pageStyle
	show := func(name, svg string) *figure {
		drawing, own := diagram.Inline(svg)
		if !strings.Contains(style, own) {
			style += own
		}
		return &figure{name, template.HTML(drawing)}
	}
	p.UKIDrawing = show("the sections of the unified kernel image", p.Last.UKI.drawing.SVG())
	if d := r.Disk; d != nil {
		p.DiskDrawing = show("the partitions of the disk", partition.SVG(d.table, d.Size))
		if d.drawing != nil {
			p.UpgradeDrawing = show("the disk before, after each step of the upgrade, and after", d.drawing.SVG())
		}
	}
	sum := sha256.Sum256([]byte(style))
	p.Style = template.CSS(style)
	p.Policy = "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'"
	var out bytes.Buffer
	if err := pageTemplate.Execute(&out, p); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// lead says in a line what the report is about.
func lead(r *report, last *system) string {
	words := []string{fmt.Sprintf("Version %s of %s", last.Version, last.ID)}
	if last.Variant != "" {
		words = append(words, "variant "+last.Variant)
	}
	if last.Architecture != "" {
		words = append(words, "for "+last.Architecture)
	}
	words = append(words, partition.Bytes(last.Size))
	if last.UKI.Kernel != "" {
		words = append(words, "kernel "+last.UKI.Kernel)
	}
	line := strings.Join(words, ", ")
	if len(r.Releases) == 2 {
		line += ", and what becomes of a machine that goes to it from " + r.Releases[0].Version
	}
	return line + "."
}

// mark stands beside the word of an answer, and its colour.
func mark(a answer) string {
	return map[answer]string{yes: "✓", no: "✕"}[a] + map[answer]string{unknown: "?"}[a]
}

// tally is how many claims have which answer.
func tally(claims []claim) string {
	n := map[answer]int{}
	for _, c := range claims {
		n[c.Answer]++
	}
	var words []string
	for _, a := range []answer{yes, no, unknown} {
		if n[a] > 0 {
			words = append(words, fmt.Sprintf("%d %s", n[a], a))
		}
	}
	return strings.Join(words, ", ")
}

// zeros tells the value of a PCR that was never extended.
func zeros(value string) bool { return strings.Trim(value, "0") == "" }

func title(word string) string { return strings.ToUpper(word[:1]) + word[1:] }

// effect is the class of an effect on a PCR.
func effect(e string) string {
	switch e {
	case "none", "changes":
		return e
	case "may change":
		return "changes"
	}
	return "unknown"
}

// point is a moment of a way to boot.
func point(v pcr11) string {
	when := "as the kernel starts"
	if v.Phase != "" {
		when = v.Phase[strings.LastIndexByte(v.Phase, ':')+1:]
	}
	if v.Profile > 0 {
		when += fmt.Sprintf(", profile %d", v.Profile)
	}
	if v.DeviceTree > 0 {
		when += fmt.Sprintf(", device tree %d", v.DeviceTree)
	}
	if v.Firmware > 0 {
		when += fmt.Sprintf(", firmware %d", v.Firmware)
	}
	return when
}

// body is a line of a difference without its sign.
func body(line string) string { return strings.TrimPrefix(line[min(1, len(line)):], " ") }

// sign is the class of a line of a difference.
func sign(line string) string {
	if strings.HasPrefix(line, "+") {
		return "added"
	}
	if strings.HasPrefix(line, "-") {
		return "removed"
	}
	return "dim"
}

// changedSections are those that do not stay, with their first lines.
func changedSections(all []build.SectionChange) (out []build.SectionChange) {
	const most = 40
	for _, s := range all {
		if s.Kind == build.ChangeSame || len(out) == maxList {
			continue
		}
		if n := len(s.Lines) - most; n > 0 {
			s.Lines = append(append([]string{}, s.Lines[:most]...), fmt.Sprintf("  and %d more lines", n))
		}
		s.Name = name(s.Name)
		out = append(out, s)
	}
	return out
}
