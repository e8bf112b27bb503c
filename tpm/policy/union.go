package policy

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// NamedState is the state of PCRs after some set boots: the running, the staged or the previous
// set, or one of these with an announced firmware update. Values come from predictions or from the
// machine.
type NamedState struct {
	Name   string         // text for people: "2.1.0", "2.1.0 after the firmware update"
	Values map[int][]byte // values of one bank; PCRs that the union does not name are ignored
}

// WithUpdate returns the states, and each of them again with the values that some PCRs have after
// an update: firmware vendors announce those of PCR 0. As all values of a state, they are values at
// the moment when the secret is requested: from systemd 261 on, the initrd has by then measured
// "os-separator" into most of these PCRs.
func WithUpdate(states []NamedState, update string, values map[int][]byte) []NamedState {
	out := slices.Clone(states)
	for _, s := range states {
		after := maps.Clone(s.Values)
		if after == nil {
			after = map[int][]byte{}
		}
		maps.Copy(after, values)
		out = append(out, NamedState{Name: s.Name + ", " + update, Values: after})
	}
	return out
}

// Union holds the states of some PCRs in which a secret is to be opened, each once, with the names
// that lead to it.
type Union struct {
	Bank   crypto.Hash
	PCRs   []int        // ascending
	States []UnionState // in the order of the first name of each
}

// UnionState is one state and the named states that lead to it.
type UnionState struct {
	Names  []string       // names of the named states that are equal to this state
	Values map[int][]byte // of all PCRs of the union
	// PCRs whose value differs from that in the first state, ascending; none in the first
	Differs []int
}

// NewUnion joins named states. A state that lacks the value of one of the PCRs is an error: a
// secret would be sealed to a guess. Two states of the same name are an error, too.
func NewUnion(bank crypto.Hash, pcrs []int, states ...NamedState) (_ *Union, err error) {
	defer prefix.Add(pkg, &err)
	if err := pcrbank.Check(bank); err != nil {
		return nil, fmt.Errorf("union: %w", err)
	}
	if err := pcrbank.CheckPCRs(pcrs); err != nil {
		return nil, fmt.Errorf("union: %w", err)
	}
	if len(pcrs) == 0 || len(states) == 0 {
		return nil, errors.New("union: no PCRs or no states")
	}
	u := &Union{Bank: bank, PCRs: slices.Clone(pcrs)}
	seen := map[string]bool{}
	for _, s := range states {
		if s.Name == "" || seen[s.Name] {
			return nil, fmt.Errorf("union: state %q: want a unique name", s.Name)
		}
		seen[s.Name] = true
		values := make(map[int][]byte, len(pcrs))
		for _, n := range pcrs {
			v, ok := s.Values[n]
			if !ok {
				return nil, fmt.Errorf("union: state %q: PCR %d is unknown", s.Name, n)
			}
			if len(v) != bank.Size() {
				return nil, fmt.Errorf("union: state %q: PCR %d: a value of %d bytes, want %d for %s", s.Name, n, len(v), bank.Size(), pcrbank.Name(bank))
			}
			values[n] = bytes.Clone(v)
		}
		u.add(s.Name, values)
	}
	return u, nil
}

func (u *Union) add(name string, values map[int][]byte) {
	for i := range u.States {
		if maps.EqualFunc(u.States[i].Values, values, bytes.Equal) {
			u.States[i].Names = append(u.States[i].Names, name)
			return
		}
	}
	s := UnionState{Names: []string{name}, Values: values}
	for _, n := range u.PCRs {
		if len(u.States) > 0 && !bytes.Equal(values[n], u.States[0].Values[n]) {
			s.Differs = append(s.Differs, n)
		}
	}
	u.States = append(u.States, s)
}

// Alternatives are the values of the states, for [AnyState] and for the policies of package
// tpm/sealing.
func (u *Union) Alternatives() []map[int][]byte {
	out := make([]map[int][]byte, len(u.States))
	for i := range u.States {
		out[i] = u.States[i].Values
	}
	return out
}

// Digest is the policy that any one of the states satisfies, after a session whose digest was
// start.
func (u *Union) Digest(start Digest) (Digest, error) {
	tree, err := AnyState(start, u.Bank, u.Alternatives())
	if err != nil {
		return Digest{}, err
	}
	return tree.Digest(), nil
}

// Find returns the state that a machine with these values is in; differs is then empty. If the
// machine is in none of the states, Find returns the state that differs in the fewest PCRs, and
// differs lists these PCRs.
func (u *Union) Find(values map[int][]byte) (state UnionState, differs []int) {
	for i, s := range u.States {
		var d []int
		for _, n := range u.PCRs {
			if !bytes.Equal(s.Values[n], values[n]) {
				d = append(d, n)
			}
		}
		if i == 0 || len(d) < len(differs) {
			state, differs = s, d
		}
	}
	return state, differs
}

// String lists the states in lines: their names, and the PCRs in which they differ from the first.
func (u *Union) String() string {
	var b strings.Builder
	what := "states"
	if len(u.States) == 1 {
		what = "state"
	}
	fmt.Fprintf(&b, "%d %s of the %s PCRs %v\n", len(u.States), what, pcrbank.Name(u.Bank), u.PCRs)
	for i, s := range u.States {
		fmt.Fprintf(&b, "%d: %s\n", i+1, strings.Join(s.Names, ", "))
		for _, n := range s.Differs {
			fmt.Fprintf(&b, "   PCR %d is %x, in state 1 %x\n", n, s.Values[n], u.States[0].Values[n])
		}
	}
	return b.String()
}

// unionJSON is a union for programs.
type unionJSON struct {
	Bank   string           `json:"bank"`
	PCRs   []int            `json:"pcrs"`
	States []unionStateJSON `json:"states"`
}

type unionStateJSON struct {
	Names   []string       `json:"names"`
	Values  map[int]string `json:"values"`  // hexadecimal, by PCR
	Differs []int          `json:"differs"` // from the first state
}

// MarshalJSON is {"bank": "sha256", "pcrs": […], "states": [{"names": […], "values": {"7": HEX},
// "differs": […]}]}.
func (u *Union) MarshalJSON() ([]byte, error) {
	out := unionJSON{Bank: pcrbank.Name(u.Bank), PCRs: append([]int{}, u.PCRs...), States: []unionStateJSON{}}
	for _, s := range u.States {
		x := unionStateJSON{Names: s.Names, Values: map[int]string{}, Differs: append([]int{}, s.Differs...)}
		for n, v := range s.Values {
			x.Values[n] = hex.EncodeToString(v)
		}
		out.States = append(out.States, x)
	}
	return json.Marshal(out)
}
