package upgrade

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/tpm"
)

// LoaderOptions are the choices of [NewLoaderPlan]. The zero value is the default.
type LoaderOptions struct {
	bootloader.InstallationOptions

	// Shims are the shims to choose from: the first one that the machine's firmware starts and that
	// starts the loader is installed. For example, one is signed with Microsoft's key of 2023 and
	// one with that of 2011, because the key in db differs between machines. None:
	// Installation.Shim, if there is one.
	Shims []osmith.Source

	// Override lists proofs whose failure [LoaderPlan.Apply] ignores, as [PlanOptions].Override.
	Override []Proof
}

// LoaderPlan is an update of the boot loader that is computed and judged, but not yet written.
type LoaderPlan struct {
	// path of the entry that the loader starts, now and afterwards
	Next     string
	Changes  []bootloader.FileChange // in their order; none: the ESP is up to date
	Kept     []bootloader.KeptFile   // other files of the installation
	Findings []bootloader.Finding    // what stays although the installation has something different
	// chosen among LoaderOptions.Shims or Installation.Shim; nil: the loader has no shim
	Shim      *ShimChoice
	Verdicts  []Verdict // on fits, boots, unlocks and returns
	Predicted *tpm.Log  // prediction of the next boot; nil if there is none

	disk     *checkedDisk
	machine  Machine
	state    *State
	copied   *scratch // disk on which the changes were made
	after    *State   // of that; nil where they do not fit
	digests  []([sha256.Size]byte)
	before   snapshot
	leftover leftover
	override []Proof
	applied  bool
}

