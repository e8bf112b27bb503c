package upgrade

import (
	"cmp"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade/internal/osset"
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
	// With [ProofFollows], the loader is made to prefer a release that is older than the running
	// one, if the loader is systemd-boot 260 or later.
	Override []Proof

	// Floor is the lowest version that is accepted. Empty: any version that is not older than the
	// running one.
	Floor string

	// TrustFallbackWithoutReadingIt skips reading and verifying the whole file system of the set to
	// which the machine would return.
	TrustFallbackWithoutReadingIt bool

	// Delta takes blocks of the root file system from the slot of the running set if that has them,
	// and only the others from the release ([verity.Diff], [verity.Patch]): for a release that is
	// read over a network ([release.Stream]). Delta reads both hash trees, and needs about 100
	// bytes of memory per block of 4096. It has no effect if the two file systems have different
	// salts.
	Delta bool

	// Loader makes the boot loader a part of the upgrade: it is installed first ([Plan].Loader),
	// and the rest is planned for the disk after that. If the LoaderOptions have no Loader, it is
	// that of the release. Their Override is that of the plan. Nil: the boot loader stays as it is.
	Loader        *bootloader.Installation
	LoaderOptions LoaderOptions

	// Labels are patterns of the partitions' labels, as MatchPattern= of sysupdate.d has them: @v
	// is the version, once in each, and %M is IMAGE_ID. The zero value follows the labels of the
	// running slot; if these show no pattern, it is "%M_@v", and for the hash tree "%M_@v_verity".
	Labels partition.Labels

	// ExtensionFileSystem opens the file system of an extension of the release, so that its
	// extension-release file is read and compared with what the release states. Nil: that file is
	// not read, which is a restriction of the boots verdict.
	ExtensionFileSystem func(osmith.Source) (fs.FS, error)

	// At is the time of the plan, by which [Support] of the release is judged. The zero value: it
	// is unknown whether support has ended.
	At time.Time

	// Progress is called while the release's hash tree and the fallback's file system are read,
	// with bytes of all. It may be called from several goroutines, one at a time.
	Progress func(done, total int64)
}

// Plan is an upgrade that is computed and judged, but not yet written. Its text and JSON forms are
// for people and programs that decide about it.
type Plan struct {
	Version string
	// path of the running entry; for a machine that is off, of the entry that the loader would
	// start
	From   string
	Entry  string // path that the new UKI will have on the ESP
	Target *Slot  // nil: the release is a UKI alone, which needs no slot
	// this set is already installed, and runs or is what the loader starts next: there are no
	// steps, but Loader may have changes
	Installed bool
	Loader    *LoaderPlan // plan of the boot loader, carried out first; nil: the boot loader stays
	// support of the release, which does not affect verdicts; nil: the release does not state it
	Support   *Support
	Verdicts  []Verdict
	Chain     []Link // starts after the upgrade, if every set fails that is not known to be good
	Steps     []Step
	Predicted *tpm.Log // prediction of the first boot of the new set; nil if it cannot boot

	disk     *checkedDisk
	release  release.Release
	machine  Machine
	state    *State
	from     *Entry
	identity *identity
	digests  releaseDigests
	before   snapshot // of the disk
	cmdline  string   // that the kernel gets, as far as it is known

	signature *verity.Signature // of the root hash; nil: none
	signer    *x509.Certificate
	patterns  partition.Labels
	labels    partition.Labels // of the slot
	unified   *unified         // the release's UKI
	tries     int
	floor     string
	override  []Proof

	extensionFS func(osmith.Source) (fs.FS, error)
	obsolete    []espFile   // entries with what is beside them, and staged files, to remove first
	addons      []addonFile // of the release, with its extensions
	failed      []byte      // new contents of failed.json; nil: as it is
	config      []byte      // new contents of loader.conf; nil: as it is

	fallback       *Entry // that the chain ends with
	chainErr       error  // why it does not end with a good set
	unreadFallback bool
	meter          meter
	choice         choice // of the loader once the new entry is there
	choiceErr      error
	leftover       leftover // of an interrupted upgrade on the ESP
	// from the root file system that runs; nil: all is read from the release
	delta    *verity.Delta
	deltaErr error // why there is none
	resumes  bool  // the slot has some of the release already
	// an interrupted upgrade has left the whole UKI under its staged name
	isStaged bool
	applied  bool
}

