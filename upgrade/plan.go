package upgrade

import (
	"context"
	"crypto"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/upgrade/release"
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

	disk     osmith.Disk
	release  release.Release
	machine  Machine
	state    *State
	identity *identity
	unified  *unified // the release's UKI
	tries    int
	obsolete []espFile // entries and staged files to remove first
	leftover leftover  // of an interrupted upgrade on the ESP
	applied  bool
}

// NewPlan looks at the disk and the release and works out the upgrade. It reads both, the root file system once, and
// writes nothing. An error means that disk or release cannot be understood; whether the upgrade is a good idea is in the
// plan's judgements. Of the release it takes the UKI and the root file system with its hash tree: boot loader, add-ons and
// root hash signature are not installed. Its sources must not change until the plan is applied; what was written is compared with
// what was planned.
func NewPlan(ctx context.Context, disk osmith.Disk, r *release.Release, m Machine, o Options) (*Plan, error) {
	p := &Plan{disk: disk, release: *r, machine: m, tries: o.Tries}
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
	if p.identity, err = identify(r); err != nil {
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
	if err := p.choose(ctx); err != nil {
		return nil, err
	}
	if p.Installed {
		p.Judgements = []Judgement{}
		return p, nil
	}
	p.leftover = p.state.tryRepair()
	p.steps()
	p.unified = m.examineUKI(p.Entry, p.identity.file, r.UKI)
	p.Judgements = []Judgement{p.judgeFits(), p.judgeBoots(ctx), m.judgeUnlocks(p.unified), p.judgeReturns()}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for i := range p.Judgements {
		j := &p.Judgements[i]
		j.Overridden = j.Outcome == Fail && slices.Contains(o.Override, j.Verdict)
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
		i := slices.IndexFunc(p.Judgements, func(j Judgement) bool { return j.Verdict == Boots })
		p.Judgements[i].warn("PCRs cannot be predicted: %v", err)
	}
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
