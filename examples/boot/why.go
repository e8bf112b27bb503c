package main

import (
	"flag"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/internal/cli"
)

// mostStarts bounds how far ahead is looked.
const mostStarts = 64

func whyFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	f := newCommon(set, "")
	return func(c *cli.Call, operands []string) error {
		m, menu, err := f.read(c, false)
		if err != nil {
			return err
		}
		chosen, reason := menu.Default(m.Variables)
		out := whyResult{Header: c.Header(), Loader: m.loader, Vars: m.known, Reason: string(reason), Because: because(menu, m.Variables, chosen, reason), WhyNot: []string{}, Starts: []startsObject{}}
		if chosen != nil {
			o := entryOf(chosen, chosen)
			out.Default = &o
		}
		if len(operands) > 0 {
			asked, err := findEntry(menu, operands[0])
			if err != nil {
				return err
			}
			o := entryOf(asked, chosen)
			out.Asked, out.WhyNot = &o, whyNot(menu, asked, chosen, reason)
		}
		if err := out.lookAhead(m); err != nil {
			return err
		}
		if err := c.Answer(out, strings.ToValidUTF8(out.text(m), "?")); err != nil {
			return err
		}
		if chosen == nil {
			return cli.No{Err: fmt.Errorf("the loader starts nothing: %s", reason)}
		}
		return nil
	}
}

// findEntry finds an entry by its id or path, with any boot counter or none.
func findEntry(menu *bootloader.Menu, name string) (*bootloader.Entry, error) {
	var found []*bootloader.Entry
	for _, is := range []func(*bootloader.Entry) bool{
		func(e *bootloader.Entry) bool { return on(e.XBOOTLDR, e.Path) == name },
		func(e *bootloader.Entry) bool { return e.Path == name },
		func(e *bootloader.Entry) bool { return strings.EqualFold(e.ID, name) },
		func(e *bootloader.Entry) bool {
			_, good := e.Good()
			plain := uncounted(name)
			return strings.EqualFold(good, plain) || strings.EqualFold(path.Base(good), plain)
		},
	} {
		for _, e := range menu.Entries {
			if is(e) {
				found = append(found, e)
			}
		}
		if len(found) > 0 {
			break
		}
	}
	if len(found) == 0 {
		for _, f := range menu.Findings {
			if f.Path == name || path.Base(f.Path) == path.Base(name) {
				return nil, cli.No{Err: fmt.Errorf("%s is not in the menu: %w", on(f.XBOOTLDR, f.Path), f.Err)}
			}
		}
		return nil, cli.No{Err: fmt.Errorf("%s is not in the menu: boot list shows what is", name)}
	}
	// Profiles are one file, of which the first one is meant.
	for _, e := range found[1:] {
		if e.Path != found[0].Path || e.XBOOTLDR != found[0].XBOOTLDR {
			return nil, cli.No{Err: fmt.Errorf("%s is both %s and %s: name the path", name, on(found[0].XBOOTLDR, found[0].Path), on(e.XBOOTLDR, e.Path))}
		}
	}
	return slices.MinFunc(found, func(a, b *bootloader.Entry) int { return a.Profile - b.Profile }), nil
}

// uncounted is a name without its boot counter.
func uncounted(name string) string {
	suffix := path.Ext(name)
	if stem, _, ok := bootloader.ParseName(name, suffix); ok {
		return stem + suffix
	}
	return name
}

// because is what a reason says, in words.
func because(menu *bootloader.Menu, v bootloader.Variables, chosen *bootloader.Entry, reason bootloader.Reason) []string {
	named := func(where, pattern, after string) []string {
		text := fmt.Sprintf("%s names it (%s)", where, pattern)
		if strings.EqualFold(pattern, "@saved") {
			text = fmt.Sprintf("%s names what was started last (LoaderEntryLastBooted is %s)", where, v.EntryLastBooted)
		}
		return []string{text + after}
	}
	const anyTries = ", whether it has tries left or not"
	switch reason {
	case bootloader.ReasonSysFail:
		return named("an update of the firmware has failed, and LoaderEntrySysFail", v.EntrySysFail, anyTries)
	case bootloader.ReasonOneShot:
		return named("LoaderEntryOneShot", v.EntryOneShot, ", for one start only")
	case bootloader.ReasonPreferred:
		return named("LoaderEntryPreferred", v.EntryPreferred, ", as long as it has tries left")
	case bootloader.ReasonConfigPreferred:
		return named("preferred in loader.conf", menu.Config.Preferred, ", as long as it has tries left")
	case bootloader.ReasonDefault:
		return named("LoaderEntryDefault", v.EntryDefault, anyTries)
	case bootloader.ReasonConfigDefault:
		return named("default in loader.conf", menu.Config.Default, anyTries)
	case bootloader.ReasonNothing:
		return []string{string(reason)}
	}
	text := []string{"neither a variable nor loader.conf names an entry that there is, so it is the first one of the menu that starts by itself"}
	if next := slices.Index(menu.Entries, chosen) + 1; next < len(menu.Entries) {
		text = append(text, "it comes "+before(chosen, menu.Entries[next]))
	}
	return text
}

