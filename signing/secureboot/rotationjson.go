package secureboot

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/osmith-dev/osmith/internal/strictjson"
)

// RotationSchema names the form of a [Rotation] in JSON.
const RotationSchema = "osmith.rotation/1"

type rotationJSON struct {
	Schema    string      `json:"schema"`
	Start     Fingerprint `json:"start"`
	Reached   int         `json:"reached"`
	ReachedIn string      `json:"reachedIn"`
	Steps     []stepJSON  `json:"steps"`
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

// MarshalJSON writes the object with schema [RotationSchema]. It holds signed updates, but no secrets.
func (r Rotation) MarshalJSON() ([]byte, error) {
	o := rotationJSON{Schema: RotationSchema, Start: r.Start, Reached: r.Reached, ReachedIn: r.ReachedIn, Steps: []stepJSON{}}
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

// UnmarshalJSON reads what MarshalJSON wrote and nothing else. The updates are parsed; whether a machine takes them, [Rotation.Next] finds out.
func (r *Rotation) UnmarshalJSON(b []byte) error {
	var o rotationJSON
	if err := strictjson.Unmarshal(b, &o, strictjson.KnownFields); err != nil {
		return fmt.Errorf("secureboot: rotation: %w", err)
	}
	if o.Schema != RotationSchema {
		return fmt.Errorf("secureboot: rotation: schema %q, want %q", o.Schema, RotationSchema)
	}
	n := Rotation{Start: o.Start, Reached: o.Reached, ReachedIn: o.ReachedIn, Steps: []Step{}}
	writes := 0
	if err := o.Start.check(); err != nil {
		return fmt.Errorf("secureboot: rotation: start: %w", err)
	}
	for i, j := range o.Steps {
		if j.Kind == StepWrite {
			writes++
		}
		step, err := j.step()
		if err != nil {
			return fmt.Errorf("secureboot: rotation: step %d: %s", i+1, bare(err))
		}
		n.Steps = append(n.Steps, step)
	}
	if o.Reached < 0 || o.Reached > writes {
		return fmt.Errorf("secureboot: rotation: reached %d of %d writes", o.Reached, writes)
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
	if _, err := VendorGUID(j.Variable); err != nil {
		return s, err
	}
	if err := j.After.check(); err != nil {
		return s, err
	}
	s.Pending, s.After = Pending{j.Variable, j.Auth, j.Append}, *j.After
	if !unsigned {
		_, err := ParseAuth(j.Auth)
		return s, err
	}
	if j.Time == nil {
		return s, errors.New("payload without time")
	}
	signer, err := x509.ParseCertificate(j.Signer)
	if err != nil {
		return s, fmt.Errorf("signer: %w", err)
	}
	if len(j.Payload) == 0 {
		j.Payload = nil
	}
	u := Update{Name: j.Variable, Payload: j.Payload, Time: j.Time.UTC(), Append: j.Append}
	if !u.Time.Equal(u.Time.Truncate(time.Second)) {
		return s, fmt.Errorf("time %v: want whole seconds", u.Time)
	}
	if _, err := u.Digest(); err != nil {
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
