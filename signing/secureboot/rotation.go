package secureboot

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// A Rotation is a plan for exchanging keys of a machine: steps with reboots between them, of which each changes one variable, and after
// each of which everything that has to boot does. It is a value: store it as JSON, ask [Rotation.Next] what to do, do it, ask again.
//
// PK, KEK and db are told from the plan's by their content. When somebody else changes one in between, such as an update of db by Microsoft,
// Next says so, and a new plan from there takes up what is left: both keys are valid until the last steps.
type Rotation struct {
	Start Fingerprint // of the machine before the first step
	Steps []Step

	// Reached is how many writes the machine has behind it, ReachedIn the boot in which that was first seen. Next keeps both up to date.
	Reached   int
	ReachedIn string
}

// Kinds of steps.
const (
	StepWrite   = "write"   // give firmware an update
	StepInstall = "install" // replace images by ones signed with the new key
)

// A Step is a change and what it is for.
type Step struct {
	Kind string
	Text string // for a person

	// Of a write: the update, and what the machine has afterwards.
	Pending
	After Fingerprint

	// Unsigned is the update as long as Auth is missing, because the plan was made without the key.
	Unsigned *Unsigned
}

// Unsigned is an update that some key elsewhere has to sign.
type Unsigned struct {
	Update Update
	Signer *x509.Certificate // of the key
}

// Digest returns what the key of Unsigned.Signer has to sign, as [Update.Digest] does.
func (s *Step) Digest() ([]byte, error) {
	if s.Unsigned == nil {
		return nil, errors.New("secureboot: rotation: there is nothing to sign in this step")
	}
	return s.Unsigned.Update.Digest()
}

// Join puts a signature over [Step.Digest] into the step, after checking it.
func (s *Step) Join(signature []byte) error {
	if s.Unsigned == nil {
		return errors.New("secureboot: rotation: there is nothing to sign in this step")
	}
	auth, err := s.Unsigned.Update.Join(s.Unsigned.Signer, signature)
	if err != nil {
		return err
	}
	s.Auth, s.Unsigned = auth, nil
	return nil
}

// apply is what firmware makes of the step, once it is signed.
func (s *Step) apply(v Variables) (Variables, error) {
	if s.Unsigned == nil {
		return v.Apply(s.Variable, s.Auth, s.Append)
	}
	u := s.Unsigned.Update
	if err := checkPayload(u.Name, u.Payload); err != nil {
		return Variables{}, &RefusedError{u.Name, err}
	}
	return v.write(u.Name, u.Payload, u.Time, u.Append)
}

// A Fingerprint is the SHA-256 digests of the content of PK, KEK and db, in hexadecimal.
type Fingerprint struct {
	PK  string `json:"PK"`
	KEK string `json:"KEK"`
	DB  string `json:"db"`
}

func (v Variables) fingerprint() Fingerprint {
	sum := func(b []byte) string {
		s := sha256.Sum256(b)
		return hex.EncodeToString(s[:])
	}
	return Fingerprint{sum(v.PK), sum(v.KEK), sum(v.DB)}
}

// RotationOptions are what a plan is made of.
type RotationOptions struct {
	// Machine is the state now, best right after a start. Content of db and KEK that is not the old keys' stays.
	Machine Variables

	// Old and New differ in the keys that are exchanged: any of PK, KEK and DB. A pair of New without a certificate means that the key stays.
	// A machine that has some of the steps behind it already gets a plan for the rest. A certificate without a key is one whose key is elsewhere:
	// steps that it has to sign stay unsigned until [Step.Join].
	Old, New *Hierarchy

	// Time is that of the first step; each further one is a second later.
	Time time.Time

	// MustBoot are the images on the machine now. The old ones among them have to be replaced before the old key goes.
	MustBoot []Image

	// OptionROMs is the decision that a new db needs. The entries of the machine's db stay anyway, and count as a decision if they are good
	// for option ROMs.
	OptionROMs OptionROMs

	// RevokeOld puts the old db certificate into dbx at the end: whatever it signed never boots again, on no account. Without it the
	// certificate is just no longer in db.
	RevokeOld bool

	// RoomForVariables is how many bytes the machine has for these variables, or 0 not to check.
	RoomForVariables int64
}

