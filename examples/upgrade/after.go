package main

import (
	"flag"
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/upgrade"
)

func commitFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	return entryFlags(set, "committed: %s\n", upgrade.Commit)
}

func rollbackFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	return entryFlags(set, "rolled back: %s is marked as bad, and the next start is one of another entry\n", func(disk osmith.Disk, m upgrade.Machine, entry string) (string, error) {
		if err := loaderKnown(m); err != nil {
			return "", err
		}
		return upgrade.Rollback(disk, m, entry)
	})
}

// entryFlags are those of a verb that changes one entry.
func entryFlags(set *flag.FlagSet, text string, do func(osmith.Disk, upgrade.Machine, string) (string, error)) func(*cli.Call, []string) error {
	f := newCommon(set)
	entry := set.String("entry", "", "`path` on the ESP or id of the entry, with any boot counter (default: what runs)")
	return func(c *cli.Call, _ []string) error {
		s, err := f.open(c, true)
		if err != nil {
			return err
		}
		if *entry == "" && s.Offline && c.Verb != "commit" {
			return cli.Usagef("-entry is missing: a machine that is off runs none")
		}
		name, err := do(s.disk, s.machine, *entry)
		if err != nil {
			return err
		}
		return c.Answer(entryResult{s.head, name}, fmt.Sprintf(text, name))
	}
}

func cancelFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	f := newCommon(set)
	return func(c *cli.Call, _ []string) error {
		s, err := f.open(c, true)
		if err != nil {
			return err
		}
		if err := loaderKnown(s.machine); err != nil {
			return err
		}
		gone, err := upgrade.Cancel(s.disk, s.machine)
		if err != nil {
			if len(gone) > 0 {
				err = fmt.Errorf("%w; already gone: %s", err, strings.Join(gone, ", "))
			}
			return err
		}
		text := "nothing to take back\n"
		if len(gone) > 0 {
			text = "taken back:\n  " + strings.Join(gone, "\n  ") + "\n"
		}
		return c.Answer(cancelResult{s.head, append([]string{}, gone...)}, text)
	}
}

// loaderKnown refuses a call that does not say what the loader may start.
func loaderKnown(m upgrade.Machine) error {
	if m.Loader == nil {
		return cli.Usagef("which variables choose an entry of the loader is not known: give -vars with a copy of efivarfs, or say -no-loader-variables")
	}
	return nil
}
