package upgrade

import (
	"context"
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade/internal/osset"
)

// Proof names one of the things that a plan must prove before anything is written.
type Proof string

// The proofs, in the order in which a plan lists its verdicts on them.
const (
	ProofFits  Proof = "fits"  // slot and ESP hold the set at the worst moment
	ProofBoots Proof = "boots" // firmware, loader and kernel will accept it
	// the TPM will unseal what is sealed to the signed PCR policy, and open the volumes of the disk
	ProofUnlocks Proof = "unlocks"
	ProofReturns Proof = "returns" // the old set boots again if the new one fails
	// the release may replace the running one: it is of the same product, is not older, and has not
	// failed on this machine
	ProofFollows Proof = "follows"
)

// Proofs lists all of them.
func Proofs() []Proof {
	return []Proof{ProofFits, ProofBoots, ProofUnlocks, ProofReturns, ProofFollows}
}

// ParseProof reads the name of a proof.
func ParseProof(s string) (Proof, error) {
	if p := Proof(s); slices.Contains(Proofs(), p) {
		return p, nil
	}
	return "", prefix.Error("upgrade", fmt.Errorf("verdict %q: want fits, boots, unlocks, returns or follows", s))
}

// Outcome is the result of a verdict. Higher is worse. The zero value is unknown: nothing was
// checked or proven.
type Outcome int

// The outcomes of a verdict.
const (
	OutcomePass Outcome = iota + 1 // proven
	OutcomeWarn                    // works, with a restriction that the reasons name
	OutcomeFail                    // Apply refuses unless the proof is overridden by name
)

var outcomeNames = [...]string{"unknown", "pass", "warn", "fail"}

// String is "pass", "warn" or "fail"; "unknown" for the zero value.
func (o Outcome) String() string {
	if o < 0 || int(o) >= len(outcomeNames) {
		return fmt.Sprintf("Outcome(%d)", int(o))
	}
	return outcomeNames[o]
}

// MarshalText implements [encoding.TextMarshaler].
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// Verdict is the answer to one proof with its reasons: what was proven, what was not, and what to
// do about it.
type Verdict struct {
	Proof      Proof    `json:"verdict"`
	Outcome    Outcome  `json:"outcome"` // the worst outcome of the reasons
	Reasons    []Reason `json:"reasons"`
	Overridden bool     `json:"overridden,omitempty"`
}

// passes reports whether the verdict lets the plan be applied. A verdict without an outcome does
// not.
func (v *Verdict) passes() bool { return v.Outcome == OutcomePass || v.Outcome == OutcomeWarn }

// Reason is one finding behind a verdict.
type Reason struct {
	Outcome Outcome `json:"outcome"`
	Text    string  `json:"text"`
	Err     error   `json:"-"` // typed error of a failure
}

func (v *Verdict) add(o Outcome, text string, err error) {
	v.Outcome = max(v.Outcome, o)
	v.Reasons = append(v.Reasons, Reason{o, text, err})
}

func (v *Verdict) pass(format string, args ...any) {
	v.add(OutcomePass, fmt.Sprintf(format, args...), nil)
}

func (v *Verdict) warn(format string, args ...any) {
	v.add(OutcomeWarn, fmt.Sprintf(format, args...), nil)
}

// fail records err as a reason against the set.
func (v *Verdict) fail(err error) { v.add(OutcomeFail, err.Error(), err) }

// RefusedError is returned by [Plan.Apply] for a plan with failed verdicts that the options do not
// override.
type RefusedError struct {
	Verdicts []Verdict // the failed ones
}

func (e *RefusedError) Error() string {
	var parts []string
	for _, j := range e.Verdicts {
		for _, r := range j.Reasons {
			if r.Outcome == OutcomeFail {
				parts = append(parts, fmt.Sprintf("%s: %s", j.Proof, r.Text))
			}
		}
	}
	return "refused, nothing was written: " + strings.Join(parts, "; ")
}