// addonFile is an add-on or extension of the release with its place on the ESP.
type addonFile struct {
	path string
	src  osmith.Source
	want [sha256.Size]byte
	step StepKind // that writes it
}

// NewPlan reads the disk and the release and computes the upgrade. It also reads the hash tree of
// the release and the file system of the set to return to, and writes nothing. An error means that
// disk or release cannot be understood, or that Machine does not say what runs
// ([ErrRunningUnknown]); the plan's verdicts judge the upgrade. A release without a root file
// system is a UKI alone, for a system that runs from its initrd. A plan uses the release's UKI,
// add-ons and extensions, its root file system with the hash tree, and the signature of the root
// hash; it uses the boot loader only if [PlanOptions].Loader is set. The release's sources must not
// change until the plan is applied: for UKI, add-ons and extensions the first reading counts, and
// if a later reading, by NewPlan or [Plan.Apply], differs, the error is a [*ChangedError]. If
// [release.Open] or [release.Stream] has computed the digests of the UKI, that was the first
// reading, and only headers and small sections are read again.
func NewPlan(ctx context.Context, disk osmith.Disk, r *release.Release, m Machine, o PlanOptions) (plan *Plan, err error) {
	defer prefix.Add("upgrade", &err)
	p := &Plan{disk: checked(disk), machine: m, tries: o.Tries, floor: o.Floor, override: o.Override, unreadFallback: o.TrustFallbackWithoutReadingIt,
		extensionFS: o.ExtensionFileSystem}
	if p.tries == 0 {
		p.tries = DefaultTries
	}
	if p.tries < 1 || p.tries > 99 {
		return nil, fmt.Errorf("%d tries: want 1 to 99", o.Tries)
	}
	if err := checkProofs(o.Override); err != nil {
		return nil, err
	}
	if m.Running == nil && !m.Offline {
		return nil, ErrRunningUnknown
	}
	if p.release, err = pinRelease(r); err != nil {
		return nil, err
	}
	r = &p.release
	if p.identity, err = identify(r); err != nil {
		return nil, err
	}
	if p.unified, err = m.examineUKI(p.identity.file, r.UKI, r.UKIDigests); err != nil {
		return nil, err
	}
	if p.digests, err = digestRelease(r, p.unified); err != nil {
		return nil, err
	}
	if p.signature, p.signer, err = osset.RootHashSignature("signature of the root hash", r.RootHashSignature, r.RootHash); err != nil {
		return nil, rootHashError(err)
	}
	p.Version, p.Support = p.identity.Version, supportOf(r, o.At)
	if p.patterns, err = expandPatterns(o.Labels, p.identity.ID); err != nil {
		return nil, err
	}
	if err := toMedium(p.disk); err != nil {
		return nil, err
	}
	if o.Loader != nil {
		own := p.disk
		if err := p.planLoader(ctx, o); err != nil {
			return nil, err
		}
		defer func() {
			if plan != nil {
				plan.disk = own
			}
		}()
	}
	before, _, err := p.machine.takeSnapshot(p.disk, nothing, 0)
	if err != nil {
		return nil, err
	}
	if p.state, err = inspect(p.disk, &p.machine); err != nil {
		return nil, err
	}
	if err := p.state.unfit(!p.alone()); err != nil {
		return nil, err
	}
	p.leftover = p.state.esp.tryRepair()
	if p.from = cmp.Or(p.state.Running, p.state.Next); p.from == nil {
		return nil, errors.New("no entry on the ESP boots, so there is no slot to protect: reinstall the disk")
	}
	p.From = p.from.Path
	if err := p.choose(ctx); err != nil {
		return nil, err
	}
	if p.Installed {
		p.Verdicts = []Verdict{}
		return p, nil
	}
	if o.Delta && p.Target != nil {
		p.delta, p.deltaErr = p.diff(ctx)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	if err := p.judge(ctx, o.Progress); err != nil {
		return nil, err
	}
	if p.before, _, err = p.machine.takeSnapshot(p.disk, p.judged, math.MaxInt64); err == nil {
		err = p.before.changed(before)
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

func nothing(string) bool { return false }

// judge works out the steps and the verdicts.
func (p *Plan) judge(ctx context.Context, progress func(done, total int64)) (err error) {
	if p.failed, err = p.rememberObsolete(); err != nil {
		return err
	}
	p.machine.judgeUKI(p.unified, p.Entry)
	volume, rest := splitVolume(p.Entry)
	beside, err := uki.ReadCompanions(volumeFS{p.after(), volume}, rest)
	if err != nil {
		return err
	}
	p.unified.effective = p.machine.effectiveCmdline(p.identity.file, 0, "", beside)
	if err := p.prefer(); err != nil {
		return err
	}
	p.steps()
	p.followStarts()
	p.meter = meter{progress: progress, total: sizeOf(p.release.Tree) + p.fallbackSize()}
	p.Verdicts = []Verdict{p.judgeFits(), p.judgeBoots(ctx), p.judgeUnlocks(), p.judgeReturns(ctx), p.judgeFollows()}
	if err := ctx.Err(); err != nil {
		return err
	}
	p.meter.end()
	override(p.Verdicts, p.override)
	p.predict()
	return nil
}

// checkProofs refuses names that are those of no proof.
func checkProofs(proofs []Proof) error {
	for _, v := range proofs {
		if _, err := ParseProof(string(v)); err != nil {
			return err
		}
	}
	return nil
}

// override marks the verdicts whose failure is to be ignored.
func override(verdicts []Verdict, proofs []Proof) {
	for i := range verdicts {
		j := &verdicts[i]
		j.Overridden = !j.passes() && slices.Contains(proofs, j.Proof)
	}
}

func (p *Plan) overrides(proof Proof) bool { return slices.Contains(p.override, proof) }

// predict fills in what the first boot will measure. A set that firmware refuses measures nothing,
// which the boots verdict says already; any other reason is a restriction of that verdict.
func (p *Plan) predict() {
	var err error
	p.Predicted, err = p.machine.predict(p.state.loader, p.unified)
	var refused *SecureBootError
	if err != nil && !errors.As(err, &refused) {
		i := slices.IndexFunc(p.Verdicts, func(j Verdict) bool { return j.Proof == ProofBoots })
		p.Verdicts[i].warn("PCRs cannot be predicted: %v", err)
	}
}

// Refused returns the verdicts that keep [Plan.Apply] from writing, as a [*RefusedError]; nil means
// that Apply will write.
func (p *Plan) Refused() error {
	if p.Loader == nil {
		return refused(p.Verdicts)
	}
	return refused(slices.Concat(p.Loader.Verdicts, p.Verdicts))
}

func refused(verdicts []Verdict) error {
	var failed []Verdict
	for _, j := range verdicts {
		if !j.passes() && !j.Overridden {
			failed = append(failed, j)
		}
	}
	if failed == nil {
		return nil
	}
	return prefix.Error("upgrade", &RefusedError{failed})
}

// Done reports whether [Plan.Apply] has nothing to write: the set is installed, and so is the boot
// loader if it is a part of the plan.
func (p *Plan) Done() bool { return p.Installed && (p.Loader == nil || len(p.Loader.Changes) == 0) }

// String is the plan for a person.
func (p *Plan) String() string {
	var b strings.Builder
	if p.Loader != nil {
		fmt.Fprintf(&b, "boot loader, before the rest:\n%s", p.Loader)
	}
	if p.Installed {
		todo := "nothing to do"
		if !p.Done() {
			todo = "nothing else to do"
		}
		fmt.Fprintf(&b, "version %s is installed%s as %s: %s\n", p.Version, inSlot(p.Target), p.Entry, todo)
		b.WriteString(p.Support.String())
		return b.String()
	}
	fmt.Fprintf(&b, "upgrade to version %s%s, from %s\n", p.Version, inSlot(p.Target), p.From)
	b.WriteString(p.Support.String())
	writeVerdicts(&b, p.Verdicts)
	if len(p.Chain) > 0 {
		fmt.Fprintf(&b, "  chain    %s\n", chainText(p.Chain))
	}
	for i, s := range p.Steps {
		oneWay := ""
		if s.OneWay {
			oneWay = " [one way]"
		}
		fmt.Fprintf(&b, "  %d. %s%s\n", i+1, s, oneWay)
	}
	writePCRs(&b, &p.machine, p.Predicted)
	return b.String()
}

func writeVerdicts(b *strings.Builder, verdicts []Verdict) {
	for _, j := range verdicts {
		state := j.Outcome.String()
		if j.Overridden {
			state += ", overridden"
		}
		fmt.Fprintf(b, "  %-8s %s\n", j.Proof, state)
		for _, r := range j.Reasons {
			fmt.Fprintf(b, "           %s %s\n", [...]string{"?", OutcomePass: "-", OutcomeWarn: "!", OutcomeFail: "✗"}[r.Outcome], r.Text)
		}
	}
}

func writePCRs(b *strings.Builder, m *Machine, predicted *tpm.Log) {
	for _, pcr := range predictedPCRs {
		for _, h := range m.banks() {
			if v := pcrOf(predicted, h, pcr); v != nil {
				fmt.Fprintf(b, "  PCR %-2d %s %x\n", pcr, tpm.BankName(h), v)
			}
		}
	}
}

// slotName is the name of a slot, "" of none.
func slotName(s *Slot) string {
	if s == nil {
		return ""
	}
	return s.Name()
}

func inSlot(s *Slot) string {
	if s == nil {
		return ""
	}
	return " in slot " + s.Name()
}

// predictedPCRs are those that a prediction covers.
var predictedPCRs = []int{4, 7, 11}

// pcrOf is a predicted value; nil where the prediction claims none.
func pcrOf(predicted *tpm.Log, h crypto.Hash, pcr int) []byte {
	if predicted == nil {
		return nil
	}
	if !slices.ContainsFunc(predicted.Coverage, func(c tpm.Coverage) bool { return c.PCR == pcr && c.Prediction != tpm.PredictionNone }) {
		return nil
	}
	banks, err := predicted.Replay(h)
	if err != nil {
		return nil
	}
	return banks[h].PCR(pcr)
}

// PlanSchema names the JSON form of a plan, docs/schema/plan.json.
const PlanSchema = "osmith.plan/1"

// MarshalJSON writes the plan for a program.
func (p *Plan) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Schema     string                       `json:"schema"`
		Version    string                       `json:"version"`
		From       string                       `json:"from"`
		Entry      string                       `json:"entry"`
		Slot       string                       `json:"slot"`
		Installed  bool                         `json:"installed"`
		Refused    bool                         `json:"refused"`
		Loader     *LoaderPlan                  `json:"loader,omitempty"`
		Support    *Support                     `json:"support,omitempty"`
		Judgements []Verdict                    `json:"judgements"`
		Chain      []Link                       `json:"chain"`
		Steps      []Step                       `json:"steps"`
		PCRs       map[string]map[string]string `json:"pcrs"`
	}{PlanSchema, p.Version, p.From, p.Entry, slotName(p.Target), p.Installed, p.Refused() != nil, p.Loader, p.Support, verdictsJSON(p.Verdicts), append([]Link{}, p.Chain...), append([]Step{}, p.Steps...), pcrsJSON(&p.machine, p.Predicted)})
}

// verdictsJSON are verdicts without a list that is null.
func verdictsJSON(list []Verdict) []Verdict {
	verdicts := append([]Verdict{}, list...)
	for i := range verdicts {
		verdicts[i].Reasons = append([]Reason{}, verdicts[i].Reasons...)
	}
	return verdicts
}

// pcrsJSON are the predicted values by bank and number.
func pcrsJSON(m *Machine, predicted *tpm.Log) map[string]map[string]string {
	pcrs := map[string]map[string]string{}
	for _, h := range m.banks() {
		bank := map[string]string{}
		for _, n := range predictedPCRs {
			if v := pcrOf(predicted, h, n); v != nil {
				bank[fmt.Sprint(n)] = hex.EncodeToString(v)
			}
		}
		pcrs[tpm.BankName(h)] = bank
	}
	return pcrs
}

// entryDir is where the loader looks for UKIs (UAPI.1, "Type #2 EFI Unified Kernel Images").
const entryDir = "EFI/Linux"

// type1Dir is where the loader looks for Type #1 entries.
const type1Dir = "loader/entries"

// stagedSuffix ends names of files that are not yet to be used: the loader looks at *.efi only. Who
// else stages files has names of its own.
const stagedSuffix = ".osmith-staged"
