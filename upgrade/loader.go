package upgrade

import (
	"errors"
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
)

// loaderRules are the rules by which the loader on the ESP lists and chooses entries.
type loaderRules struct {
	version osmith.Version // of the loader; "": it does not tell

	// rows are the releases of systemd-boot one of which it behaves like; none if nothing is known
	// about it (err), which is the newest's menu with a warning.
	rows []bootloader.Release
	err  error
}

func rulesOf(loader osmith.Source, assume int) (r loaderRules) {
	if r.version, r.err = bootloader.LoaderVersion(loader); r.err != nil && assume == 0 {
		return r
	}
	r.rows, r.err = bootloader.Between(r.version, assume)
	return r
}

// versions are those whose menus have to be read.
func (r *loaderRules) versions() (list []osmith.Version) {
	for _, row := range r.rows {
		list = append(list, row.Version())
	}
	if len(list) == 0 {
		return []osmith.Version{""}
	}
	return list
}

// by says, of a loader that was not looked at itself, which releases' rules stand for its own.
func (r *loaderRules) by() string {
	if r.err != nil {
		return fmt.Sprintf(", by the rules of systemd-boot %s", bootloader.Releases()[len(bootloader.Releases())-1].Version())
	}
	if n, err := r.version.Release(); len(r.rows) == 1 && err == nil && n == r.rows[0].Number {
		return ""
	}
	var names []string
	for _, v := range r.versions() {
		names = append(names, string(v))
	}
	return ", by the rules of systemd-boot " + strings.Join(names, " and ")
}

// choice is what the loader boots if no key is pressed.
type choice struct {
	entry *bootloader.Entry // nil: nothing
	why   bootloader.Reason
	// of whose rules that is, if they are not those of the loader's own release
	by   string
	menu *bootloader.Menu // the last one that was read
}

// chosenAfter is the loader's choice once the plan is applied. It is an error if that depends on
// what is not known about the loader.
func (p *Plan) chosenAfter() (c choice, err error) {
	c.by = p.state.by()
	var said []string
	same := true
	for i, version := range p.state.versions() {
		menu, entry, why, _, err := p.state.simulate(p.after(), version).start()
		if err != nil {
			return c, err
		}
		if i > 0 {
			same = same && (entry == nil) == (c.entry == nil) && (entry == nil || entry.Path == c.entry.Path && entry.Profile == c.entry.Profile)
		}
		c.entry, c.why, c.menu = entry, why, menu
		if entry == nil {
			said = append(said, fmt.Sprintf("%s would boot nothing", version))
		} else {
			said = append(said, fmt.Sprintf("%s would boot profile %d of %s (%s)", version, entry.Profile, entry.Path, why))
		}
	}
	if !same {
		return c, &LoaderUnknownError{Version: p.state.rules[0].version, Reason: strings.Join(said, ", ")}
	}
	return c, nil
}

// by says, if some loader was not looked at itself, which releases' rules stand for its own.
func (s *State) by() string {
	for i := range s.rules {
		if by := s.rules[i].by(); by != "" {
			return by
		}
	}
	return ""
}

// LoaderUnknownError is a reason of the boots or returns verdict: what the loader on the ESP would
// boot depends on unknown behaviour of its release.
type LoaderUnknownError struct {
	Version osmith.Version
	Reason  string
}

func (e *LoaderUnknownError) Error() string {
	return fmt.Sprintf("what systemd-boot %s boots is unknown: %s", e.Version, e.Reason)
}

// errLoaderUnknown is a restriction: the variables may choose another entry.
var errLoaderUnknown = errors.New("the loader's variables, which may make it choose a different entry, are unknown (Machine.Loader)")