// Unwrap returns the typed errors of the failed verdicts, for [errors.Is] and [errors.As].
func (e *RefusedError) Unwrap() []error {
	var errs []error
	for _, j := range e.Verdicts {
		for _, r := range j.Reasons {
			if r.Err != nil {
				errs = append(errs, r.Err)
			}
		}
	}
	return errs
}

// SlotSpaceError says that a part of the set does not fit its partition.
type SlotSpaceError struct {
	Slot       string // "A", "B"
	Part       string // "root file system", "hash tree"
	Need, Have int64  // bytes
}

func (e *SlotSpaceError) Error() string {
	return fmt.Sprintf("the %s needs %d bytes, its partition in slot %s has %d: %d bytes are missing",
		e.Part, e.Need, e.Slot, e.Have, e.Need-e.Have)
}

// ESPSpaceError says that the UKI does not fit the ESP at the worst moment, when the ESP holds the
// old and the new UKI; on a mounted ESP, when a commit copies the new one.
type ESPSpaceError struct {
	Need, Have int64 // bytes, in whole clusters
}

func (e *ESPSpaceError) Error() string {
	return fmt.Sprintf("the UKI needs %d bytes on the ESP, %d will be free: %d bytes are missing", e.Need, e.Have, e.Need-e.Have)
}

// judgeFits compares the set with the target slot and with what the ESP has free once the entry of
// the slot's old version is gone.
func (p *Plan) judgeFits() Verdict {
	j := Verdict{Proof: ProofFits}
	if p.Target != nil {
		p.judgeSlot(&j)
		p.judgeDelta(&j)
	}
	p.judgeESP(&j)
	// It is asked again before the first write.
	if release, err := p.exclusively(); err != nil {
		j.fail(err)
	} else if err := release(); err != nil {
		j.fail(err)
	}
	return j
}

// judgeESP reckons with the worst moment: the new UKI, and beside it everything that is not gone by
// then.
func (p *Plan) judgeESP(j *Verdict) {
	cluster := p.state.esp.of(p.Entry).ClusterSize()
	clusters := func(n int64) int64 { return (n + cluster - 1) / cluster * cluster }
	if p.leftover.err != nil {
		j.fail(p.leftover.err)
		return
	}
	if p.leftover.any() {
		j.pass("an interrupted upgrade left %s on the ESP, which the first step repairs", p.leftover)
	}
	for _, r := range p.leftover.stays {
		if r != (fat.Repaired{}) {
			j.warn("a power cut left %s on a boot partition, which cannot be repaired while the partition is mounted: run fsck.fat, or upgrade without Machine.Mounted", r)
		}
	}
	volume, _ := splitVolume(p.Entry)
	onESP := p.leftover.free[""]
	have := p.leftover.free[volume]
	// What is remembered of a failed set is written before that makes room, with its directory;
	// small files are there twice while they are replaced.
	early, espCluster := int64(0), p.state.esp.esp.ClusterSize()
	for _, small := range [][]byte{p.failed, p.config} {
		early += (int64(len(small)) + espCluster - 1) / espCluster * espCluster
	}
	if p.failed != nil {
		early += 2 * espCluster
	}
	if early > onESP {
		j.fail(&ESPSpaceError{early, onESP})
		return
	}
	need := clusters(p.release.UKI.Size())
	if p.isStaged {
		need = 0
	}
	if p.state.esp.of(p.Entry).mounted != nil {
		need += clusters(p.release.UKI.Size()) // a commit copies it
	}
	for _, a := range p.addons {
		need += clusters(a.src.Size())
	}
	if len(p.addons) > 0 {
		need += cluster // their directory
	}
	for _, old := range p.obsolete {
		if v, _ := splitVolume(old.path); v == volume {
			have += clusters(old.size)
		}
	}
	// The directory may need one more cluster for the new name.
	need += cluster
	if volume == "" {
		need += early
	}
	if need > have {
		j.fail(&ESPSpaceError{need, have})
	} else {
		j.pass("UKI: %d bytes of %d free on the ESP, %d releases of this size left", need, have, have/(clusters(p.release.UKI.Size())+cluster))
	}
}

