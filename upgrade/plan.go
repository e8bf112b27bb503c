package upgrade

import (
	"cmp"
	"context"
	"crypto"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/verity"
)

// DefaultTries is how often a new set may fail to be blessed before the loader prefers the old one.
const DefaultTries = 3

// PlanOptions are the choices of a plan. The zero value is the default.
type PlanOptions struct {
	// Tries for the new entry, 1 to 99; 0 means [DefaultTries].
	Tries int

	// Override lists proofs whose failure [Plan.Apply] ignores. Each is named in the plan's text.
	Override []Proof
}

// Plan is an upgrade worked out and judged, with nothing written yet. Text and JSON forms are for people and programs that
// decide about it.
type Plan struct {
	Version   string
	From      string // path of the running UKI
	Entry     string // path that the new UKI will have on the ESP
	Target    *Slot
	Installed bool // this very set is installed already: there are no steps
	Verdicts  []Verdict
	Steps     []Step
	Predicted *tpm.Log // of the first boot of the new set; nil if it cannot boot

	disk     osmith.Disk
	release  release.Release
	machine  Machine
	state    *State
	identity *identity
	unified  *unified // the release's UKI
	tries    int
	obsolete []espFile // entries and staged files to remove first

	choice    choice // of the loader once the new entry is there
	choiceErr error
	leftover  leftover // of an interrupted upgrade on the ESP
	applied   bool
}

// NewPlan looks at the disk and the release and works out the upgrade. It reads both, the root file system once, and
// writes nothing. An error means that disk or release cannot be understood; whether the upgrade is a good idea is in the
// plan's verdicts. Of the release it takes the UKI and the root file system with its hash tree: boot loader, add-ons and
// root hash signature are not installed. Its sources must not change until the plan is applied; what was written is compared with
// what was planned.
func NewPlan(ctx context.Context, disk osmith.Disk, r *release.Release, m Machine, o PlanOptions) (plan *Plan, err error) {
	defer prefix.Add("upgrade", &err)
	p := &Plan{disk: disk, release: *r, machine: m, tries: o.Tries}
	if p.tries == 0 {
		p.tries = DefaultTries
	}
	if p.tries < 1 || p.tries > 99 {
		return nil, fmt.Errorf("%d tries: want 1 to 99", o.Tries)
	}
	for _, v := range o.Override {
		if _, err := ParseProof(string(v)); err != nil {
			return nil, err
		}
	}
	if p.identity, err = identify(r); err != nil {
		return nil, err
	}
	p.Version = p.identity.version
	if n := efi.UTF16Len(p.identity.label()); n > 36 {
		return nil, fmt.Errorf("partition label %q: %d UTF-16 units, GPT allows 36", p.identity.label(), n)
	}
	if p.state, err = inspect(disk, m); err != nil {
		return nil, err
	}
	if p.state.Running == nil {
		return nil, errors.New("no entry on the ESP boots, so there is no slot to protect: install the disk anew")
	}
	p.From = p.state.Running.Path
	if err := p.choose(ctx); err != nil {
		return nil, err
	}
	if p.Installed {
		p.Verdicts = []Verdict{}
		return p, nil
	}
	p.leftover = p.state.tryRepair()
	p.steps()
	p.unified = m.examineUKI(p.Entry, p.identity.file, r.UKI)
	p.choice, p.choiceErr = p.chosenWith(p.Entry)
	p.Verdicts = []Verdict{p.judgeFits(), p.judgeBoots(ctx), m.judgeUnlocks(p.unified), p.judgeReturns()}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for i := range p.Verdicts {
		j := &p.Verdicts[i]
		j.Overridden = !j.passes() && slices.Contains(o.Override, j.Proof)
	}
	p.predict()
	return p, nil
}

// predict fills in what the first boot will measure. A set that firmware refuses measures nothing, which the boots verdict
// says already; any other reason is a restriction of that verdict.
func (p *Plan) predict() {
	var err error
	p.Predicted, err = p.machine.predict(p.state.loader, p.unified)
	var refused *SecureBootError
	if err != nil && !errors.As(err, &refused) {
		i := slices.IndexFunc(p.Verdicts, func(j Verdict) bool { return j.Proof == ProofBoots })
		p.Verdicts[i].warn("PCRs cannot be predicted: %v", err)
	}
}

