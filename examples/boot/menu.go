package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"strings"

	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/examples/internal/espvolume"
	"github.com/osmith-dev/osmith/examples/internal/loaderfiles"
	"github.com/osmith-dev/osmith/internal/arch"
)

// common are the flags of all verbs that read the menu.
type common struct {
	espvolume.Place
	vars     string
	loaderAs int
}

func newCommon(set *flag.FlagSet, vars string) *common {
	f := new(common)
	f.Place.Flags(set)
	set.StringVar(&f.vars, "vars", vars, "`file` of a variable store, copy of efivarfs, efivarfs for this machine, or none")
	set.IntVar(&f.loaderAs, "loader-as", 0, "treat a systemd-boot of an unknown release as the one of this `release`")
	return f
}

// A machine is what the loader sees: file systems and variables.
type machine struct {
	*espvolume.Volumes
	*variables
	loader  loaderObject
	options bootloader.MenuOptions
}

// open opens file systems and variables, and finds the loader.
func (f *common) open(c *cli.Call, write bool) (*machine, error) {
	v, err := f.Place.Open(c, write)
	if err != nil {
		return nil, err
	}
	vars, err := readVariables(c, f.vars)
	if err != nil {
		return nil, err
	}
	m := &machine{Volumes: v, variables: vars, options: bootloader.MenuOptions{AssumeLoader: f.loaderAs}}
	return m, m.findLoader()
}

// read opens them and reads the menu: all of it, or an error, if something is going to be changed.
func (f *common) read(c *cli.Call, write bool) (*machine, *bootloader.Menu, error) {
	m, err := f.open(c, write)
	if err != nil {
		return nil, nil, err
	}
	menu, err := m.menu(m.ESP, m.XBOOTLDR, write)
	return m, menu, err
}

// findLoader finds the systemd-boot that firmware starts: by its boot option from EFI/systemd, or
// else from EFI/BOOT, itself or behind shim. Without one the newest release is followed.
func (m *machine) findLoader() error {
	m.loader.Architecture = arch.X8664.EFI
	for i := range arch.Table {
		a := &arch.Table[i]
		found, err := loaderfiles.Find(m.ESP, a, func(arch.LoaderPlace) bool { return true })
		if err != nil {
			return err
		}
		if found != nil && !errors.Is(found.Err, bootloader.ErrNotLoader) {
			if found.Err != nil {
				return fmt.Errorf("%s: %w", found.Path, found.Err)
			}
			m.loader = loaderObject{Path: found.Path, Version: string(found.Version), Architecture: a.EFI}
			m.options.Self, m.options.Architecture, m.options.LoaderVersion = found.Path, a.EFI, found.Version
			return nil
		}
	}
	return nil
}

// menu reads the menu, with files that cannot be read among its findings unless they must be known.
func (m *machine) menu(esp, xbootldr fs.FS, all bool) (*bootloader.Menu, error) {
	o := m.options
	o.KeepGoing = !all
	if m.XBOOTLDR != nil {
		o.XBOOTLDR = xbootldr
	}
	menu, err := bootloader.ReadMenu(esp, o)
	if has[*bootloader.LoaderVersionError](err) {
		return nil, fmt.Errorf("%s: %w: name in -loader-as the release that it is like", m.loader.Path, err)
	}
	if err != nil {
		return nil, err
	}
	m.loader.Rules, m.loader.Evidence = string(menu.Release.Version()), menu.Release.Evidence.String()
	return menu, nil
}

// head is the first line of list.
func (l loaderObject) head() string {
	if l.Path == "" {
		return fmt.Sprintf("no systemd-boot; by the rules of %s\n", l.Rules)
	}
	return fmt.Sprintf("%s: systemd-boot %s, by the rules of %s (%s)\n", l.Path, l.Version, l.Rules, l.Evidence)
}

// on says where a path is.
func on(xbootldr bool, path string) string {
	if xbootldr {
		return "XBOOTLDR:" + path
	}
	return path
}

// counter is the boot counter in words.
func counter(e *bootloader.Entry) string {
	switch {
	case !e.Counted:
		return "good"
	case e.Bad():
		return fmt.Sprintf("bad, after %d tries", e.TriesDone)
	}
	return fmt.Sprintf("%d tries left, %d done", e.TriesLeft, e.TriesDone)
}

func listFlags(set *flag.FlagSet) func(*cli.Call, []string) error {
	f := newCommon(set, "")
	return func(c *cli.Call, _ []string) error {
		m, menu, err := f.read(c, false)
		if err != nil {
			return err
		}
		chosen, reason := menu.Default(m.Variables)
		out := listResult{Header: c.Header(), Loader: m.loader, Vars: m.known, Entries: []entryObject{}, Reason: string(reason), Findings: findings(menu)}
		var b strings.Builder
		b.WriteString(m.loader.head())
		for _, e := range menu.Entries {
			out.Entries = append(out.Entries, entryOf(e, chosen))
			mark := " "
			if e == chosen {
				mark, out.Default = "*", e.ID
			}
			fmt.Fprintf(&b, "%s %s  %q  %s  %s  %s  %s\n", mark, e.ID, e.Title, orDash(e.Version), e.Type, counter(e), on(e.XBOOTLDR, e.Path))
		}
		fmt.Fprintf(&b, "* %s%s\n", reason, m.unlessVariables())
		for _, finding := range out.Findings {
			fmt.Fprintf(&b, "! %s: %s\n", on(finding.XBOOTLDR, finding.Path), finding.Text)
		}
		return c.Answer(out, strings.ToValidUTF8(b.String(), "?"))
	}
}

// unlessVariables is what a choice depends on.
func (m *machine) unlessVariables() string {
	if m.known {
		return ""
	}
	return ", if no variable says otherwise (-vars)"
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// findings are those of the menu, those of loader.conf among them.
func findings(menu *bootloader.Menu) []findingObject {
	all := []findingObject{}
	for _, l := range menu.Config.Ignored {
		all = append(all, findingObject{Path: "loader/loader.conf", Text: fmt.Sprintf("line %d: %s %s: %s", l.Line, l.Key, l.Value, l.Reason)})
	}
	for _, f := range menu.Findings {
		all = append(all, findingObject{f.Path, f.XBOOTLDR, f.Err.Error()})
	}
	return all
}