// judgeSlot compares the file system, its tree and its signature with their partitions.
func (p *Plan) judgeSlot(j *Verdict) {
	t := p.Target
	for _, x := range []struct {
		part       string
		need, have int64
	}{
		{"root file system", p.dataSize(), t.rootSize},
		{"hash tree", p.release.Tree.Size(), t.treeSize},
	} {
		if x.need > x.have {
			j.fail(&SlotSpaceError{t.Name(), x.part, x.need, x.have})
		} else {
			j.pass("%s: %d of %d bytes of its partition in slot %s", x.part, x.need, x.have, t.Name())
		}
	}
	if p.signature != nil && t.Signature >= 0 {
		if _, err := p.signatureContent(); err != nil {
			j.fail(fmt.Errorf("slot %s: %w", t.Name(), err))
		}
	}
}

// judgeBoots asks whether loader and firmware accept the UKI, and whether the kernel will find and
// accept its root.
func (p *Plan) judgeBoots(ctx context.Context) Verdict {
	j := Verdict{Proof: ProofBoots}
	if err := p.unified.stubErr; err != nil {
		j.fail(err)
	}
	if err := checkArchitecture(p.identity.file, p.state.loader); err != nil {
		j.fail(err)
	}
	if err := p.unified.imageErr; err != nil {
		j.fail(err)
	} else {
		p.unified.image.judgeStart(&j, "")
	}
	p.state.judgeLoaders(&j)
	if err := p.state.xbootldr; err != nil {
		j.fail(err)
	}
	judgeImage(&j, p.identity.file)
	p.judgeChoice(&j)
	p.judgeStale(&j)
	if err := p.checkSet(ctx, &j); err != nil {
		j.fail(err)
	}
	p.judgeSignature(&j, p.cmdline)
	p.judgeImagePolicy(&j, p.cmdline)
	p.judgeExtensions(ctx, &j, p.cmdline)
	return j
}

// checkSet proves that UKI, add-ons and hash tree belong together, and that the root file system is
// as large as the tree says. It reads nothing of the root file system: each of its blocks is
// checked before it is written.
func (p *Plan) checkSet(ctx context.Context, j *Verdict) error {
	e := p.unified.effective
	own, ok := p.identity.file.Cmdline()
	if !ok && len(e.addons) == 0 && !p.alone() {
		return osset.ErrUnbound
	}
	for _, err := range e.left {
		j.warn("the stub leaves an add-on out: %v", err)
	}
	for _, im := range e.addons {
		im.judgeStart(j, im.path)
	}
	if e.err != nil {
		if len(e.addons) > 0 {
			return fmt.Errorf("the command line that the stub puts together is unknown: %w", e.err)
		}
		e = &effective{companions: e.companions, handover: &uki.Handover{Cmdline: own}}
	}
	where := "the UKI's command line"
	if e.matters() {
		where = "the command line of UKI, add-ons and SMBIOS"
	}
	p.cmdline = e.handover.Cmdline
	if p.alone() {
		if err := osset.BindNone(where, p.cmdline); err != nil {
			return rootHashError(err)
		}
		j.pass("%s names no root hash: the system runs from the UKI", where)
		return nil
	}
	if err := osset.Bind(where, p.cmdline, p.release.RootHash); err != nil {
		return rootHashError(err)
	}
	im := p.image()
	im.Tree = meteredSource{p.release.Tree, &p.meter}
	if err := im.VerifyTree(ctx); err != nil {
		return err
	}
	j.pass("hash tree and %s have the root hash %s; every block of the root file system is checked while it is written", where, hash(p.release.RootHash))
	return nil
}

// ImageError is a reason of the boots verdict: stub, loader or firmware refuse the UKI, or may
// refuse it.
type ImageError struct {
	Finding uki.Finding
}

func (e *ImageError) Error() string { return "the UKI: " + e.Finding.String() }