// Refused reports the verdicts that keep [Plan.Apply] from writing, as a [*RefusedError]; nil means that it will write.
func (p *Plan) Refused() error {
	var failed []Verdict
	for _, j := range p.Verdicts {
		if !j.passes() && !j.Overridden {
			failed = append(failed, j)
		}
	}
	if failed == nil {
		return nil
	}
	return prefix.Error("upgrade", &RefusedError{failed})
}

// String is the plan for a person.
func (p *Plan) String() string {
	var b strings.Builder
	if p.Installed {
		fmt.Fprintf(&b, "version %s is installed in slot %s as %s: nothing to do\n", p.Version, p.Target.Name(), p.Entry)
		return b.String()
	}
	fmt.Fprintf(&b, "upgrade to version %s in slot %s, from %s\n", p.Version, p.Target.Name(), p.From)
	for _, j := range p.Verdicts {
		state := j.Outcome.String()
		if j.Overridden {
			state += ", overridden"
		}
		fmt.Fprintf(&b, "  %-8s %s\n", j.Proof, state)
		for _, r := range j.Reasons {
			fmt.Fprintf(&b, "           %s %s\n", [...]string{"?", OutcomePass: "-", OutcomeWarn: "!", OutcomeFail: "✗"}[r.Outcome], r.Text)
		}
	}
	for i, s := range p.Steps {
		fmt.Fprintf(&b, "  %d. %s\n", i+1, s)
	}
	for _, pcr := range predictedPCRs {
		for _, h := range p.machine.banks() {
			if v := p.pcr(h, pcr); v != nil {
				fmt.Fprintf(&b, "  PCR %-2d %s %x\n", pcr, tpm.BankName(h), v)
			}
		}
	}
	return b.String()
}

// predictedPCRs are those that a prediction covers.
var predictedPCRs = []int{4, 7, 11}

func (p *Plan) pcr(h crypto.Hash, pcr int) []byte {
	if p.Predicted == nil {
		return nil
	}
	banks, err := p.Predicted.Replay(h)
	if err != nil {
		return nil
	}
	return banks[h].PCR(pcr)
}

// PlanSchema names the JSON form of a plan.
const PlanSchema = "osmith.plan/1"

// MarshalJSON writes the plan for a program.
func (p *Plan) MarshalJSON() ([]byte, error) {
	pcrs := map[string]map[string]string{}
	for _, h := range p.machine.banks() {
		bank := map[string]string{}
		for _, n := range predictedPCRs {
			if v := p.pcr(h, n); v != nil {
				bank[fmt.Sprint(n)] = hex.EncodeToString(v)
			}
		}
		pcrs[tpm.BankName(h)] = bank
	}
	return json.Marshal(struct {
		Schema     string                       `json:"schema"`
		Version    string                       `json:"version"`
		From       string                       `json:"from"`
		Entry      string                       `json:"entry"`
		Slot       string                       `json:"slot"`
		Installed  bool                         `json:"installed"`
		Refused    bool                         `json:"refused"`
		Judgements []Verdict                    `json:"judgements"`
		Steps      []Step                       `json:"steps"`
		PCRs       map[string]map[string]string `json:"pcrs"`
	}{PlanSchema, p.Version, p.From, p.Entry, p.Target.Name(), p.Installed, p.Refused() != nil, p.Verdicts, p.Steps, pcrs})
}

// choose finds the target slot and what stands in its way.
func (p *Plan) choose(ctx context.Context) error {
	stem := p.identity.label()
	name, err := bootloader.CountedName(stem, p.tries)
	if err != nil {
		return err
	}
	p.Entry = entryDir + "/" + name
	for _, e := range p.state.Entries {
		if e.Slot == nil || !slices.Equal(e.RootHash, p.release.RootHash) {
			continue
		}
		if whole, err := p.isInstalled(ctx, e); err != nil {
			return err
		} else if whole {
			p.Installed, p.Target, p.Entry = true, e.Slot, e.Path
			return nil
		}
	}
	running := p.state.Running
	if running.Slot == nil {
		return fmt.Errorf("%s names the root hash %s, which no slot holds: which slot is safe to write is not known",
			running.Path, hash(running.RootHash))
	}
	if p.Target, err = p.target(running); err != nil {
		return err
	}
	for _, e := range p.state.Entries {
		if e.Slot == p.Target || fat.SameName(uncounted(e.Path), entryDir+"/"+stem+".efi") {
			if e == running {
				return fmt.Errorf("the running %s has the name of the new version and another content", e.Path)
			}
			// The profiles of one UKI are entries with one path.
			if !slices.ContainsFunc(p.obsolete, func(f espFile) bool { return f.path == e.Path }) {
				p.obsolete = append(p.obsolete, espFile{e.Path, e.size})
			}
		}
	}
	p.obsolete = append(p.obsolete, p.state.staged...)
	return nil
}

