package oracle

import (
	"fmt"
	"strings"
)

// LoaderVariables are the EFI variables of vendor 4a67b082-0a4c-41cf-b6c7-440b29bb8c4f by which the
// boot loader chooses, as text; "" is not set. Values but LastBooted are patterns.
type LoaderVariables struct {
	OneShot    string // LoaderEntryOneShot, which the loader deletes
	Preferred  string // LoaderEntryPreferred, since 260
	Default    string // LoaderEntryDefault
	LastBooted string // LoaderEntryLastBooted
}

// Machine is a machine before it is switched on, as far as firmware and boot loader look at it. It
// does not change: the machine after a start is in [Choice.Next].
type Machine struct {
	ESP       BootFiles // as firmware reads them: see [Volume.BootFiles]
	XBOOTLDR  BootFiles // those of an extended boot loader partition; nil if there is none
	Variables LoaderVariables

	// Version is the release of systemd-boot, if it is to be another than the loader's file says.
	Version int
	// Architecture is EFI's name of it, x64 if it is "".
	Architecture string
	// NoRename is a firmware that cannot rename files, such as U-Boot 2025.01.
	NoRename bool
	// Refuses, if it is not nil, says why firmware does not start a program that it could load: its
	// signature is not trusted.
	Refuses func(path string) error
}

func (m Machine) architecture() string {
	if m.Architecture == "" {
		return "x64"
	}
	return lowerCase(m.Architecture)
}

// loaderPath is where firmware looks for a boot loader if no variable says where it is (UEFI 2.11,
// section 3.5.1.1).
func (m Machine) loaderPath() string {
	return "EFI/BOOT/BOOT" + strings.ToUpper(m.architecture()) + ".EFI"
}

// Outcome says how a start ends.
type Outcome int

// The outcomes of a start.
const (
	// OutcomeNothing is that firmware finds no boot loader that it can start.
	OutcomeNothing Outcome = iota
	// OutcomeDirect is that firmware starts a program in the loader's place that is no
	// systemd-boot.
	OutcomeDirect
	// OutcomeStarted is that the loader starts the program of an entry.
	OutcomeStarted
	// OutcomeFailed is that firmware refuses or cannot load the program of the entry that the
	// loader chose. The loader does not go on with the next one: it waits at its menu, or since 258
	// starts the machine again ([Choice.Restarts]).
	OutcomeFailed
	// OutcomeMenu is that a person has to come: the loader has no entry but the firmware's setup,
	// or is told to wait at its menu.
	OutcomeMenu
)

// String is the outcome's name.
func (o Outcome) String() string {
	return [...]string{"no boot loader", "started without a boot loader", "started", "cannot be loaded", "waits at the menu"}[o]
}

// BootReason says what made the loader choose an entry.
type BootReason int

// The reasons, in the order in which the loader asks.
const (
	BootReasonNone            BootReason = iota
	BootReasonOneShot                    // LoaderEntryOneShot
	BootReasonPreferred                  // LoaderEntryPreferred
	BootReasonConfigPreferred            // preferred in loader.conf
	BootReasonDefault                    // LoaderEntryDefault
	BootReasonConfigDefault              // default in loader.conf
	BootReasonFirst                      // it is the first in the menu
)

// String is the reason's name.
func (r BootReason) String() string {
	return [...]string{"none", "one-shot variable", "preferred variable", "preferred in loader.conf", "default variable", "default in loader.conf", "first in the menu"}[r]
}

// Choice is what happens when a machine is switched on.
type Choice struct {
	Outcome Outcome
	Reason  BootReason
	Version int         // of the boot loader
	Menu    []BootEntry // in the loader's order
	Entry   *BootEntry  // what it chose; nil if nothing
	Image   string      // path of the program that is started, after the entry was renamed
	From    string      // the path of the entry before that; "" if it was not renamed
	To      string      // and after it
	// Err says why a file was not renamed, or a program not loaded.
	Err string
	// Restarts says, of OutcomeFailed, that the loader starts the machine again after some seconds.
	Restarts bool
	// Next is the machine when it is switched on again.
	Next Machine
}

