package secureboot

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/strictjson"
)

// A Rotation is a plan for exchanging keys of a machine: steps with reboots between them. Each step
// changes one variable, and after each step everything that has to boot still boots. It is a value:
// store it as JSON, ask [Rotation.Next] what to do, do it, ask again.
//
// Next compares the contents of PK, KEK and db with those of the plan. If a different program
// changes one of them in between, such as an update of db by Microsoft, Next says so; a new plan
// then covers the remaining steps, because both keys are valid until the last steps.
type Rotation struct {
	Start Fingerprint // of the machine before the first step
	Steps []Step

	// Reached is how many writes the machine has completed, ReachedIn the boot in which that was
	// first seen. Next keeps both up to date.
	Reached   int
	ReachedIn string

	// Firmware is the row for which the plan was made, empty for the newest of edk2.
	Firmware Firmware
}

// Kinds of steps.
const (
	StepWrite   = "write"   // give firmware an update
	StepInstall = "install" // replace images by images signed with the new key
)

// A Step is one change of a rotation.
type Step struct {
	Kind string
	Text string // for a person

	// Of a write: the update, and what the machine has afterwards.
	Pending
	After Fingerprint

	// Unsigned is the update as long as Auth is missing, because the plan was made without the key.
	Unsigned *Unsigned
}

// Unsigned is an update that a key elsewhere has to sign.
type Unsigned struct {
	Update Update
	Signer *x509.Certificate // of the key
}

var errNothingToSign = errors.New("rotation: nothing to sign in this step: it is already signed, or not a write")

// Digest returns what the key of Unsigned.Signer has to sign, as [Update.Digest] does.
func (s *Step) Digest() ([]byte, error) {
	if s.Unsigned == nil {
		return nil, prefix.Error("secureboot", errNothingToSign)
	}
	return s.Unsigned.Update.Digest()
}

// Join puts a signature over [Step.Digest] into the step, after checking it.
func (s *Step) Join(signature []byte) error {
	if s.Unsigned == nil {
		return prefix.Error("secureboot", errNothingToSign)
	}
	auth, err := s.Unsigned.Update.Join(s.Unsigned.Signer, signature)
	if err != nil {
		return err
	}
	s.Auth, s.Unsigned = auth, nil
	return nil
}

// apply is what firmware makes of the step, once it is signed.
func (s *Step) apply(v osmith.FirmwareVariables, named Firmware) (osmith.FirmwareVariables, error) {
	a, err := applyRows(v, s.Pending, named, func(r updateRow) (osmith.FirmwareVariables, error) {
		if s.Unsigned == nil {
			return r.apply(v, s.Pending)
		}
		u := s.Unsigned.Update
		if err := r.checkPayload(u.Variable, u.Payload); err != nil {
			return osmith.FirmwareVariables{}, err
		}
		stamp, err := appendTime(nil, u.Time)
		if err != nil {
			return osmith.FirmwareVariables{}, err
		}
		return r.write(v, u.Variable, u.Payload, efiStamp(stamp), u.Append)
	})
	return a.Variables, err
}

// A Fingerprint is the SHA-256 digests of the content of PK, KEK and db, in hexadecimal.
type Fingerprint struct {
	PK  string `json:"PK"`
	KEK string `json:"KEK"`
	DB  string `json:"db"`
}

func fingerprint(v osmith.FirmwareVariables) Fingerprint {
	sum := func(b []byte) string {
		s := sha256.Sum256(b)
		return hex.EncodeToString(s[:])
	}
	return Fingerprint{sum(v.PK), sum(v.KEK), sum(v.DB)}
}

// ErrNothingMustBoot says that an enrolment or a rotation was requested without an image that has
// to boot, so that no image would be judged: set MustBoot or NothingMustBoot.
var ErrNothingMustBoot = errors.New("no image is given that must boot: give all images that the machine starts (MustBoot), or set NothingMustBoot")

