package upgrade

import (
	"context"
	"crypto"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/tpm"
)

// DefaultTries is how often a new set may fail to be blessed before the loader prefers the old one.
const DefaultTries = 3

// Options are the choices of a plan. The zero value is the default.
type Options struct {
	// Tries for the new entry, 1 to 99; 0 means [DefaultTries].
	Tries int

	// Override lists verdicts whose failure Apply ignores. Each is named in the plan's text.
	Override []Verdict
}

// StepKind names what a step does.
type StepKind string

// The kinds of steps, in the order in which a plan has them.
const (
	StepRepairESP    StepKind = "repair-esp"    // what a power cut left in its file system
	StepRemoveEntry  StepKind = "remove-entry"  // the boot entry that needs the target slot
	StepRemoveStaged StepKind = "remove-staged" // what an interrupted upgrade left on the ESP
	StepMarkPartial  StepKind = "mark-partial"
	StepWriteRoot    StepKind = "write-root"
	StepWriteTree    StepKind = "write-tree"
	StepVerifySlot   StepKind = "verify-slot"
	StepActivateSlot StepKind = "activate-slot" // final types, labels and IDs
	StepStageUKI     StepKind = "stage-uki"     // under a name the loader does not look at
	StepAddEntry     StepKind = "add-entry"     // rename it: from here on it boots
)

// Step is one part of an upgrade. A power cut within or behind any but the last leaves the old set booting.
type Step struct {
	Kind   StepKind `json:"kind"`
	Target string   `json:"target"` // path on the ESP, or partition
	Bytes  int64    `json:"bytes"`  // that are written or read
	to     string   // of a rename
}

// Plan is an upgrade worked out and judged, with nothing written yet. Text and JSON forms are for people and programs that
// decide about it.
type Plan struct {
	Version    string
	From       string // path of the running UKI
	Entry      string // path that the new UKI will have on the ESP
	Target     *Slot
	Installed  bool // this very set is installed already: there are no steps
	Judgements []Judgement
	Steps      []Step
	Predicted  *tpm.Log // of the first boot of the new set; nil if it cannot boot

	disk     Disk
	release  Release
	machine  Machine
	state    *State
	identity *identity
	tries    int
	obsolete []espFile // entries and staged files to remove first
}

// NewPlan looks at the disk and the release and works out the upgrade. It reads both, the root file system once, and
// writes nothing. An error means that disk or release cannot be understood; whether the upgrade is a good idea is in the
// plan's judgements.
func NewPlan(ctx context.Context, disk Disk, r Release, m Machine, o Options) (*Plan, error) {
	p := &Plan{disk: disk, release: r, machine: m, tries: o.Tries}
	if p.tries == 0 {
		p.tries = DefaultTries
	}
	if p.tries < 1 || p.tries > 99 {
		return nil, fmt.Errorf("upgrade: %d tries: want 1 to 99", o.Tries)
	}
	for _, v := range o.Override {
		if _, err := ParseVerdict(string(v)); err != nil {
			return nil, err
		}
	}
	var err error
	if p.identity, err = r.identify(); err != nil {
		return nil, err
	}
	p.Version = p.identity.version
	if n := efi.UTF16Len(p.identity.label()); n > 36 {
		return nil, fmt.Errorf("upgrade: partition label %q: %d UTF-16 units, GPT allows 36", p.identity.label(), n)
	}
	if p.state, err = inspect(disk, m); err != nil {
		return nil, err
	}
	if p.state.Running == nil {
		return nil, errors.New("upgrade: no entry on the ESP boots, so there is no slot to protect: install the disk anew")
	}
	p.From = p.state.Running.Path
	if err := p.choose(); err != nil {
		return nil, err
	}
	if p.Installed {
		p.Judgements = []Judgement{}
		return p, nil
	}
	p.steps()
	p.Judgements = []Judgement{p.judgeFits(), p.judgeBoots(ctx), m.judgeUnlocks(p.identity.file), p.judgeReturns()}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for i := range p.Judgements {
		j := &p.Judgements[i]
		j.Overridden = j.Outcome == Fail && slices.Contains(o.Override, j.Verdict)
	}
	// A set that firmware refuses has nothing to predict; why is in the judgement.
	p.Predicted, _ = PredictBoot(m, p.state.loader, r.UKI)
	return p, nil
}