// PlanRotation makes the plan and tries it: every step is applied to the machine, as firmware would, and everything that has to boot is
// evaluated until the images have to be replaced. Errors are [ErrOptionROMs], [*SpaceError], [*LockoutError], [*RefusedError], or say what
// is wrong with the options. The plan has no steps when there is nothing left to do.
//
// The order: the new certificate into db; images by the new key; the new one into KEK; PK; the old one out of KEK; the old one out of db; the old
// one into dbx.
func PlanRotation(o RotationOptions) (*Rotation, error) {
	if o.Old == nil || o.New == nil {
		return nil, errors.New("secureboot: rotation: old and new hierarchy are both needed")
	}
	p := planner{RotationOptions: o, v: o.Machine, plan: &Rotation{Start: o.Machine.fingerprint(), Steps: []Step{}}}
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
	v       Variables // after the steps so far
	new     Hierarchy // New with what stays from Old
	kept    []SignatureList
	swapped bool // MustBoot will be other images by now
	plan    *Rotation
}

func (p *planner) prepare() error {
	if p.v.SetupMode {
		return errors.New("secureboot: rotation: the machine is in Setup Mode: enrol the new keys instead")
	}
	p.v.SecureBoot = true // plan for the machine that enforces
	p.new = *p.New
	for _, k := range []struct{ fresh, old *KeyPair }{{&p.new.PK, &p.Old.PK}, {&p.new.KEK, &p.Old.KEK}, {&p.new.DB, &p.Old.DB}} {
		if k.fresh.Cert == nil {
			*k.fresh = *k.old
		}
		if k.fresh.Cert == nil || k.old.Cert == nil {
			return errors.New("secureboot: rotation: the old hierarchy lacks a certificate")
		}
	}
	for _, k := range []struct {
		name       string
		data       []byte
		old, fresh KeyPair
	}{{"PK", p.v.PK, p.Old.PK, p.new.PK}, {"KEK", p.v.KEK, p.Old.KEK, p.new.KEK}, {"db", p.v.DB, p.Old.DB, p.new.DB}} {
		l, err := ParseSignatureLists(k.data)
		if err != nil {
			return fmt.Errorf("secureboot: rotation: %s of the machine: %w", k.name, err)
		}
		if !containsCertificate(l, k.old.Cert) && !containsCertificate(l, k.fresh.Cert) {
			return fmt.Errorf("secureboot: rotation: %s of the machine has neither the old certificate %q nor the new one", k.name, k.old.Cert.Subject)
		}
	}
	if p.Old.DB.same(p.new.DB) {
		if p.RevokeOld {
			return errors.New("secureboot: rotation: RevokeOld would revoke the db key that stays")
		}
		return nil
	}
	decision := p.OptionROMs
	decision.KeepDB = p.v.DB
	var err error
	p.kept, err = decision.lists(p.new.Owner, p.Old.PK.Cert, p.Old.KEK.Cert, p.Old.DB.Cert, p.new.PK.Cert, p.new.KEK.Cert, p.new.DB.Cert)
	return err
}

// check holds the machine as it would be now against what has to boot and against its room.
func (p *planner) check() error {
	if need := p.v.Space(); p.RoomForVariables > 0 && need > p.RoomForVariables {
		return &SpaceError{Need: need, Room: p.RoomForVariables}
	}
	if p.swapped {
		return nil
	}
	text := "today"
	if n := len(p.plan.Steps); n > 0 {
		text = p.plan.Steps[n-1].Text
	}
	return lockout(p.v, p.MustBoot, text)
}

// pk and kek are the pairs with which the machine, as it is by now, takes updates.
func (p *planner) pk() KeyPair { return p.holds(p.v.PK, p.Old.PK, p.new.PK) }

func (p *planner) kek() KeyPair { return p.holds(p.v.KEK, p.Old.KEK, p.new.KEK) }

func (p *planner) holds(data []byte, old, fresh KeyPair) KeyPair {
	l, err := ParseSignatureLists(data)
	if err != nil || !containsCertificate(l, old.Cert) {
		return fresh
	}
	if old.Key == nil && fresh.Key != nil && containsCertificate(l, fresh.Cert) {
		return fresh
	}
	return old
}

