package main

import (
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/uki"
)

func checkFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	assume := addAssume(set)
	return func(c *cli.Call, operands []string) error {
		r := checkResult{header: newHeader(c, operands[0]), Good: true, Findings: []finding{}}
		image := check(c, &r, operands[0], nil, *assume)
		var addons []uki.CompanionFile
		for _, name := range operands[1:] {
			if addon := check(c, &r, name, image, *assume); addon != nil {
				addons = append(addons, uki.CompanionFile{Name: filepath.Base(name), Content: addon.src})
			}
		}
		if image != nil && len(addons) > 0 {
			r.together(operands[0], image.file, addons)
		}
		if r.unread != nil {
			return r.unread
		}
		answer := c.Answer(r, r.text())
		if r.Good {
			return answer
		}
		text := count(r.errors, "error") + " found"
		if r.unknown > 0 {
			text += fmt.Sprintf(", %d not known", r.unknown)
		}
		return errors.Join(cli.No{Err: errors.New(text)}, answer)
	}
}

// together adds what is found about the command line that image and add-ons make, in every profile.
func (r *checkResult) together(name string, image *uki.File, addons []uki.CompanionFile) {
	for profile := range max(len(image.Profiles()), 1) {
		alone, err := image.Handover(uki.Boot{Profile: profile})
		if err == nil && len(alone.Findings) > 0 {
			continue // has been said about the image
		}
		h, err := image.Handover(uki.Boot{Profile: profile, Companions: &uki.Companions{Addons: addons}})
		if err != nil {
			r.add(name, uki.Finding{Severity: uki.SeverityUnknown, Code: "addon-cmdline", Profile: profile, Text: fmt.Sprintf("what its command line is with the add-ons is not known: %v", prefix.Bare(err))})
			continue
		}
		for _, found := range h.Findings {
			r.add(name, found)
		}
	}
}

// An opened file is what is checked.
type opened struct {
	src  osmith.Source
	file *uki.File
}

// check adds what is found about a file, as an add-on of an image if one is given. It is nil for
// what is neither.
func check(c *cli.Call, r *checkResult, name string, image *opened, assume int) *opened {
	src, f, kind, err := openAny(c, name, assume)
	var format *osmith.FormatError
	switch {
	case errors.As(err, &format):
		r.add(name, uki.Finding{Severity: uki.SeverityError, Code: "malformed", Profile: -1, Text: format.Error()})
		return nil
	case err != nil:
		r.unread = errors.Join(r.unread, err)
		return nil
	}
	findings := f.Check()
	if image != nil {
		if kind != kindAddon {
			r.add(name, uki.Finding{Severity: uki.SeverityError, Code: "no-addon", Profile: -1, Text: "not an add-on, but a " + kindNames[kind]})
			return nil
		}
		findings = image.file.CheckAddon(f)
	}
	for _, x := range findings {
		r.add(name, x)
	}
	return &opened{src, f}
}

func (r *checkResult) add(name string, x uki.Finding) {
	switch x.Severity {
	case uki.SeverityError:
		r.Good = false
		r.errors++
	case uki.SeverityUnknown:
		r.Good = false
		r.unknown++
	}
	r.Findings = append(r.Findings, finding{name, x.Severity.String(), x.Code, x.Section, x.Profile, x.Text, x})
}

func (r *checkResult) text() string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%s: %s\n", f.File, printable(f.said.String()))
	}
	return b.String()
}