// choose finds the target slot and what stands in its way.
func (p *Plan) choose() error {
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
		same, err := sameContent(p.state.esp, e.Path, p.release.UKI)
		if err != nil {
			return err
		}
		if same && !e.Bad() {
			p.Installed, p.Target, p.Entry = true, e.Slot, e.Path
			return nil
		}
	}
	running := p.state.Running
	if running.Slot == nil {
		return fmt.Errorf("upgrade: %s names the root hash %s, which no slot holds: there is no telling which slot is safe to write",
			running.Path, hash(running.RootHash))
	}
	// Empty and half-written slots first, then the one whose entry the loader likes least.
	free := func(s *Slot) int {
		if s.State != SlotInstalled {
			return -1
		}
		at := slices.IndexFunc(p.state.Entries, func(e *Entry) bool { return e.Slot == s })
		if at < 0 {
			return 0
		}
		return 1 + len(p.state.Entries) - at
	}
	for _, s := range p.state.Slots {
		if s != running.Slot && (p.Target == nil || free(s) < free(p.Target)) {
			p.Target = s
		}
	}
	if p.Target == nil {
		return fmt.Errorf("upgrade: %w besides the running one", ErrNoSlots)
	}
	for _, e := range p.state.Entries {
		if e.Slot == p.Target || strings.EqualFold(uncounted(e.Path), entryDir+"/"+stem+".efi") {
			if e == running {
				return fmt.Errorf("upgrade: the running %s has the name of the new version and another content", e.Path)
			}
			p.obsolete = append(p.obsolete, espFile{e.Path, e.size})
		}
	}
	p.obsolete = append(p.obsolete, p.state.staged...)
	return nil
}

// entryDir is where the loader looks for UKIs (UAPI.1, "Type #2 EFI Unified Kernel Images").
const entryDir = "EFI/Linux"

// stagedSuffix ends names of UKIs that are not yet to be booted: the loader looks at *.efi only.
const stagedSuffix = ".staged"

func (p *Plan) steps() {
	t := p.Target
	// Damage that cannot be repaired is in the fits verdict.
	if left, _, err := p.state.tryRepair(); err == nil && left != (fat.Repaired{}) {
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

// Refused reports the judgements that keep Apply from writing; nil means that it will.
func (p *Plan) Refused() error {
	var failed []Judgement
	for _, j := range p.Judgements {
		if j.Outcome == Fail && !j.Overridden {
			failed = append(failed, j)
		}
	}
	if failed == nil {
		return nil
	}
	return &RefusedError{failed}
}

// String is the plan for a person.
func (p *Plan) String() string {
	var b strings.Builder
	if p.Installed {
		fmt.Fprintf(&b, "version %s is installed in slot %s as %s: nothing to do\n", p.Version, p.Target.Name(), p.Entry)
		return b.String()
	}
	fmt.Fprintf(&b, "upgrade to version %s in slot %s, from %s\n", p.Version, p.Target.Name(), p.From)
	for _, j := range p.Judgements {
		state := j.Outcome.String()
		if j.Overridden {
			state += ", overridden"
		}
		fmt.Fprintf(&b, "  %-8s %s\n", j.Verdict, state)
		for _, r := range j.Reasons {
			fmt.Fprintf(&b, "           %s %s\n", [...]string{Pass: "-", Warn: "!", Fail: "✗"}[r.Outcome], r.Text)
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

// String is the step in a few words.
func (s Step) String() string {
	switch {
	case s.to != "":
		return fmt.Sprintf("%s %s -> %s", s.Kind, s.Target, path.Base(s.to))
	case s.Bytes > 0:
		return fmt.Sprintf("%s %s (%d bytes)", s.Kind, s.Target, s.Bytes)
	}
	return fmt.Sprintf("%s %s", s.Kind, s.Target)
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
		Judgements []Judgement                  `json:"judgements"`
		Steps      []Step                       `json:"steps"`
		PCRs       map[string]map[string]string `json:"pcrs"`
	}{PlanSchema, p.Version, p.From, p.Entry, p.Target.Name(), p.Installed, p.Refused() != nil, p.Judgements, p.Steps, pcrs})
}
