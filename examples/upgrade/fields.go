package main

import (
	"flag"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/upgrade"
)

// fieldFlags are the flags that say what package upgrade calls by the names of Go fields.
var fieldFlags = map[string]string{
	"AssumeLoader":  "-assume-loader",
	"ESP":           "-esp-id",
	"Firmware":      "-vars",
	"Floor":         "-floor",
	"Loader":        "-vars with a copy of efivarfs, or -no-loader-variables",
	"Mounted":       "-esp or -mounted",
	"NoSecureBoot":  "-no-secure-boot",
	"NoShim":        "-no-shim",
	"NothingSealed": "-nothing-sealed",
	"Offline":       "-offline",
	"PCRKeys":       "-pcr-key",
	"Running":       "-machine, or the machine that this runs on",

	"EraseForEverTheDiskWithThisDigest": "-erase-for-ever",
	"Recovery":                          "-recovery",
	"Tries":                             "-tries",
	"Variables":                         "-boot-option",
}

var fieldName = regexp.MustCompile(`\b(?:(?:Machine|PlanOptions|InstallOptions)\.)?([A-Z]\w+)`)

// flagsFor says by which flags a person gives what a text asks for; "" if it names no field that
// has one.
func flagsFor(text string) string {
	var found []string
	for _, m := range fieldName.FindAllStringSubmatch(text, -1) {
		told, ok := fieldFlags[m[1]]
		if m[0] == m[1] && !strings.HasPrefix(m[1], "No") && m[1] != "AssumeLoader" {
			continue // a word of the text
		}
		if word := fmt.Sprintf("%s: %s", m[0], told); ok && !slices.Contains(found, word) {
			found = append(found, word)
		}
	}
	return strings.Join(found, "; ")
}

// explained adds to the errors of a verb by which flags it can be told what it lacks.
func explained(verb func(*flag.FlagSet) func(*cli.Call, []string) error) func(*flag.FlagSet) func(*cli.Call, []string) error {
	return func(set *flag.FlagSet) func(*cli.Call, []string) error {
		do := verb(set)
		return func(c *cli.Call, operands []string) error {
			err := do(c, operands)
			if err == nil {
				return nil
			}
			if is[*upgrade.InUseError](err) {
				return fmt.Errorf("%w; a boot partition that is mounted is written through the kernel with -esp or -mounted", err)
			}
			if told := flagsFor(err.Error()); told != "" {
				return fmt.Errorf("%w; as flags, %s", err, told)
			}
			return err
		}
	}
}

// planText is the plan for a person, with the flags that would tell what is not known.
func planText(p fmt.Stringer) string {
	text := p.String()
	if told := flagsFor(text); told != "" {
		text += "  flags    " + told + "\n"
	}
	return text
}