// RotationOptions are the inputs of a plan.
type RotationOptions struct {
	// Machine is the present state, best read right after a start. Entries of db and KEK that do
	// not belong to the old keys stay.
	Machine osmith.FirmwareVariables

	// Old and New differ in the keys that are exchanged: any of PK, KEK and DB. A pair of New
	// without a certificate means that the key stays. If a machine has completed some of the steps
	// already, the plan has only the rest. A certificate without a key means that the key is kept
	// elsewhere: steps that it has to sign stay unsigned until [Step.Join].
	Old, New *Hierarchy

	// Time is the time of the first step; each further step is a second later.
	Time time.Time

	// MustBoot are the images on the machine now. Those signed with the old key must be replaced
	// before the old key is removed. If there are none, set NothingMustBoot.
	MustBoot []Image

	// NothingMustBoot says that no image has to boot while the keys are exchanged, so that none is
	// judged.
	NothingMustBoot bool

	// OptionROMs is the decision that a new db needs. The entries of the machine's db stay in any
	// case, and count as a decision if they are used for option ROMs.
	OptionROMs OptionROMs

	// RevokeOld puts the old db certificate into dbx at the end: images signed with it never boot
	// again. Without RevokeOld the certificate is only removed from db.
	RevokeOld bool

	// RoomForVariables is how many bytes the machine has for these variables, or 0 not to check.
	RoomForVariables int64

	// Firmware is the row that takes the steps and judges the images: [FirmwareEDK2Stable202608] if
	// it is empty. The plan keeps it.
	Firmware Firmware
}

