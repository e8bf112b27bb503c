package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/examples/internal/espvolume"
)

func blessFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	f := new(common)
	f.Place.Flags(set)
	set.StringVar(&f.vars, "vars", "efivarfs", "`file` of a variable store, copy of efivarfs, or efivarfs for this machine")
	uncounted := set.Bool("good-if-uncounted", false, "a boot that was not counted is good")
	return func(c *cli.Call, _ []string) error {
		volumes, err := f.Place.Open(c, true)
		if err != nil {
			return err
		}
		vars, err := readVariables(c, f.vars)
		if err != nil {
			return err
		}
		out := markResult{Header: c.Header()}
		if out.XBOOTLDR, out.From, out.Path, err = started(volumes, vars.BootCountPath, bootloader.StatusGood); err != nil {
			if *uncounted && errors.Is(err, bootloader.ErrNotCounted) {
				return c.Answer(out, "this boot was not counted: there is nothing to do\n")
			}
			return err
		}
		out.Counted = true
		if out.From == out.Path {
			return c.Answer(out, fmt.Sprintf("%s is good already\n", on(out.XBOOTLDR, out.Path)))
		}
		if err := volumes.Of(out.XBOOTLDR).Rename(out.From, out.Path); err != nil {
			return err
		}
		return c.Answer(out, fmt.Sprintf("good: %s, which was %s\n", on(out.XBOOTLDR, out.Path), path.Base(out.From)))
	}
}

// started is the rename that gives this boot a status, on the file system that has its entry.
func started(v *espvolume.Volumes, countPath string, to bootloader.Status) (xbootldr bool, from, target string, err error) {
	for i, fsys := range v.Each() {
		from, target, err = bootloader.Bless(fsys, countPath, to)
		if !errors.Is(err, bootloader.ErrNoEntry) {
			return i == 1, from, target, err
		}
	}
	return false, "", "", err
}

func badFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	f := newCommon(set, "")
	return func(c *cli.Call, operands []string) error {
		if f.vars == "" {
			file, _ := espvolume.CutPart(f.ESP)
			if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
				return cli.Usagef("-vars is missing: those of this machine are not those of %s; none: no variable is set there", file)
			}
			f.vars = "efivarfs"
		}
		m, menu, err := f.read(c, true)
		if err != nil {
			return err
		}
		e, to, err := m.toMark(menu, operands)
		if err != nil {
			return err
		}
		out := markResult{Header: c.Header(), Counted: e.Counted, XBOOTLDR: e.XBOOTLDR, From: e.Path, Path: to}
		view := m.trial()
		if out.From != out.Path && !view.rename(e.XBOOTLDR, out.From, out.Path) {
			return cli.No{Err: fmt.Errorf("%s: cannot be marked, since %s is there already: remove one of them", on(e.XBOOTLDR, e.Path), path.Base(out.Path))}
		}
		if menu, err = m.menu(view.esp, view.xbootldr, true); err != nil {
			return err
		}
		next, reason := menu.Default(m.Variables)
		if err := startsOther(e, out.Path, next, reason); err != nil {
			return cli.No{Err: err}
		}
		out.Next = next.ID
		if out.From != out.Path {
			if err := m.Of(e.XBOOTLDR).Rename(out.From, out.Path); err != nil {
				return err
			}
		}
		return c.Answer(out, strings.ToValidUTF8(fmt.Sprintf("bad: %s; the loader starts %s next (%s)\n", on(e.XBOOTLDR, out.Path), on(next.XBOOTLDR, next.Path), reason), "?"))
	}
}

// toMark is the entry that is named, or the one that was started, and the path that marks it.
func (m *machine) toMark(menu *bootloader.Menu, operands []string) (e *bootloader.Entry, to string, err error) {
	name := m.EntrySelected
	switch {
	case len(operands) > 0:
		name = operands[0]
	case m.BootCountPath != "":
		xbootldr, from, to, err := started(m.Volumes, m.BootCountPath, bootloader.StatusBad)
		if err != nil {
			return nil, "", err
		}
		e, err := findEntry(menu, on(xbootldr, from))
		return e, to, err
	case name == "":
		return nil, "", cli.Usagef("ENTRY is missing: -vars does not say what was started")
	}
	if e, err = findEntry(menu, name); err != nil {
		return nil, "", err
	}
	return e, badName(e), nil
}

// badName is the path by which an entry has no tries left. One without counter gets one that has
// run out.
func badName(e *bootloader.Entry) string {
	if _, to := e.MarkBad(); e.Counted {
		return to
	}
	suffix := path.Ext(e.Path)
	return strings.TrimSuffix(e.Path, suffix) + bootloader.Counter{}.String() + suffix
}

// startsOther says why nothing good would be started once an entry is marked.
func startsOther(marked *bootloader.Entry, now string, next *bootloader.Entry, reason bootloader.Reason) error {
	refused := fmt.Sprintf("%s is not marked as bad: ", on(marked.XBOOTLDR, marked.Path))
	switch {
	case next == nil:
		return errors.New(refused + "nothing else is in the menu")
	case next.Path == now && next.XBOOTLDR == marked.XBOOTLDR && reason.Pinned():
		return fmt.Errorf("%s%s has it started all the same: change that first", refused, reason)
	case next.Bad() && reason.Pinned():
		return fmt.Errorf("%s%s has %s started, which has no tries left", refused, reason, on(next.XBOOTLDR, next.Path))
	case next.Bad():
		return errors.New(refused + "no other entry has tries left")
	case next.Damage != "":
		return fmt.Errorf("%s%s would be started, and cannot: %s", refused, on(next.XBOOTLDR, next.Path), next.Damage)
	}
	return nil
}
