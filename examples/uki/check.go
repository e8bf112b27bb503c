package main

import (
	"errors"
	"flag"
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/uki"
)

func checkFlags(*flag.FlagSet) func(*cli.Call, []string) error {
	return func(c *cli.Call, operands []string) error {
		r := checkResult{header: newHeader(c, operands[0]), Good: true, Findings: []finding{}}
		image := check(c, &r, operands[0], nil)
		for _, name := range operands[1:] {
			check(c, &r, name, image)
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

// check adds what is found about a file, as an add-on of an image if one is given.
func check(c *cli.Call, r *checkResult, name string, image *uki.File) *uki.File {
	_, f, kind, err := openAny(c, name)
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
			return f
		}
		findings = image.CheckAddon(f)
	}
	for _, x := range findings {
		r.add(name, x)
	}
	return f
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