// judgeChoice asks whether the loader will choose the new entry.
func (p *Plan) judgeChoice(j *Verdict) {
	switch c := p.choice; {
	case p.choiceErr != nil:
		j.fail(p.choiceErr)
	case c.entry == nil:
		j.fail(fmt.Errorf("the loader will boot nothing: %s", c.why))
	case c.menu.Config.Timeout == "menu-force":
		j.fail(ErrWaits)
	case c.entry.Path == p.Entry && c.entry.Profile != 0:
		j.fail(fmt.Errorf("the loader will boot profile %d of %s (%s), not its default one%s", c.entry.Profile, c.entry.Path, c.why, c.by))
	case c.entry.Path == p.Entry:
		j.pass("loader: will boot %s (%s)%s", c.entry.ID, c.why, c.by)
	case c.why.Pinned():
		j.fail(fmt.Errorf("%w: %s, so the loader boots %s and not the new version; clear it", ErrPinned, c.why, c.entry.Path))
	default:
		j.fail(fmt.Errorf("the loader prefers %s (%s): version %s sorts after it%s", c.entry.Path, c.why, p.Version, c.by))
	}
	for i := range p.state.rules {
		if err := p.state.rules[i].err; err != nil {
			j.warn("what the boot loader on the ESP does is unknown: %v", err)
		}
	}
	if p.machine.Loader == nil {
		j.warn("%v", errLoaderUnknown)
	}
}

// ownEntries begins the ids of entries that the loader makes itself, such as auto-windows, and that
// are in no menu here.
const ownEntries = "auto-"

// judgeStale mentions variables and settings that name no entry: they choose one as soon as one of
// that name is there.
func (p *Plan) judgeStale(j *Verdict) {
	menu := p.choice.menu
	if menu == nil {
		return
	}
	v, alone := p.machine.loader(), *menu
	for _, c := range []struct {
		why   bootloader.Reason
		value string
	}{
		{bootloader.ReasonOneShot, v.EntryOneShot}, {bootloader.ReasonPreferred, v.EntryPreferred}, {bootloader.ReasonDefault, v.EntryDefault},
		{bootloader.ReasonConfigPreferred, menu.Config.Preferred}, {bootloader.ReasonConfigDefault, menu.Config.Default},
	} {
		if strings.HasPrefix(strings.ToLower(c.value), ownEntries) {
			j.fail(fmt.Errorf("%w: %s is %q, an entry that the loader makes itself; clear it", ErrPinned, c.why, c.value))
		}
	}
	alone.Config = new(bootloader.Config)
	for _, c := range []struct {
		why   bootloader.Reason
		value string
		alone bootloader.Variables
	}{
		{bootloader.ReasonOneShot, v.EntryOneShot, bootloader.Variables{EntryOneShot: v.EntryOneShot}},
		{bootloader.ReasonPreferred, v.EntryPreferred, bootloader.Variables{EntryPreferred: v.EntryPreferred, EntryLastBooted: v.EntryLastBooted}},
		{bootloader.ReasonDefault, v.EntryDefault, bootloader.Variables{EntryDefault: v.EntryDefault, EntryLastBooted: v.EntryLastBooted}},
	} {
		if c.value == "" {
			continue
		}
		if _, why := alone.Default(c.alone); why != c.why {
			j.warn("%s is %q, which matches no entry now: it is stale, or will match a later entry", c.why, c.value)
		}
	}
}

// judgeRefusals notes what each loader does when firmware refuses an image.
func (p *Plan) judgeRefusals(j *Verdict) {
	for i := range p.state.rules {
		p.judgeRefusal(j, &p.state.rules[i])
	}
}

func (p *Plan) judgeRefusal(j *Verdict, rules *loaderRules) {
	if rules.err != nil {
		j.warn("the boot loader on the ESP is not a systemd-boot of a release that is known (%v): whether it counts tries is unknown", rules.err)
		return
	}
	if p.choiceErr != nil {
		return // judgeChoice says so
	}
	c := p.choice
	own, err := bootloader.FindRelease(rules.version, p.machine.AssumeLoader)
	n, versionErr := rules.version.Release()
	switch {
	case err != nil:
		j.warn("%v", err)
	case !own.RebootOnError:
		j.warn("systemd-boot %s stays in the firmware's menu after an image that the firmware refuses: recovering from a bad signature needs 258 or later, or a person", rules.version)
	case versionErr != nil || n != own.Number:
		j.warn("systemd-boot %q is taken for %d, as the caller says: whether it counts tries, and reboots after a refused image, was not seen", string(rules.version), own.Number)
	case c.entry != nil && c.entry.Path == p.Entry && !c.menu.RebootsOnError(c.entry):
		j.warn("systemd-boot %s does not reboot after an image that the firmware refuses: reboot-on-error in loader.conf is %q", rules.version, c.menu.Config.RebootOnError)
	default:
		j.pass("systemd-boot %s reboots by itself after a refused image", rules.version)
	}
}
