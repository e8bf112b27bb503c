package upgrade

import (
	"context"
	"fmt"

	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/uki"
)

// judge asks of the disk as it will be what [NewPlan] asks of one that is there.
func (p *InstallPlan) judge(ctx context.Context, fits Verdict) error {
	defer func() { override(p.Verdicts, p.options.Override) }()
	p.judgeUse(&fits)
	p.Verdicts = []Verdict{fits}
	if p.planned == nil { // it does not fit, and what comes of it cannot be told
		return ctx.Err()
	}
	set := p.set
	set.disk = checked(p.planned)
	set.machine = p.machine
	set.machine.ESP = p.Table.Partitions[p.espIndex].ID
	var err error
	if set.state, err = inspect(set.disk, &set.machine); err != nil {
		return err
	}
	if err := set.state.unfit(false); err != nil {
		return err
	}
	set.from = set.state.byPath(p.Entry)
	if set.from == nil {
		return fmt.Errorf("%s is not in the loader's menu: its name may not be valid for FAT or for the loader", p.Entry)
	}
	set.machine.judgeUKI(set.unified, p.Entry)
	companions, err := uki.ReadCompanions(volumeFS{set.state.esp, ""}, p.Entry)
	if err != nil {
		return err
	}
	set.unified.effective = set.machine.effectiveCmdline(set.identity.file, 0, "", companions)
	set.choice, set.choiceErr = set.chosenAfter()
	set.meter = meter{progress: p.options.Progress, total: sizeOf(set.release.Tree)}
	boots := set.judgeBoots(ctx)
	set.state.judgeKeys(&boots, set.from)
	p.judgeRecovery(&boots)
	p.judgeBootOption(&boots)
	p.Verdicts = append(p.Verdicts, boots, set.judgeUnlocks(), p.judgeReturns(), p.judgeFollows())
	if err := ctx.Err(); err != nil {
		return err
	}
	set.meter.end()
	set.Verdicts = p.Verdicts
	set.predict()
	p.Predicted = set.Predicted
	return nil
}

// judgeUse asks whether something uses the disk. It is asked again before the first write.
func (p *InstallPlan) judgeUse(j *Verdict) {
	release, err := p.exclusively()
	if err == nil {
		err = release()
	}
	if err != nil {
		j.fail(err)
	}
}

// exclusively keeps the kernel from using any of the disk.
func (p *InstallPlan) exclusively() (release func() error, err error) {
	return holdRange(p.disk.Disk, 0, p.disk.Size())
}

// judgeRecovery asks whether firmware starts the recovery system, also with the keys that are
// enrolled from the ESP.
func (p *InstallPlan) judgeRecovery(j *Verdict) {
	e := p.recovery()
	if e == nil {
		return
	}
	im, err := p.set.state.examineEntry(e)
	if err != nil {
		j.fail(err)
		return
	}
	im.judgeStart(j, e.Path)
	enrolled := Verdict{}
	p.set.state.judgeKeys(&enrolled, e)
	for _, r := range enrolled.Reasons {
		if r.Outcome != OutcomePass {
			j.add(r.Outcome, r.Text, r.Err)
		}
	}
}

// recovery is the entry of the recovery system; nil if there is none.
func (p *InstallPlan) recovery() *Entry {
	if p.options.Recovery == nil {
		return nil
	}
	return p.set.state.byPath(p.recoveryPath())
}

// judgeBootOption notes why firmware will have no boot option.
func (p *InstallPlan) judgeBootOption(j *Verdict) {
	switch {
	case p.BootOptionErr != nil:
		j.warn("no boot option is made, so firmware finds the loader only in EFI/BOOT: %v", p.BootOptionErr)
	case p.BootOption == nil:
		j.warn("no boot option is made (InstallOptions.Variables), so firmware finds the loader only in EFI/BOOT, and may have other boot options that come first")
	case p.BootOption.Inactive:
		j.warn("the boot option Boot%04X is switched off and stays so: firmware does not start it by itself", p.BootOption.Number)
	default:
		j.pass("firmware starts the loader by Boot%04X", p.BootOption.Number)
	}
}

// judgeReturns follows the starts of a system that is never found good. There is no earlier
// version; what can come is the recovery system.
func (p *InstallPlan) judgeReturns() Verdict {
	j := Verdict{Proof: ProofReturns}
	set, rescue := p.set, p.recovery()
	if p.machine.Loader == nil {
		j.warn("%v", errLoaderUnknown)
	}
	if rescue == nil {
		j.warn("the disk has no earlier version to return to, and no recovery system (InstallOptions.Recovery): if the system does not come up, it must be reinstalled")
		return j
	}
	if p.options.Tries == 0 {
		j.warn("the disk has no earlier version to return to, and the starts of %s are not counted (InstallOptions.Tries): %s is in the menu for a person", p.Entry, rescue.Path)
		return j
	}
	good := func(b *bootloader.Entry) error {
		if fat.SameName(b.Path, rescue.Path) && b.Profile == 0 {
			return nil
		}
		return &UncommittedError{b.Path}
	}
	for _, version := range set.state.versions() {
		links, _, err := set.state.simulate(set.after(), version).chain(good, set.state.refuses)
		if p.Chain = links; err != nil {
			j.fail(err)
			return j
		}
	}
	j.pass("after %d failed starts of %s the loader starts %s%s", p.options.Tries, p.Entry, rescue.Path, set.state.by())
	if im, err := set.state.examineEntry(rescue); err != nil {
		j.fail(err)
	} else {
		im.judgeStart(&j, rescue.Path)
	}
	switch kind := p.machine.FirmwareKind; kind {
	case secureboot.FirmwareUBoot202501, secureboot.FirmwareUBootLegacy:
		j.warn("whether firmware of the kind %s renames files is unknown: if it does not, the tries of the entry are never used up", kind)
	}
	return j
}

// judgeFollows asks whether the machine takes the version: nothing is there that it could follow.
func (p *InstallPlan) judgeFollows() Verdict {
	j := Verdict{Proof: ProofFollows}
	p.set.judgeAge(&j, p.machine.Floor, "Machine.Floor")
	if p.machine.Floor == "" {
		j.pass("nothing on the disk is kept that the release must be newer than")
	}
	return j
}
