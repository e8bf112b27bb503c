package secureboot

import (
	"errors"
	"fmt"
	"strings"
)

// Kinds of actions.
const (
	ActionSign    = "sign"    // have Action.Step signed: Step.Digest, Step.Join
	ActionWrite   = "write"   // give firmware Action.Step's update
	ActionInstall = "install" // replace the images in Action.Images
	ActionReboot  = "reboot"  // and ask again
	ActionDone    = "done"
)

// An Action is what to do next.
type Action struct {
	Kind   string
	Text   string   // for a person
	Step   *Step    // of a signature, write or installation; it points into the plan
	Images []string // to be replaced before the old key can go
}

// A State is a machine in the middle of a rotation.
type State struct {
	Variables Variables

	// BootID is a text that differs from boot to boot, such as /proc/sys/kernel/random/boot_id.
	BootID string

	// Images are all that have to boot, as they are installed now: the boot loader and every release that the machine may fall back to.
	Images []Image
}

// An OffPlanError says that PK, KEK or db are not as any step leaves them: somebody else has changed them, or the plan is that of another
// machine. Make a new plan from the machine as it is.
type OffPlanError struct {
	Variables []string // that differ from what the plan expects where it last was
}

func (e *OffPlanError) Error() string {
	return fmt.Sprintf("secureboot: rotation: %s changed outside the plan: make a new one from here", strings.Join(e.Variables, ", "))
}

// Next tells what to do with a machine in this state. It notes in r how far the machine is, so store r again afterwards; should that be
// lost, the machine is rebooted once more than needed. A write, or its signature, is returned only when all images boot before and after it, an installation
// when some image would not boot after the rest of the plan; images that cannot boot today, or would not after a step that the plan did not
// foresee, are a [*LockoutError]. Other errors are [*OffPlanError] and [*RefusedError].
func (r *Rotation) Next(s State) (Action, error) {
	if s.BootID == "" {
		return Action{}, errors.New("secureboot: rotation: the state has no BootID")
	}
	if s.Variables.SetupMode {
		return Action{}, errors.New("secureboot: rotation: the machine is in Setup Mode: its PK is gone")
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
	v.SecureBoot = true // judge as the machine that enforces would
	if err := lockout(v, s.Images, "today"); err != nil {
		return Action{}, err
	}
	rest := r.after(reached)
	for i := range rest {
		step := &rest[i]
		if step.Kind == StepInstall {
			stuck, err := inTheEnd(v, rest, s.Images)
			if err != nil {
				return Action{}, err
			}
			if stuck != nil {
				text := fmt.Sprintf("%s: %s would not boot in the end: %s", step.Text, strings.Join(stuck.Images, ", "), stuck.Reason)
				return Action{Kind: ActionInstall, Text: text, Step: step, Images: stuck.Images}, nil
			}
			continue
		}
		after, err := step.apply(v)
		if err != nil {
			return Action{}, err
		}
		if err := lockout(after, s.Images, step.Text); err != nil {
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
func inTheEnd(v Variables, rest []Step, images []Image) (*LockoutError, error) {
	for _, step := range rest {
		if step.Kind != StepWrite {
			continue
		}
		var err error
		if v, err = step.apply(v); err != nil {
			return nil, err
		}
		if e := blocked(v, images, step.Text); e != nil {
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
func (r *Rotation) position(v Variables) (int, error) {
	have := v.fingerprint()
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
func (s *Step) revoked(v Variables) bool {
	var payload []byte
	if s.Unsigned != nil {
		payload = s.Unsigned.Update.Payload
	} else if a, err := ParseAuth(s.Auth); err == nil {
		payload = a.Payload
	} else {
		return false
	}
	more, err := ParseSignatureLists(payload)
	if err != nil {
		return false
	}
	have, err := ParseSignatureLists(v.DBX)
	return err == nil && len(Merge(have, more...)) == len(have)
}

// String is the plan for a person: a line for each step, with a mark at those that are done.
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