// PlanRotation makes the plan and tests it: it applies every step to the machine as firmware would,
// and evaluates every image in MustBoot until the step at which the images are replaced. Errors are
// [ErrOptionROMs], [*SpaceError], [*LockoutError], [*RefusedError], or say what is wrong with the
// options. The plan has no steps when there is nothing left to do.
//
// The order: the new certificate into db; images by the new key; the new one into KEK; PK; the old
// one out of KEK; the old one out of db; the old one into dbx.
func PlanRotation(o RotationOptions) (r *Rotation, err error) {
	defer prefix.Add("secureboot", &err)
	if o.Old == nil || o.New == nil {
		return nil, errors.New("rotation: old and new hierarchy are both needed")
	}
	if err := o.Firmware.check(); err != nil {
		return nil, fmt.Errorf("rotation: %w", err)
	}
	if len(o.MustBoot) == 0 && !o.NothingMustBoot {
		return nil, fmt.Errorf("rotation: %w", ErrNothingMustBoot)
	}
	p := planner{
		RotationOptions: o, v: o.Machine, plan: &Rotation{Start: fingerprint(o.Machine), Steps: []Step{}, Firmware: o.Firmware}, lists: map[string][]SignatureList{},
	}
	if err := p.prepare(); err != nil {
		return nil, err
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	for _, step := range []func() error{p.addDB, p.install, p.addKEK, p.replacePK, p.dropKEK, p.dropDB, p.revoke} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return p.plan, nil
}

type planner struct {
	RotationOptions
	v       osmith.FirmwareVariables   // after the steps so far
	lists   map[string][]SignatureList // content of PK, KEK, db and, to revoke, dbx in v
	new     Hierarchy                  // New with what stays from Old
	kept    []SignatureList
	swapped bool // MustBoot will be other images by now
	plan    *Rotation
}

func (p *planner) prepare() error {
	setup, err := isSet("SetupMode", p.v.SetupMode)
	if err != nil {
		return err
	}
	if setup {
		return errors.New("rotation: the machine is in Setup Mode: enrol the new keys instead")
	}
	p.v.SecureBoot = bit(true) // plan for the machine that enforces
	p.new = *p.New
	for _, k := range []struct {
		name       string
		fresh, old *KeyPair
	}{{"PK", &p.new.PK, &p.Old.PK}, {"KEK", &p.new.KEK, &p.Old.KEK}, {"db", &p.new.DB, &p.Old.DB}} {
		if k.fresh.Cert == nil {
			*k.fresh = *k.old
		}
		if k.fresh.Cert == nil || k.old.Cert == nil {
			return fmt.Errorf("rotation: the old hierarchy lacks the certificate of %s: give the machine's certificate", k.name)
		}
	}
	for _, k := range []struct {
		name       string
		old, fresh KeyPair
	}{{"PK", p.Old.PK, p.new.PK}, {"KEK", p.Old.KEK, p.new.KEK}, {"db", p.Old.DB, p.new.DB}} {
		if err := p.parse(k.name); err != nil {
			return err
		}
		if !p.has(k.name, k.old) && !p.has(k.name, k.fresh) {
			return fmt.Errorf("rotation: %s of the machine has neither the old certificate %s nor the new one %s: give the machine's hierarchy", k.name, title(k.old.Cert), title(k.fresh.Cert))
		}
	}
	if p.Old.DB.same(p.new.DB) {
		if p.RevokeOld {
			return fmt.Errorf("rotation: RevokeOld would revoke the certificate %s, which stays in db: unset RevokeOld, or give a new certificate", title(p.Old.DB.Cert))
		}
		return nil
	}
	if p.RevokeOld {
		if err := p.parse("dbx"); err != nil {
			return err
		}
	}
	decision := p.OptionROMs
	decision.KeepDB = p.v.DB
	p.kept, err = decision.lists(p.new.Owner, p.Old.PK.Cert, p.Old.KEK.Cert, p.Old.DB.Cert, p.new.PK.Cert, p.new.KEK.Cert, p.new.DB.Cert)
	return err
}

// parse reads a variable of the machine; afterwards write keeps track of it.
func (p *planner) parse(name string) (err error) {
	if p.lists[name], err = parseLists(Content(p.v, name)); err != nil {
		return fmt.Errorf("rotation: %s of the machine: %w", name, err)
	}
	return nil
}

// has reports whether a variable has the certificate of a pair.
func (p *planner) has(name string, pair KeyPair) bool {
	return containsCertificate(p.lists[name], pair.Cert)
}

// check checks the machine as it would be now against what has to boot and against its room.
func (p *planner) check() error {
	if err := checkSpace(p.v, p.RoomForVariables); err != nil {
		return err
	}
	if p.swapped {
		return nil
	}
	text := "today"
	if n := len(p.plan.Steps); n > 0 {
		text = p.plan.Steps[n-1].Text
	}
	return lockout(p.v, p.MustBoot, p.Firmware, text)
}

// pk and kek are the pairs with which the machine, as it is by now, takes updates.
func (p *planner) pk() KeyPair { return p.holds("PK", p.Old.PK, p.new.PK) }

func (p *planner) kek() KeyPair { return p.holds("KEK", p.Old.KEK, p.new.KEK) }

func (p *planner) holds(name string, old, fresh KeyPair) KeyPair {
	if !p.has(name, old) || (old.Key == nil && fresh.Key != nil && p.has(name, fresh)) {
		return fresh
	}
	return old
}

func (p *planner) write(text, name string, appendWrite bool, signer KeyPair, lists ...SignatureList) error {
	payload, err := appendLists(nil, lists...)
	if err != nil {
		return err
	}
	at := p.Time.Add(time.Duration(len(p.plan.Steps)) * time.Second)
	u := Update{Variable: name, Payload: payload, Time: at, Append: appendWrite}
	step := Step{Kind: StepWrite, Text: text, Pending: Pending{Variable: name, Append: appendWrite}}
	if signer.Key == nil {
		if _, err := u.digest(); err != nil {
			return err
		}
		step.Unsigned = &Unsigned{u, signer.Cert}
	} else if step.Auth, err = u.Sign(signer.Key, signer.Cert); err != nil {
		return err
	}
	if p.v, err = step.apply(p.v, p.Firmware); err != nil {
		return err
	}
	if appendWrite {
		lists = Merge(p.lists[name], lists...)
	}
	p.lists[name] = lists
	step.After = fingerprint(p.v)
	p.plan.Steps = append(p.plan.Steps, step)
	return p.check()
}

func (p *planner) addDB() error {
	if p.Old.DB.same(p.new.DB) {
		return nil
	}
	var more []SignatureList
	if !p.has("db", p.new.DB) {
		more = append(more, CertificateList(p.new.Owner, p.new.DB.Cert))
	}
	have := p.lists["db"]
	more = append(more, Merge(have, p.kept...)[len(have):]...)
	if len(more) == 0 {
		return nil
	}
	return p.write(fmt.Sprintf("add %s to db", title(p.new.DB.Cert)), "db", true, p.kek(), more...)
}

func (p *planner) install() error {
	if p.Old.DB.same(p.new.DB) || !p.has("db", p.Old.DB) {
		return nil
	}
	p.plan.Steps = append(p.plan.Steps, Step{Kind: StepInstall, Text: fmt.Sprintf("install images signed by %s", title(p.new.DB.Cert))})
	return nil
}

func (p *planner) addKEK() error {
	if p.has("KEK", p.new.KEK) {
		return nil
	}
	return p.write(fmt.Sprintf("add %s to KEK", title(p.new.KEK.Cert)), "KEK", true, p.pk(), CertificateList(p.new.Owner, p.new.KEK.Cert))
}

func (p *planner) replacePK() error {
	if p.has("PK", p.new.PK) {
		return nil
	}
	return p.write(fmt.Sprintf("replace PK by %s", title(p.new.PK.Cert)), "PK", false, p.Old.PK, CertificateList(p.new.Owner, p.new.PK.Cert))
}

func (p *planner) dropKEK() error {
	if p.Old.KEK.same(p.new.KEK) || !p.has("KEK", p.Old.KEK) {
		return nil
	}
	return p.write(fmt.Sprintf("remove %s from KEK", title(p.Old.KEK.Cert)), "KEK", false, p.pk(), without(p.lists["KEK"], p.Old.KEK.Cert)...)
}

func (p *planner) dropDB() error {
	if p.Old.DB.same(p.new.DB) || !p.has("db", p.Old.DB) {
		return nil
	}
	p.swapped = true
	return p.write(fmt.Sprintf("remove %s from db", title(p.Old.DB.Cert)), "db", false, p.kek(), without(p.lists["db"], p.Old.DB.Cert)...)
}

func (p *planner) revoke() error {
	if !p.RevokeOld || certificateRevoked(p.lists["dbx"], p.Old.DB.Cert) {
		return nil
	}
	list, err := CertificateDigestList(p.new.Owner, crypto.SHA256, time.Time{}, p.Old.DB.Cert)
	if err != nil {
		return err
	}
	p.swapped = true
	return p.write(fmt.Sprintf("revoke %s in dbx", title(p.Old.DB.Cert)), "dbx", true, p.kek(), list)
}

// title tells certificates of one name apart.
func title(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return fmt.Sprintf("%q (SHA-256 %x...)", c.Subject, sum[:4])
}

// Kinds of actions.
const (
	ActionSign    = "sign"    // get Action.Step signed: Step.Digest, Step.Join
	ActionWrite   = "write"   // give firmware Action.Step's update
	ActionInstall = "install" // replace the images in Action.Images
	ActionReboot  = "reboot"  // reboot and call Next again
	ActionDone    = "done"
)

// An Action is what to do next.
type Action struct {
	Kind   string
	Text   string   // for a person
	Step   *Step    // step to sign, write or install; it points into the plan
	Images []string // to be replaced before the old key can go
}

// A State is the state of a machine during a rotation.
type State struct {
	Variables osmith.FirmwareVariables

	// BootID is a text that differs from boot to boot, such as /proc/sys/kernel/random/boot_id.
	BootID string

	// Images are all images that have to boot, as they are installed now: the boot loader and every
	// release that the machine may fall back to.
	Images []Image
}

// An OffPlanError says that PK, KEK or db match no step of the plan: a different program has
// changed them, or the plan is for a different machine. Make a new plan from the present state.
type OffPlanError struct {
	Variables []string // variables that differ from the plan's last known state
}

func (e *OffPlanError) Error() string {
	return fmt.Sprintf("rotation: %s changed outside the plan: make a new plan from this state", strings.Join(e.Variables, ", "))
}

// Next says what to do with a machine in this state. It records in r how far the machine is, so
// store r again afterwards; if r is lost, the machine is rebooted once more than needed. A write,
// or its signature, is returned only when all images boot before and after it, an installation when
// some image would not boot after the rest of the plan; images that cannot boot today, or would not
// after a step that the plan did not foresee, are a [*LockoutError]. Other errors are
// [*OffPlanError] and [*RefusedError].
func (r *Rotation) Next(s State) (a Action, err error) {
	defer prefix.Add("secureboot", &err)
	if s.BootID == "" {
		return Action{}, errors.New("rotation: the state has no BootID: give a text that differs from boot to boot, such as /proc/sys/kernel/random/boot_id")
	}
	setup, err := isSet("SetupMode", s.Variables.SetupMode)
	if err != nil {
		return Action{}, err
	}
	if setup {
		return Action{}, errors.New("rotation: the machine is in Setup Mode, since its PK is gone: enrol the new keys instead")
	}
	reached, err := r.position(s.Variables)
	if err != nil {
		return Action{}, err
	}
	if reached != r.Reached {
		r.Reached, r.ReachedIn = reached, s.BootID
	}
	if r.ReachedIn == s.BootID {
		return Action{Kind: ActionReboot, Text: "reboot: the last change has not been booted with yet"}, nil
	}
	v := s.Variables
	v.SecureBoot = bit(true) // judge as the machine that enforces would
	if err := lockout(v, s.Images, r.Firmware, "today"); err != nil {
		return Action{}, err
	}
	rest := r.after(reached)
	for i := range rest {
		step := &rest[i]
		if step.Kind == StepInstall {
			stuck, err := r.inTheEnd(v, rest, s.Images)
			if err != nil {
				return Action{}, err
			}
			if stuck != nil {
				text := fmt.Sprintf("%s: %s would not boot in the end: %s", step.Text, strings.Join(stuck.Images, ", "), stuck.Reason)
				return Action{Kind: ActionInstall, Text: text, Step: step, Images: stuck.Images}, nil
			}
			continue
		}
		after, err := step.apply(v, r.Firmware)
		if err != nil {
			return Action{}, err
		}
		if err := lockout(after, s.Images, r.Firmware, step.Text); err != nil {
			return Action{}, err
		}
		if step.Unsigned != nil {
			return Action{Kind: ActionSign, Text: fmt.Sprintf("have it signed by %s: %s", title(step.Unsigned.Signer), step.Text), Step: step}, nil
		}
		return Action{Kind: ActionWrite, Text: step.Text, Step: step}, nil
	}
	return Action{Kind: ActionDone, Text: "done: the machine has the new keys"}, nil
}

// inTheEnd tells which images any of the writes that are left would stop.
func (r *Rotation) inTheEnd(v osmith.FirmwareVariables, rest []Step, images []Image) (*LockoutError, error) {
	for _, step := range rest {
		if step.Kind != StepWrite {
			continue
		}
		var err error
		if v, err = step.apply(v, r.Firmware); err != nil {
			return nil, err
		}
		if e := blocked(v, images, r.Firmware, step.Text); e != nil {
			return e, nil
		}
	}
	return nil, nil
}

// after are the steps behind so many writes.
func (r *Rotation) after(writes int) []Step {
	for i, s := range r.Steps {
		if s.Kind != StepWrite {
			continue
		}
		if writes == 0 {
			return r.Steps[r.installBefore(i):]
		}
		writes--
	}
	return nil
}

// installBefore moves back over installations, which leave no trace in the variables.
func (r *Rotation) installBefore(i int) int {
	for i > 0 && r.Steps[i-1].Kind == StepInstall {
		i--
	}
	return i
}

// position is how many writes a machine has behind it.
func (r *Rotation) position(v osmith.FirmwareVariables) (int, error) {
	have := fingerprint(v)
	expected, writes, found := r.Start, 0, -1
	at := r.Start // where the plan last was
	if have == expected {
		found = 0
	}
	for _, s := range r.Steps {
		if s.Kind != StepWrite {
			continue
		}
		writes++
		switch {
		case s.Variable != "dbx":
			expected = s.After
			if have == expected {
				found = writes
			}
		case found == writes-1 && s.revoked(v):
			found = writes
		}
		if writes == r.Reached {
			at = expected
		}
	}
	if found >= 0 {
		return found, nil
	}
	e := &OffPlanError{}
	for _, k := range []struct {
		name     string
		have, at string
	}{{"PK", have.PK, at.PK}, {"KEK", have.KEK, at.KEK}, {"db", have.DB, at.DB}} {
		if k.have != k.at {
			e.Variables = append(e.Variables, k.name)
		}
	}
	return 0, e
}

// revoked reports whether dbx has what the step appends to it.
func (s *Step) revoked(v osmith.FirmwareVariables) bool {
	var payload []byte
	if s.Unsigned != nil {
		payload = s.Unsigned.Update.Payload
	} else if a, err := parseAuth(s.Auth); err == nil {
		payload = a.Payload
	} else {
		return false
	}
	more, err := parseLists(payload)
	if err != nil {
		return false
	}
	have, err := parseLists(v.DBX)
	return err == nil && len(Merge(have, more...)) == len(have)
}

// String is the plan for a person: a line for each step, with a mark at completed steps.
func (r *Rotation) String() string {
	var b strings.Builder
	left := len(r.after(r.Reached))
	for i, s := range r.Steps {
		mark := " "
		if i < len(r.Steps)-left {
			mark = "x"
		}
		fmt.Fprintf(&b, "[%s] %d. %s\n", mark, i+1, s.Text)
		if s.Kind == StepWrite {
			fmt.Fprintf(&b, "       reboot\n")
		}
	}
	if len(r.Steps) == 0 {
		b.WriteString("nothing to do\n")
	}
	return b.String()
}

// A LockoutError says that an image that has to boot would not boot.
type LockoutError struct {
	When   string // "today", or the step after which the image would not boot
	Images []string
	Reason string // reason for the first image
	Rule   Rule   // rule that decided about the first image; its Remedy says what to change
}

func (e *LockoutError) Error() string {
	return fmt.Sprintf("%s: the machine would not boot %s: %s; to change: %s", e.When, strings.Join(e.Images, ", "), e.Reason, e.Rule.Remedy())
}

func lockout(v osmith.FirmwareVariables, images []Image, named Firmware, when string) error {
	if e := blocked(v, images, named, when); e != nil {
		return e
	}
	return nil
}

func blocked(v osmith.FirmwareVariables, images []Image, named Firmware, when string) *LockoutError {
	var e *LockoutError
	for _, im := range images {
		r := Evaluate(v, im, EvaluateOptions{Firmware: named})
		if r.Allowed {
			continue
		}
		if e == nil {
			e = &LockoutError{When: when, Reason: r.Reason, Rule: r.Rule}
		}
		e.Images = append(e.Images, im.Name)
	}
	return e
}

// RotationSchema names the form of a [Rotation] in JSON.
const RotationSchema = "osmith.rotation/1"

type rotationJSON struct {
	Schema string      `json:"schema"`
	Start  Fingerprint `json:"start"`
	// the row for which it was made; the newest of edk2 if it is not there
	Firmware  Firmware   `json:"firmware,omitempty"`
	Reached   int        `json:"reached"`
	ReachedIn string     `json:"reachedIn"`
	Steps     []stepJSON `json:"steps"`
}

type stepJSON struct {
	Kind     string       `json:"kind"`
	Text     string       `json:"text"`
	Variable string       `json:"variable,omitempty"`
	Append   bool         `json:"append,omitempty"`
	Auth     []byte       `json:"auth,omitempty"` // base64, as Payload and Signer
	After    *Fingerprint `json:"after,omitempty"`

	// Of a write that is not signed.
	Payload []byte     `json:"payload,omitempty"`
	Time    *time.Time `json:"time,omitempty"`
	Signer  []byte     `json:"signer,omitempty"` // DER
}

var (
	_ json.Marshaler   = Rotation{}
	_ json.Unmarshaler = (*Rotation)(nil)
)

// MarshalJSON writes the object with schema [RotationSchema]. It holds signed updates, but no
// secrets.
func (r Rotation) MarshalJSON() ([]byte, error) {
	o := rotationJSON{Schema: RotationSchema, Start: r.Start, Firmware: r.Firmware, Reached: r.Reached, ReachedIn: r.ReachedIn, Steps: []stepJSON{}}
	for _, s := range r.Steps {
		j := stepJSON{Kind: s.Kind, Text: s.Text}
		if s.Kind == StepWrite {
			after := s.After
			j.Variable, j.Append, j.Auth, j.After = s.Variable, s.Append, s.Auth, &after
			if u := s.Unsigned; u != nil {
				at := u.Update.Time.UTC().Truncate(time.Second)
				j.Payload, j.Time, j.Signer = u.Update.Payload, &at, u.Signer.Raw
			}
		}
		o.Steps = append(o.Steps, j)
	}
	return json.Marshal(o)
}

// UnmarshalJSON reads only what MarshalJSON wrote. It parses the updates; [Rotation.Next] finds out
// whether a machine takes them.
func (r *Rotation) UnmarshalJSON(b []byte) (err error) {
	defer prefix.Add("secureboot", &err)
	var o rotationJSON
	if err := strictjson.Unmarshal(b, &o, strictjson.KnownFields); err != nil {
		return fmt.Errorf("rotation: %w", err)
	}
	if o.Schema != RotationSchema {
		return fmt.Errorf("rotation: schema %q, want %q", o.Schema, RotationSchema)
	}
	n := Rotation{Start: o.Start, Reached: o.Reached, ReachedIn: o.ReachedIn, Steps: []Step{}, Firmware: o.Firmware}
	writes := 0
	if err := o.Firmware.check(); err != nil {
		return fmt.Errorf("rotation: %w", err)
	}
	if err := o.Start.check(); err != nil {
		return fmt.Errorf("rotation: start: %w", err)
	}
	for i, j := range o.Steps {
		if j.Kind == StepWrite {
			writes++
		}
		step, err := j.step()
		if err != nil {
			return fmt.Errorf("rotation: step %d: %w", i+1, err)
		}
		n.Steps = append(n.Steps, step)
	}
	if o.Reached < 0 || o.Reached > writes {
		return fmt.Errorf("rotation: reached: %d, want 0 to the %d writes of the plan", o.Reached, writes)
	}
	*r = n
	return nil
}

// step checks what a step says.
func (j *stepJSON) step() (Step, error) {
	s := Step{Kind: j.Kind, Text: j.Text}
	unsigned := j.Payload != nil || j.Time != nil || j.Signer != nil
	if j.Kind == StepInstall && j.Variable == "" && j.Auth == nil && j.After == nil && !j.Append && !unsigned {
		return s, nil
	}
	if j.Kind != StepWrite || j.After == nil || unsigned == (j.Auth != nil) {
		return s, fmt.Errorf("kind %q, want write with variable, after, and either auth or payload, time and signer, or install without", j.Kind)
	}
	if _, err := vendorGUID(j.Variable); err != nil {
		return s, err
	}
	if err := j.After.check(); err != nil {
		return s, err
	}
	s.Pending, s.After = Pending{Variable: j.Variable, Auth: j.Auth, Append: j.Append}, *j.After
	if !unsigned {
		_, err := parseAuth(j.Auth)
		return s, err
	}
	if j.Time == nil {
		return s, errors.New("an unsigned update needs a time")
	}
	signer, err := x509.ParseCertificate(j.Signer)
	if err != nil {
		return s, fmt.Errorf("signer: %w", err)
	}
	if len(j.Payload) == 0 {
		j.Payload = nil
	}
	u := Update{Variable: j.Variable, Payload: j.Payload, Time: j.Time.UTC(), Append: j.Append}
	if !u.Time.Equal(u.Time.Truncate(time.Second)) {
		return s, fmt.Errorf("time %v: want whole seconds", u.Time)
	}
	if _, err := u.digest(); err != nil {
		return s, err
	}
	s.Unsigned = &Unsigned{u, signer}
	return s, nil
}

func (f Fingerprint) check() error {
	for _, s := range []string{f.PK, f.KEK, f.DB} {
		if b, err := hex.DecodeString(s); err != nil || len(b) != 32 || hex.EncodeToString(b) != s {
			return fmt.Errorf("fingerprint %q: want 64 lower-case hexadecimal digits", s)
		}
	}
	return nil
}