// judgeImage asks what stub and firmware would dislike about the UKI. In the default profile it
// fails the verdict, and so does what is not known; in another one it is a restriction.
func judgeImage(j *Verdict, f *uki.File) {
	failed := false
	for _, found := range f.Check() {
		switch {
		case found.Severity == uki.SeverityWarning:
		case found.Profile > 0:
			j.warn("%v", &ImageError{found})
		default:
			j.fail(&ImageError{found})
			failed = true
		}
	}
	if !failed {
		j.pass("stub: starts the kernel and knows all sections of the UKI")
	}
}

// checkArchitecture compares the machine types of UKI and loader.
func checkArchitecture(f *uki.File, loader osmith.Source) error {
	l, err := pe.Parse(loader, loader.Size())
	if err != nil {
		return fmt.Errorf("boot loader on the ESP: %w", err)
	}
	if f.Machine() != l.Machine {
		return fmt.Errorf("the UKI is for machine type %#x, the boot loader on the ESP for %#x", f.Machine(), l.Machine)
	}
	return nil
}

// maxPolicy bounds what is read of a UKI's .pcrsig and .pcrpkey.
const maxPolicy = 1 << 20

// ErrNoPolicy is a reason of the unlocks verdict: the UKI has no signed PCR policies, and the
// machine needs them.
var ErrNoPolicy = errors.New("the UKI carries no signed PCR policies (.pcrsig and .pcrpkey)")

// PolicyError says that a UKI's signed policies do not cover what the machine will measure.
type PolicyError struct {
	Bank    string      // "sha256"
	Phase   []string    // state of PCR 11 that no signature covers
	Variant uki.Variant // variant of the UKI
}

func (e *PolicyError) Error() string {
	of := ""
	if e.Variant != (uki.Variant{}) {
		of = fmt.Sprintf(" for %s", variantName(e.Variant))
	}
	return fmt.Sprintf("no valid signature in .pcrsig covers PCR 11 of bank %s in the phase %q%s", e.Bank, strings.Join(e.Phase, ":"), of)
}

// variantName is "profile 1, device tree 2".
func variantName(v uki.Variant) string {
	parts := []string{fmt.Sprintf("profile %d", v.Profile)}
	if v.DeviceTree != 0 {
		parts = append(parts, fmt.Sprintf("device tree %d", v.DeviceTree))
	}
	if v.Firmware != 0 {
		parts = append(parts, fmt.Sprintf("firmware %d", v.Firmware))
	}
	return strings.Join(parts, ", ")
}

// judgeUnlocks asks whether the TPM gives out what it has sealed: by the policies of the UKI, and
// for each volume of the disk.
func (p *Plan) judgeUnlocks() Verdict {
	j := Verdict{Proof: ProofUnlocks}
	p.machine.judgePolicies(&j, p.unified)
	p.judgeNewVolumes(&j)
	return j
}

// judgePolicies compares the policies that the UKI carries with the PCR 11 values that its own
// sections will give, and their key with the machine's. What boots by default must unlock; that
// another profile does not is a restriction, as rescue and reset profiles may well be meant to be
// without secrets.
func (m *Machine) judgePolicies(j *Verdict, u *unified) {
	if u.measErr != nil {
		j.fail(u.measErr)
		return
	}
	for n := range max(len(u.file.Profiles()), 1) {
		ok, why := m.profileUnlocks(u, n)
		switch {
		case n == 0 && why != nil && !m.NothingSealed && len(m.PCRKeys) == 0:
			j.warn("%v", why)
		case n == 0 && why != nil:
			j.fail(why)
		case n == 0:
			j.pass("%s", ok)
		case why != nil:
			j.warn("profile %d does not unlock: %v", n, why)
		}
	}
}