// target chooses the slot to write: a free one, or the one whose entry the loader likes least. When the release fits none
// of them, the smallest that may be written is the target, and the fits verdict says what is missing.
func (p *Plan) target(running *Entry) (*Slot, error) {
	rank := func(s *partition.Slot) int {
		if s.State != partition.SlotInstalled {
			return -1
		}
		at := slices.IndexFunc(p.state.Entries, func(e *Entry) bool { return e.Slot != nil && e.Slot.Slot == s })
		if at < 0 {
			return 0
		}
		return 1 + len(p.state.Entries) - at
	}
	o := partition.TargetOptions{
		Running:  running.RootHash,
		DataSize: p.release.Root.Size(), TreeSize: p.release.Tree.Size(),
		Compare: func(a, b *partition.Slot) int { return cmp.Compare(rank(a), rank(b)) },
	}
	target, err := p.state.slots.Target(o)
	var space *partition.SpaceError
	if errors.As(err, &space) {
		o.DataSize, o.TreeSize = 0, 0
		target, err = p.state.slots.Target(o)
	}
	if err != nil {
		return nil, err
	}
	return p.state.Slots[target.Slot.Index], nil
}

// isInstalled reports whether an entry and its slot hold the release whole, so that there is nothing to write. A slot that
// was damaged since is written anew, unless it is the running one.
func (p *Plan) isInstalled(ctx context.Context, e *Entry) (bool, error) {
	if e.Bad() {
		return false, nil
	}
	same, err := sameContent(p.state.esp, e.Path, p.release.UKI)
	if err != nil || !same || e == p.state.Running {
		return same, err
	}
	t := p.state.table
	err = verity.Verify(ctx, t.Section(p.disk, e.Slot.Data), t.Section(p.disk, e.Slot.Tree), p.release.RootHash)
	return err == nil, ctx.Err()
}

// entryDir is where the loader looks for UKIs (UAPI.1, "Type #2 EFI Unified Kernel Images").
const entryDir = "EFI/Linux"

// stagedSuffix ends names of UKIs that are not yet to be booted: the loader looks at *.efi only.
const stagedSuffix = ".staged"

func (p *Plan) steps() {
	t := p.Target
	// Damage that cannot be repaired is in the fits verdict.
	if p.leftover.any() {
		p.Steps = append(p.Steps, Step{Kind: StepRepairESP, Target: "ESP"})
	}
	for _, f := range p.obsolete {
		kind := StepRemoveEntry
		if strings.HasSuffix(f.path, stagedSuffix) {
			kind = StepRemoveStaged
		}
		p.Steps = append(p.Steps, Step{Kind: kind, Target: f.path})
	}
	root, tree := p.release.Root.Size(), p.release.Tree.Size()
	staged := path.Join(path.Dir(p.Entry), p.identity.label()+stagedSuffix)
	p.Steps = append(p.Steps,
		Step{Kind: StepMarkPartial, Target: "slot " + t.Name()},
		Step{Kind: StepWriteRoot, Target: "slot " + t.Name(), Bytes: root},
		Step{Kind: StepWriteTree, Target: "slot " + t.Name(), Bytes: tree},
		Step{Kind: StepVerifySlot, Target: "slot " + t.Name(), Bytes: root + tree},
		Step{Kind: StepActivateSlot, Target: "slot " + t.Name()},
		Step{Kind: StepStageUKI, Target: staged, Bytes: p.release.UKI.Size()},
		Step{Kind: StepAddEntry, Target: staged, to: p.Entry},
	)
}
