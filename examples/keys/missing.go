package main

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// missing tells what a machine lacks of a set of published updates, and which of them it takes.
func missingFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	vars := set.String("vars", "", "`directory` of efivarfs or variable store")
	firmware := firmwareFlag(set)
	return func(c *cli.Call, operands []string) error {
		if err := cli.Required("vars", *vars); err != nil {
			return err
		}
		named, err := firmware()
		if err != nil {
			return err
		}
		v, err := readVariables(*vars)
		if err != nil {
			return err
		}
		var updates []secureboot.PublishedUpdate
		for _, name := range operands {
			b, err := cli.ReadFile(name, maxUpdate)
			if err != nil {
				return err
			}
			updates = append(updates, secureboot.PublishedUpdate{Name: name, Auth: b})
		}
		choice, err := secureboot.ChooseUpdates(v, updates, secureboot.ApplyOptions{Firmware: named})
		if err != nil {
			return fmt.Errorf("%s: %w", *vars, err)
		}
		r := missingListResult{Header: c.Header(), Updates: []updateResult{}, Missing: missingEntries(choice.Missing), StillMissing: missingEntries(choice.StillMissing)}
		var text strings.Builder
		unreadable := 0
		for _, u := range choice.Updates {
			o := updateResult{Name: u.Name, Variable: u.Variable, Append: u.Append, Taken: u.Refused == nil, New: len(u.New)}
			if u.Variable == "" {
				unreadable++
			}
			if u.Refused != nil {
				o.Refused = u.Refused.Error()
				fmt.Fprintf(&text, "%s: the machine does not take it: %v\n", u.Name, u.Refused)
			} else {
				fmt.Fprintf(&text, "%s: the machine takes it: new in %s: %d\n", u.Name, u.Variable, len(u.New))
			}
			r.Updates = append(r.Updates, o)
		}
		writeMissing(&text, "missing now", r.Missing)
		writeMissing(&text, "missing after what the machine takes", r.StillMissing)
		if err := c.Answer(r, strings.ToValidUTF8(text.String(), "?")); err != nil {
			return err
		}
		switch {
		case unreadable > 0:
			return cli.No{Err: fmt.Errorf("%d of the updates cannot be read or were signed for no variable", unreadable)}
		case len(r.Missing) > 0:
			return cli.No{Err: errors.New("the machine lacks entries of the updates")}
		}
		return nil
	}
}

// writeMissing prints entries by variable, list and owner.
func writeMissing(text *strings.Builder, title string, all []missingResult) {
	if len(all) == 0 {
		fmt.Fprintf(text, "%s: nothing\n", title)
		return
	}
	last := ""
	for _, m := range all {
		if group := fmt.Sprintf("%s: %s, %s of owner %s\n", title, m.Variable, m.Type, m.Owner); group != last {
			text.WriteString(group)
			last = group
		}
		have := ""
		if m.SVN != nil {
			have = ", the machine asks for none"
			if m.Have != nil {
				have = ", the machine asks for " + m.Have.Version
			}
		}
		fmt.Fprintf(text, "  %s%s\n", m.entryResult, have)
	}
}

// missingEntries are entries sorted by variable, list and owner.
func missingEntries(all map[string][]secureboot.MissingEntry) []missingResult {
	list := []missingResult{}
	for variable, entries := range all {
		for _, m := range entries {
			list = append(list, missingResult{Variable: variable, Type: secureboot.TypeName(m.Type), entryResult: newEntry(m.Type, m.Signature), Have: newSVN(m.Have)})
		}
	}
	slices.SortStableFunc(list, func(a, b missingResult) int {
		return strings.Compare(a.Variable+" "+a.Type+" "+a.Owner.String(), b.Variable+" "+b.Type+" "+b.Owner.String())
	})
	return list
}

// missingResult is an entry that the machine lacks.
type missingResult struct {
	Variable string `json:"variable"`
	Type     string `json:"type"` // of its list: X509, SHA256...
	entryResult
	Have *svnResult `json:"have,omitempty"` // the version that the machine asks for
}