// NewLoaderPlan computes the changes that install that boot loader on an ESP, by
// [bootloader.PlanInstallation], and judges them like a new set: the changes are made on a copy of
// the ESP in memory, and firmware, loader and TPM are simulated on the copy. fits: the files fit at
// each step. boots: firmware starts every loader that it may start, by db, dbx and SBAT, also once
// keys on the ESP are enrolled, and the loader starts the same entry as before; with a shim in
// front, a power cut after any change leaves a shim that firmware starts, with a loader that this
// shim starts. unlocks: the volumes of the disk open with the new PCR 4. returns: if that entry
// fails, the chain of starts ends with a good set. An older loader than the installed one is not
// planned, and is listed in Findings.
func NewLoaderPlan(ctx context.Context, disk osmith.Disk, want *bootloader.Installation, m Machine, o LoaderOptions) (plan *LoaderPlan, err error) {
	defer prefix.Add("upgrade", &err)
	if m.Running == nil && !m.Offline {
		return nil, ErrRunningUnknown
	}
	if err := checkProofs(o.Override); err != nil {
		return nil, err
	}
	p := &LoaderPlan{disk: checked(disk), machine: m, override: o.Override}
	if err := toMedium(p.disk); err != nil {
		return nil, err
	}
	if p.before, _, err = p.machine.takeSnapshot(p.disk, p.judged, math.MaxInt64); err != nil {
		return nil, err
	}
	if p.state, err = inspect(p.disk, &p.machine); err != nil {
		return nil, err
	}
	p.leftover = p.state.esp.tryRepair()
	if want, err = p.chooseShim(want, o.Shims); err != nil {
		return nil, err
	}
	installation, err := bootloader.PlanInstallation(volumeFS{p.state.esp, ""}, want, o.InstallationOptions)
	if err != nil {
		return nil, err
	}
	p.Changes, p.Kept, p.Findings = installation.Changes, installation.Kept, installation.Findings
	for _, c := range p.Changes {
		sum := [sha256.Size]byte{}
		if c.Content != nil {
			if sum, err = digest(c.Content); err != nil {
				return nil, err
			}
		}
		p.digests = append(p.digests, sum)
	}
	if p.state.Next == nil {
		return nil, errors.New("no entry on the ESP boots, so whether a boot loader starts the right one cannot be checked")
	}
	p.Next = p.state.Next.Path
	if err := p.judge(ctx); err != nil {
		return nil, err
	}
	now, _, err := p.machine.takeSnapshot(p.disk, p.judged, math.MaxInt64)
	if err == nil {
		err = now.changed(p.before)
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// judged says of which files the content counts: of all but UKIs, which a loader does not change.
func (p *LoaderPlan) judged(name string) bool {
	_, rest := splitVolume(name)
	return !fat.SameName(path.Dir(rest), entryDir)
}

// judge makes the changes on a copy and asks what comes of them.
func (p *LoaderPlan) judge(ctx context.Context) error {
	fits := Verdict{Proof: ProofFits}
	err := p.try(&fits)
	if err != nil {
		return err
	}
	p.Verdicts = []Verdict{fits}
	if p.after == nil {
		return ctx.Err()
	}
	next := p.after.atPath(p.state.Next.Entry)
	boots := p.judgeBoots()
	p.after.judgeKeys(&boots, next)
	unlocks := Verdict{Proof: ProofUnlocks}
	if next != nil {
		p.judgeUnlocks(&unlocks, next)
	} else {
		unlocks.fail(fmt.Errorf("%s is not an entry of the new menu", p.Next))
	}
	returns := Verdict{Proof: ProofReturns}
	if err := p.after.returns(func() overlay { return overlay{FS: p.after.esp} }); err != nil {
		returns.fail(err)
	} else {
		returns.pass("what follows the start of %s ends with a good set", p.Next)
	}
	if p.machine.Loader == nil {
		returns.warn("%v", errLoaderUnknown)
	}
	p.Verdicts = append(p.Verdicts, boots, unlocks, returns)
	override(p.Verdicts, p.override)
	return ctx.Err()
}

// try makes the changes on a copy of the disk that is then the state behind them.
func (p *LoaderPlan) try(j *Verdict) error {
	if p.leftover.err != nil {
		j.fail(p.leftover.err)
		return nil
	}
	m := p.machine
	m.Mounted = nil // no other program has the copy
	p.copied = &scratch{p.disk, map[int64][scratchSector]byte{}}
	boot, _, err := m.openBoot(p.copied, p.state.table)
	if err != nil {
		return err
	}
	if p.leftover.any() {
		j.pass("an interrupted upgrade left %s on the ESP, which is repaired first", p.leftover)
	}
	if err := boot.Repair(); err != nil {
		return err
	}
	before, least := boot.esp.Free(), boot.esp.Free()
	for _, c := range p.Changes {
		err := makeChange(boot, c)
		var space *fat.SpaceError
		if errors.As(err, &space) {
			j.fail(fmt.Errorf("%s: %w", c.Path, err))
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.Path, err)
		}
		least = min(least, boot.esp.Free())
	}
	j.pass("boot loader: %d bytes of %d free on the ESP at most", before-least, before)
	release, err := p.state.esp.exclusively(p.disk)
	if err != nil {
		j.fail(err)
	} else if err := release(); err != nil {
		return err
	}
	if p.Shim != nil {
		m.Shim, m.NoShim = p.Shim.content, false
	}
	if p.after, err = inspect(p.copied, &m); err != nil || p.Shim == nil {
		return err
	}
	// One that was to be replaced may have stayed.
	if shims := p.after.shims(); len(shims) > 0 && !slices.ContainsFunc(shims, p.Shim.is) {
		m.Shim = shims[0]
		p.after, err = inspect(p.copied, &m)
	}
	return err
}

// makeChange makes one change.
func makeChange(esp *bootFS, c bootloader.FileChange) error {
	switch c.Kind {
	case bootloader.ChangeCreate:
		if err := esp.MkdirAll(path.Dir(c.Path)); err != nil {
			return err
		}
		return esp.WriteFile(c.Path, c.Content)
	case bootloader.ChangeReplace:
		return esp.ReplaceFile(c.Path, c.Content)
	case bootloader.ChangeRemove:
		return esp.Remove(c.Path)
	}
	return fmt.Errorf("no change of the kind %v", c.Kind)
}

// judgeBoots asks whether firmware starts the loaders, and these the entry as before.
func (p *LoaderPlan) judgeBoots() Verdict {
	j := Verdict{Proof: ProofBoots}
	p.after.judgeLoaders(&j)
	if p.Shim != nil {
		p.judgeShim(&j)
	}
	for _, version := range p.after.versions() {
		menu, e, why, _, err := p.after.simulate(overlay{FS: p.after.esp}, version).start()
		switch {
		case err != nil:
			j.fail(err)
		case e == nil:
			j.fail(fmt.Errorf("systemd-boot %s will boot nothing: %s", version, why))
		case menu.Config.Timeout == "menu-force":
			j.fail(ErrWaits)
		case e.Path != p.Next || e.Profile != p.state.Next.Profile:
			j.fail(fmt.Errorf("systemd-boot %s will boot profile %d of %s (%s), and not %s as now", version, e.Profile, e.Path, why, p.Next))
		default:
			j.pass("systemd-boot %s will boot %s, as now (%s)", version, e.ID, why)
			if err := p.after.refuses(e); err != nil {
				j.fail(err)
			}
		}
	}
	for i := range p.after.rules {
		if err := p.after.rules[i].err; err != nil {
			j.warn("what the boot loader does is unknown: %v", err)
		}
	}
	if p.machine.Loader == nil {
		j.warn("%v", errLoaderUnknown)
	}
	for _, f := range p.Findings {
		j.warn("%s: %v", f.Path, f.Err)
	}
	return j
}

// judgeUnlocks asks whether what is sealed opens behind the new loader, which is in PCR 4.
func (p *LoaderPlan) judgeUnlocks(j *Verdict, next *Entry) {
	if next.Type != bootloader.EntryType2 && next.Type != bootloader.EntryType1UKI {
		j.warn("what %s measures is unknown: it starts no UKI", next.Path)
		return
	}
	u, err := p.after.examineSet(next)
	if err != nil {
		j.fail(err)
		return
	}
	if err = startsPlainly(next); err == nil {
		p.Predicted, err = p.after.machine.predict(p.after.loader, u)
	}
	if err != nil {
		j.warn("PCRs cannot be predicted: %v", err)
	}
	volumes := p.after.sealedVolumes()
	if len(volumes) == 0 {
		j.pass("no volume of the disk is opened by a TPM")
		return
	}
	p.after.judgeVolumes(j, next, "behind the new boot loader", volumes, u, nil)
}

// Refused returns the verdicts that keep [LoaderPlan.Apply] from writing, as a [*RefusedError]; nil
// means that Apply will write.
func (p *LoaderPlan) Refused() error {
	return refused(p.Verdicts)
}

// Apply carries the plan out, as [Plan.Apply] does: nothing is written without the verdicts, or if
// the disk has changed. Each file is written completely or not at all, and is on the medium and
// read back before the next one begins. After a power cut each loader is the old or the new one;
// make a new plan for the rest. Progress, if it is not nil, is called with the number of the
// change, and with bytes of all.
func (p *LoaderPlan) Apply(ctx context.Context, progress Progress) (err error) {
	defer prefix.Add("upgrade", &err)
	switch err := p.Refused(); {
	case err != nil:
		return err
	case p.applied:
		return ErrApplied
	case len(p.Changes) == 0:
		p.applied = true
		return nil
	}
	return alone(p.disk, func() error { return p.apply(ctx, progress) })
}

func (p *LoaderPlan) apply(ctx context.Context, progress Progress) (err error) {
	step := 0
	tell := &meter{progress: func(done, total int64) {
		if progress != nil {
			progress(step, done, total)
		}
	}}
	for _, c := range p.Changes {
		if c.Content != nil {
			tell.total += c.Content.Size()
		}
	}
	expect := p.before.clone()
	look := func(limit int64) (*bootFS, error) {
		now, esp, err := p.machine.takeSnapshot(p.disk, p.judged, limit)
		if err == nil {
			err = now.changed(expect)
		}
		return esp, err
	}
	held, err := p.state.esp.exclusively(p.disk)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held()) }()
	p.applied = true
	for i, c := range p.Changes {
		if err := ctx.Err(); err != nil {
			return err
		}
		step = i
		tell.progress(tell.done, tell.total)
		limit := int64(smallFile)
		if i == 0 {
			limit = math.MaxInt64
		}
		esp, err := look(limit)
		if err != nil {
			return fmt.Errorf("before %v %s: %w", c.Kind, c.Path, err)
		}
		if i == 0 {
			if p.leftover.discards() {
				expect.removeFunc(isStagedName)
			}
			if err := esp.Repair(); err != nil {
				return err
			}
		}
		told := c
		told.Content = tell.cancelled(ctx, c.Content)
		if err := p.change(esp, told, p.digests[i]); err != nil {
			return fmt.Errorf("%v %s: %w", c.Kind, c.Path, err)
		}
		if c.Kind == bootloader.ChangeRemove {
			expect.remove(c.Path)
		} else {
			expect.put(fileState{c.Path, c.Content.Size(), p.digests[i]})
		}
	}
	_, err = look(math.MaxInt64)
	return err
}

