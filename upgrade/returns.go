package upgrade

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/osmith-dev/osmith/bootloader"
)

// rebootOnError is the first systemd-boot that reboots by itself when the firmware refuses an image.
const rebootOnError = 258

// ErrPinned is a reason of the boots or returns verdict: a default that names an entry keeps the loader from choosing.
var ErrPinned = errors.New("the loader's default is pinned")

// ErrNothingToReturnTo is a reason of the returns verdict for a disk on which no other entry would boot.
var ErrNothingToReturnTo = errors.New("no other entry to fall back to")

// menuWith is the loader's menu once the new entry is there under that name.
func (p *Plan) menuWith(entry string) (*bootloader.Menu, error) {
	o := overlay{FS: p.state.esp, name: entry, added: p.release.UKI}
	for _, f := range p.obsolete {
		o.gone = append(o.gone, f.path)
	}
	return bootloader.ReadMenu(o, p.state.menuOptions)
}

// judgeChoice asks whether the loader will choose the new entry.
func (p *Plan) judgeChoice(j *Judgement) {
	menu, err := p.menuWith(p.Entry)
	if err != nil {
		j.fail(err)
		return
	}
	chosen, why := menu.Default(p.machine.Loader)
	switch {
	case chosen == nil:
		j.fail(fmt.Errorf("upgrade: the loader will boot nothing: %s", why))
	case chosen.Path == p.Entry:
		j.pass("loader: will boot %s (%s)", chosen.ID, why)
	case why.Pinned():
		j.fail(fmt.Errorf("upgrade: %w: %s, so the loader boots %s and not the new version; clear it", ErrPinned, why, chosen.Path))
	default:
		j.fail(fmt.Errorf("upgrade: the loader prefers %s (%s): version %s sorts behind it", chosen.Path, why, p.Version))
	}
}

// judgeReturns asks what the loader boots once the new entry has used up its tries.
func (p *Plan) judgeReturns() Judgement {
	j := Judgement{Verdict: Returns}
	running := p.state.Running
	spent := bootloader.Counter{TriesDone: p.tries}
	menu, err := p.menuWith(path.Join(entryDir, p.identity.label()+spent.String()+".efi"))
	if err != nil {
		j.fail(err)
		return j
	}
	chosen, why := menu.Default(p.machine.Loader)
	switch {
	case chosen == nil:
		j.fail(fmt.Errorf("upgrade: %w", ErrNothingToReturnTo))
	case strings.EqualFold(chosen.Path, running.Path):
		j.pass("after %d failed boots the loader returns to %s", p.tries, running.Path)
	case why.Pinned():
		j.fail(fmt.Errorf("upgrade: %w: %s boots %s even when it has failed; clear it", ErrPinned, why, chosen.Path))
	default:
		j.warn("after %d failed boots the loader goes to %s, not to the running %s", p.tries, chosen.Path, running.Path)
	}
	if running.Counted && !running.Bad() {
		j.warn("the running version is not committed: it has %d tries left itself", running.TriesLeft)
	}
	if src, err := openFile(p.state.esp, running.Path); err != nil {
		j.fail(err)
	} else if im, err := p.machine.examine(running.Path, src); err != nil {
		j.fail(err)
	} else if err := im.refused(); err != nil {
		j.fail(err)
	}
	p.judgeLoader(&j)
	return j
}

// judgeLoader notes what the loader on the ESP does when firmware refuses an image.
func (p *Plan) judgeLoader(j *Judgement) {
	version, err := bootloader.LoaderVersion(p.state.loader)
	if err != nil {
		j.warn("the boot loader on the ESP is not a systemd-boot whose version can be read (%v): whether it counts tries is unknown", err)
		return
	}
	n, err := version.Release()
	switch {
	case err != nil:
		j.warn("%v", err)
	case n < rebootOnError:
		j.warn("systemd-boot %s stays in the firmware's menu after an image that the firmware refuses: coming back from a bad signature needs %d or later, or a person", version, rebootOnError)
	default:
		j.pass("systemd-boot %s reboots by itself after a refused image", version)
	}
}
