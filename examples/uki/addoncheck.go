package main

import (
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/osmith-dev/osmith/examples/internal/cli"
)

func addonCheckFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	j := new(judging)
	j.flags(set)
	image := set.String("uki", "", "`file` with the image that the add-on is for")
	return func(c *cli.Call, operands []string) error {
		if err := cli.Required("uki", *image); err != nil {
			return err
		}
		if err := j.firmware.read(); err != nil {
			return err
		}
		_, f, err := openUKI(c, *image, *j.assume)
		if err != nil {
			return err
		}
		add, err := readAddon(c, operands[0], filepath.Base(operands[0]))
		if err != nil {
			return err
		}
		r := newAddonResult(c, operands[0])
		if err := j.judge(r, f, nil, false, add); err != nil {
			return err
		}
		return errors.Join(r.no(), c.Answer(r, r.text()))
	}
}

func newAddonResult(c *cli.Call, file string) *addonResult {
	return &addonResult{checkResult: checkResult{header: newHeader(c, file), Good: true, Findings: []finding{}}, Refusals: []refusal{}}
}

// no is why the answer is one; nil if it is yes.
func (r *addonResult) no() error {
	if r.Good {
		return nil
	}
	text := count(r.errors, "error") + " found"
	if r.unknown > 0 {
		text += fmt.Sprintf(", %d not known", r.unknown)
	}
	return cli.No{Err: errors.New(text)}
}

func (r *addonResult) text() string {
	var b strings.Builder
	b.WriteString(r.checkResult.text())
	line := func(format string, args ...any) { fmt.Fprintf(&b, "  "+format+"\n", args...) }
	for _, f := range r.Refusals {
		if f.Overridden {
			line("overridden    %s: %s", printable(f.Text), f.Reason)
		}
	}
	if r.Cmdline != "" {
		line("appends       %s", printable(r.Cmdline))
	}
	if r.Signature != "" {
		line("signature     %s: %s", r.Signature, printable(r.SignatureReason))
	}
	if r.PCR12 != "" {
		line("command line  %s", printable(r.KernelCmdline))
		line("PCR 12        sha256 %s", r.PCR12)
		line("    without   sha256 %s (both by what the stub alone measures)", r.PCR12Before)
	}
	switch {
	case r.Unchanged:
		line("%s has this content already", r.Place)
	case r.Installed:
		line("installed as %s", r.Place)
	}
	return b.String()
}