// change makes one change and reads it back.
func (p *LoaderPlan) change(esp *bootFS, c bootloader.FileChange, want [sha256.Size]byte) error {
	if err := makeChange(esp, c); err != nil {
		return err
	}
	if err := toMedium(p.disk); err != nil {
		return err
	}
	if c.Kind == bootloader.ChangeRemove {
		if _, err := esp.Stat(c.Path); !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(fmt.Errorf("%s is still there", c.Path), err)
		}
		return nil
	}
	have, err := openFile(esp, c.Path)
	if err != nil {
		return err
	}
	got, err := digest(have)
	if err == nil && got != want {
		err = &ReadBackError{Path: c.Path, Want: want}
	}
	return err
}

// LoaderPlanSchema names the JSON form of a plan of the boot loader, docs/schema/loaderplan.json.
const LoaderPlanSchema = "osmith.loaderplan/1"

type loaderChangeJSON struct {
	Kind   string         `json:"kind"`
	Path   string         `json:"path"`
	Reason string         `json:"reason"`
	Bytes  int64          `json:"bytes"`
	Before osmith.Version `json:"before"`
	After  osmith.Version `json:"after"`
}

type loaderKeptJSON struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// MarshalJSON writes the plan for a program.
func (p *LoaderPlan) MarshalJSON() ([]byte, error) {
	changes, kept, findings := []loaderChangeJSON{}, []loaderKeptJSON{}, []loaderKeptJSON{}
	for _, c := range p.Changes {
		j := loaderChangeJSON{Kind: c.Kind.String(), Path: c.Path, Reason: c.Reason, Before: c.Before, After: c.After}
		if c.Content != nil {
			j.Bytes = c.Content.Size()
		}
		changes = append(changes, j)
	}
	for _, k := range p.Kept {
		kept = append(kept, loaderKeptJSON{k.Path, k.Reason})
	}
	for _, f := range p.Findings {
		findings = append(findings, loaderKeptJSON{f.Path, f.Err.Error()})
	}
	shim := 0
	if p.Shim != nil {
		shim = p.Shim.Index + 1
	}
	return json.Marshal(struct {
		Schema     string                       `json:"schema"`
		Next       string                       `json:"next"`
		Refused    bool                         `json:"refused"`
		Shim       int                          `json:"shim"`
		Judgements []Verdict                    `json:"judgements"`
		Changes    []loaderChangeJSON           `json:"changes"`
		Kept       []loaderKeptJSON             `json:"kept"`
		Findings   []loaderKeptJSON             `json:"findings"`
		PCRs       map[string]map[string]string `json:"pcrs"`
	}{LoaderPlanSchema, p.Next, p.Refused() != nil, shim, verdictsJSON(p.Verdicts), changes, kept, findings, pcrsJSON(&p.machine, p.Predicted)})
}

// String is the plan for a person.
func (p *LoaderPlan) String() string {
	var b strings.Builder
	if len(p.Changes) == 0 {
		b.WriteString("the boot loader is as it shall be: nothing to do\n")
	}
	writeVerdicts(&b, p.Verdicts)
	for i, c := range p.Changes {
		fmt.Fprintf(&b, "  %d. %v %s: %s\n", i+1, c.Kind, c.Path, c.Reason)
	}
	writePCRs(&b, &p.machine, p.Predicted)
	return b.String()
}