func (p *planner) write(text, name string, appendWrite bool, signer KeyPair, lists ...SignatureList) error {
	payload, err := AppendSignatureLists(nil, lists...)
	if err != nil {
		return err
	}
	at := p.Time.Add(time.Duration(len(p.plan.Steps)) * time.Second)
	u := Update{Name: name, Payload: payload, Time: at, Append: appendWrite}
	step := Step{Kind: StepWrite, Text: text, Pending: Pending{Variable: name, Append: appendWrite}}
	if signer.Key == nil {
		if _, err := u.Digest(); err != nil {
			return err
		}
		step.Unsigned = &Unsigned{u, signer.Cert}
	} else if step.Auth, err = u.Sign(signer.Key, signer.Cert); err != nil {
		return err
	}
	if p.v, err = step.apply(p.v); err != nil {
		return err
	}
	step.After = p.v.fingerprint()
	p.plan.Steps = append(p.plan.Steps, step)
	return p.check()
}

func (p *planner) addDB() error {
	if p.Old.DB.same(p.new.DB) {
		return nil
	}
	have, err := ParseSignatureLists(p.v.DB)
	if err != nil {
		return err
	}
	var more []SignatureList
	if !containsCertificate(have, p.new.DB.Cert) {
		more = append(more, CertificateList(p.new.Owner, p.new.DB.Cert))
	}
	more = append(more, Merge(have, p.kept...)[len(have):]...)
	if len(more) == 0 {
		return nil
	}
	return p.write(fmt.Sprintf("add %s to db", title(p.new.DB.Cert)), "db", true, p.kek(), more...)
}

func (p *planner) install() error {
	have, err := ParseSignatureLists(p.v.DB)
	if err != nil {
		return err
	}
	if p.Old.DB.same(p.new.DB) || !containsCertificate(have, p.Old.DB.Cert) {
		return nil
	}
	p.plan.Steps = append(p.plan.Steps, Step{Kind: StepInstall, Text: fmt.Sprintf("install images signed by %s", title(p.new.DB.Cert))})
	return nil
}

func (p *planner) addKEK() error {
	have, err := ParseSignatureLists(p.v.KEK)
	if err != nil || containsCertificate(have, p.new.KEK.Cert) {
		return err
	}
	return p.write(fmt.Sprintf("add %s to KEK", title(p.new.KEK.Cert)), "KEK", true, p.pk(), CertificateList(p.new.Owner, p.new.KEK.Cert))
}

func (p *planner) replacePK() error {
	have, err := ParseSignatureLists(p.v.PK)
	if err != nil || containsCertificate(have, p.new.PK.Cert) {
		return err
	}
	return p.write(fmt.Sprintf("replace PK by %s", title(p.new.PK.Cert)), "PK", false, p.Old.PK, CertificateList(p.new.Owner, p.new.PK.Cert))
}

func (p *planner) dropKEK() error {
	have, err := ParseSignatureLists(p.v.KEK)
	if err != nil || p.Old.KEK.same(p.new.KEK) || !containsCertificate(have, p.Old.KEK.Cert) {
		return err
	}
	return p.write(fmt.Sprintf("remove %s from KEK", title(p.Old.KEK.Cert)), "KEK", false, p.pk(), without(have, p.Old.KEK.Cert)...)
}

func (p *planner) dropDB() error {
	have, err := ParseSignatureLists(p.v.DB)
	if err != nil || p.Old.DB.same(p.new.DB) || !containsCertificate(have, p.Old.DB.Cert) {
		return err
	}
	p.swapped = true
	return p.write(fmt.Sprintf("remove %s from db", title(p.Old.DB.Cert)), "db", false, p.kek(), without(have, p.Old.DB.Cert)...)
}

func (p *planner) revoke() error {
	if !p.RevokeOld {
		return nil
	}
	list, err := CertificateHashList(p.new.Owner, crypto.SHA256, time.Time{}, p.Old.DB.Cert)
	if err != nil {
		return err
	}
	have, err := ParseSignatureLists(p.v.DBX)
	if err != nil || certificateRevoked(have, p.Old.DB.Cert) {
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