// before says by what an entry comes before another.
func before(a, b *bootloader.Entry) string {
	text := fmt.Sprintf("before %s ", on(b.XBOOTLDR, b.Path))
	switch _, step := bootloader.CompareEntries(a, b); step {
	case bootloader.OrderTries:
		return text + "since that has no tries left"
	case bootloader.OrderSorted:
		return text + "since that has no sort-key"
	case bootloader.OrderSortKey:
		return text + fmt.Sprintf("by sort-key: %q against %q", a.SortKey, b.SortKey)
	case bootloader.OrderMachineID:
		return text + fmt.Sprintf("by machine-id: %q against %q", a.MachineID, b.MachineID)
	case bootloader.OrderVersion:
		return text + fmt.Sprintf("by version: %q is newer than %q", a.Version, b.Version)
	case bootloader.OrderProfile:
		return text + fmt.Sprintf("by profile: %d against %d", a.Profile, b.Profile)
	case bootloader.OrderID:
		return text + fmt.Sprintf("by id: %s is newer than %s", a.ID, b.ID)
	case bootloader.OrderCounter:
		return text + fmt.Sprintf("by boot counter: %s against %s", counter(a), counter(b))
	}
	return text + "by nothing but the order of the files"
}

// whyNot says why an entry is not started.
func whyNot(menu *bootloader.Menu, asked, chosen *bootloader.Entry, reason bootloader.Reason) []string {
	if asked == chosen {
		return []string{}
	}
	var text []string
	if reason != bootloader.ReasonOrder {
		text = append(text, fmt.Sprintf("%s comes first: %s, which goes before the order of the menu", chosen.ID, reason))
	}
	switch {
	case asked.Bad():
		text = append(text, fmt.Sprintf("it has no tries left: it was started %d times, or marked, and not declared good", asked.TriesDone))
	case asked.Profile > 0 && menu.Release.FirstProfile:
		text = append(text, fmt.Sprintf("it is profile %d of its image, and only the first one starts by itself", asked.Profile))
	case reason == bootloader.ReasonOrder:
		text = append(text, fmt.Sprintf("%s comes %s", on(chosen.XBOOTLDR, chosen.Path), before(chosen, asked)))
	}
	if asked.Damage != "" {
		text = append(text, "and it could not start: "+asked.Damage)
	}
	return text
}

// lookAhead follows the starts of a machine on which nothing is ever declared good.
func (out *whyResult) lookAhead(m *machine) error {
	view, v := m.trial(), m.Variables
	for range mostStarts {
		menu, err := m.menu(view.esp, view.xbootldr, false)
		if err != nil {
			return err
		}
		e, reason := menu.Default(v)
		if e == nil {
			return nil
		}
		from, to := e.Boot()
		after := menu.Started(v, e)
		if from != to && (readOnly(view, e) || !view.rename(e.XBOOTLDR, from, to)) {
			to = from
		}
		last := len(out.Starts) - 1
		if last >= 0 && out.Starts[last].ID == e.ID && out.Starts[last].After == from && out.Starts[last].Reason == string(reason) {
			out.Starts[last].Count++
			out.Starts[last].After = to
		} else {
			out.Starts = append(out.Starts, startsObject{e.ID, from, to, string(reason), 1})
		}
		if after == v && (from == to || e.Bad() && alone(menu, e)) {
			out.Endless = true
			return nil
		}
		v = after
	}
	return nil
}

// alone reports whether no other entry has the id. Of two with no tries left that have, the one
// with fewer starts comes first, so that they take turns.
func alone(menu *bootloader.Menu, e *bootloader.Entry) bool {
	return !slices.ContainsFunc(menu.Entries, func(o *bootloader.Entry) bool { return o != e && strings.EqualFold(o.ID, e.ID) })
}

// readOnly reports whether the loader leaves the name of a file alone since the file is marked.
func readOnly(t *trial, e *bootloader.Entry) bool {
	at := t.esp
	if e.XBOOTLDR {
		at = t.xbootldr
	}
	info, err := fs.Stat(at, e.Path)
	return err == nil && info.Mode()&0o222 == 0
}

func (out *whyResult) text(m *machine) string {
	var b strings.Builder
	b.WriteString(out.Loader.head())
	if d := out.Default; d != nil {
		fmt.Fprintf(&b, "starts %s  %q  %s%s\n", d.ID, d.Title, on(d.XBOOTLDR, d.Path), m.unlessVariables())
		if d.Damage != "" {
			fmt.Fprintf(&b, "  and that fails: %s\n", d.Damage)
		}
	}
	for _, line := range out.Because {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	if asked := out.Asked; asked != nil && !asked.Default {
		fmt.Fprintf(&b, "not %s  %q  %s\n", asked.ID, asked.Title, on(asked.XBOOTLDR, asked.Path))
		for _, line := range out.WhyNot {
			fmt.Fprintf(&b, "  %s\n", line)
		}
	}
	if len(out.Starts) > 1 || len(out.Starts) == 1 && out.Starts[0].Count > 1 {
		b.WriteString("if no start is ever declared good:\n")
	} else {
		return b.String()
	}
	for i, s := range out.Starts {
		times := fmt.Sprintf("%d times", s.Count)
		switch {
		case out.Endless && i == len(out.Starts)-1:
			times = "from then on"
		case s.Count == 1:
			times = "once"
		}
		fmt.Fprintf(&b, "  %s: %s", times, s.Path)
		if s.After != s.Path {
			fmt.Fprintf(&b, " -> %s", path.Base(s.After))
		}
		fmt.Fprintf(&b, "  (%s)\n", s.Reason)
	}
	if !out.Endless {
		b.WriteString("  and so on\n")
	}
	return b.String()
}