// profileUnlocks judges one profile in all its variants.
func (m *Machine) profileUnlocks(u *unified, profile int) (ok string, why error) {
	pemKey, hasKey, err := text(u.file, profile, ".pcrpkey")
	if err != nil {
		return "", err
	}
	signed, hasSignatures, err := text(u.file, profile, ".pcrsig")
	if err != nil {
		return "", err
	}
	if !hasKey || !hasSignatures {
		switch {
		case m.NothingSealed:
			return "nothing is sealed on this machine and the UKI carries no PCR policy", nil
		case len(m.PCRKeys) == 0:
			return "", fmt.Errorf("%w, and whether this machine has secrets sealed to such a policy is unknown: set Machine.PCRKeys or NothingSealed", ErrNoPolicy)
		}
		return "", fmt.Errorf("%w, and this machine has secrets sealed to such a policy", ErrNoPolicy)
	}
	key, err := policy.ParsePublicKey(pemKey)
	if err != nil {
		return "", fmt.Errorf(".pcrpkey: %w", err)
	}
	print, err := policy.Fingerprint(key)
	if err != nil {
		return "", fmt.Errorf(".pcrpkey: %w", err)
	}
	signatures, err := policy.ParseSignatures(signed)
	if err != nil {
		return "", fmt.Errorf(".pcrsig: %w", err)
	}
	for _, v := range u.ofProfile(profile) {
		if err := coversPhases(v, key, print, signatures); err != nil {
			return "", err
		}
	}
	switch {
	case m.NothingSealed:
		return "the signed PCR policies are valid in all default phases; nothing is sealed on this machine", nil
	case len(m.PCRKeys) == 0:
		return "", fmt.Errorf("%w: the signed PCR policies are valid in all default phases", errKeysUnknown)
	case slices.ContainsFunc(m.PCRKeys, func(k *rsa.PublicKey) bool { return k.Equal(key) }):
		return fmt.Sprintf("key %x… that this machine's secrets are sealed to has signed PCR 11 in all default phases", print[:4]), nil
	}
	return "", fmt.Errorf(".pcrsig is signed by key %x…, none of the %d keys this machine's secrets are sealed to", print[:4], len(m.PCRKeys))
}

// errKeysUnknown is why a good policy proves nothing.
var errKeysUnknown = errors.New("the keys to which this machine's secrets are sealed are unknown: set Machine.PCRKeys or NothingSealed")

// coversPhases checks that for the SHA-256 bank, which systemd prefers to unlock with, every
// default phase of PCR 11 has a valid signature.
func coversPhases(v uki.VariantMeasurements, key *rsa.PublicKey, print [32]byte, signatures []policy.Signature) error {
	const bank = crypto.SHA256
	for _, phases := range tpm.DefaultPhasePaths() {
		value, err := tpm.PCR11(bank, v.Sections, phases...)
		if err != nil {
			return err
		}
		want, err := policy.PolicyPCR(policy.Digest{}, bank, map[int][]byte{tpm.PCRKernel: value})
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(signatures, func(s policy.Signature) bool {
			return s.Bank == bank && s.Digest == want && s.Ref == "" && s.Fingerprint == print && s.Verify(key) == nil
		}) {
			return &PolicyError{tpm.BankName(bank), phases, v.Variant}
		}
	}
	return nil
}

// text reads a small section, without the padding NULs of a reserve.
func text(f *uki.File, profile int, name string) ([]byte, bool, error) {
	s, ok := f.ProfileSection(profile, name)
	if !ok {
		return nil, false, nil
	}
	if s.Size() > maxPolicy {
		return nil, false, fmt.Errorf("section %s has %d bytes, more than %d", name, s.Size(), maxPolicy)
	}
	b, err := io.ReadAll(s)
	if err != nil {
		return nil, false, fmt.Errorf("section %s: %w", name, err)
	}
	return []byte(strings.TrimRight(string(b), "\x00")), true, nil
}

// ErrPinned is a reason of the boots or returns verdict: a default that names an entry keeps the
// loader from choosing a different one.
var ErrPinned = errors.New("the loader's default is pinned")

// ErrNothingToReturnTo is a reason of the returns verdict: no other entry on the disk would boot.
var ErrNothingToReturnTo = errors.New("no other entry to fall back to")