// String is the choice in one line.
func (c Choice) String() string {
	s := c.Outcome.String()
	if c.Image != "" {
		s += " " + c.Image
	}
	if c.Entry != nil {
		s += " (" + c.Reason.String() + ")"
	}
	if c.Err != "" {
		s += ": " + c.Err
	}
	return s
}

// Boot is the choice of a machine with these file systems. xbootldr may be nil.
func Boot(esp, xbootldr *Volume, v LoaderVariables) Choice {
	m := Machine{ESP: esp.BootFiles(), Variables: v}
	if xbootldr != nil {
		m.XBOOTLDR = xbootldr.BootFiles()
	}
	return m.Boot()
}

// Chain is what happens when the machine is switched on again and again and no boot is marked good:
// all choices up to the first that changes nothing, at most so many.
func (m Machine) Chain(most int) (chain []Choice) {
	for len(chain) < most {
		c := m.Boot()
		chain = append(chain, c)
		if c.From == "" && c.Next.Variables == m.Variables {
			break
		}
		m = c.Next
	}
	return chain
}

// Boot says what happens when the machine is switched on.
func (m Machine) Boot() Choice {
	c := Choice{Next: m}
	loader, ok := m.ESP.find(m.loaderPath())
	if !ok || loader.Dir {
		c.Err = "there is no " + m.loaderPath()
		return c
	}
	if err := m.refused(loader); err != nil {
		c.Err = fmt.Sprintf("%s: %v", loader.Path, err)
		return c
	}
	if c.Version = m.Version; c.Version == 0 {
		if c.Version, ok = loaderVersion(loader); !ok {
			c.Outcome, c.Image = OutcomeDirect, loader.Path
			return c
		}
	}
	entries := m.entriesOf(m.ESP, false, c.Version)
	if m.XBOOTLDR != nil {
		entries = append(entries, m.entriesOf(m.XBOOTLDR, true, c.Version)...)
	}
	sortMenu(entries, c.Version)
	for _, e := range entries {
		c.Menu = append(c.Menu, *e)
	}
	config := m.config(c.Version)
	c.Outcome = OutcomeMenu
	c.Next.Variables.OneShot = ""
	if c.Entry, c.Reason = m.choose(entries, config, c.Version); c.Entry == nil || config.waits {
		c.Err = "there is no entry"
		if config.waits {
			c.Err = "loader.conf says that it waits"
		}
		return c
	}
	switch {
	case !m.saves(config):
		c.Next.Variables.LastBooted = ""
	case !equalFold(m.Variables.OneShot, c.Entry.ID):
		c.Next.Variables.LastBooted = c.Entry.ID
	}
	c.start(m)
	if c.Outcome == OutcomeFailed && c.Version >= sinceRestart {
		c.Restarts = config.restarts == restartsYes || config.restarts == restartsAuto && c.Entry.counts(c.Version) && !c.Entry.Bad()
	}
	return c
}

// refused says why firmware does not start a program.
func (m Machine) refused(f BootFile) error {
	if err := loadable(f, m.architecture()); err != nil {
		return err
	}
	if m.Refuses != nil {
		return m.Refuses(f.Path)
	}
	return nil
}

// start counts the try and starts the program.
func (c *Choice) start(m Machine) {
	e := c.Entry
	fs, next := m.ESP, &c.Next.ESP
	if e.XBOOTLDR {
		fs, next = m.XBOOTLDR, &c.Next.XBOOTLDR
	}
	image := e.Image
	if e.counts(c.Version) {
		from, to := e.Path, e.countedName()
		_, taken := fs.find(to)
		switch {
		case m.NoRename:
			c.Err = from + " is not renamed: the firmware cannot"
		case taken && !equalFold(from, to):
			c.Err = from + " is not renamed: there is " + to
		default:
			c.From, c.To = from, to
			*next = fs.renamed(from, to)
			if e.Kind == EntryUKI {
				image = to
			}
		}
	}
	c.Outcome = OutcomeStarted
	if c.Image = image; e.Kind == EntryConfUKIURL {
		return
	}
	f, ok := next.find(image)
	if !ok {
		c.Outcome, c.Err = OutcomeFailed, image+" is not there"
		return
	}
	c.Image = f.Path
	if err := m.refused(f); err != nil {
		c.Outcome, c.Err = OutcomeFailed, err.Error()
	}
}
