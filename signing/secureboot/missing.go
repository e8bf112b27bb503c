package secureboot

import (
	"fmt"
	"maps"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// A MissingEntry is an entry of an update that a variable lacks.
type MissingEntry struct {
	Type osmith.GUID // of its list
	Signature

	// SVN is the entry as a security version number, nil if it is none; Have is the highest version
	// of that application that the variable requires, nil if it requires none.
	SVN, Have *SVN
}

// Missing returns the entries of want that a variable with the lists of have lacks: of dbx, what a
// machine does not revoke yet. Each is returned once, in order. A variable has an entry if one of
// the same type has the same data, with any owner. It has a security version number if have
// requires at least that version of the application; of several for one application, the highest is
// returned.
//
// A certificate and its digest are two entries: a variable with one of them may lack the other.
func Missing(have, want []SignatureList) (missing []MissingEntry) {
	type key struct {
		typ  osmith.GUID
		data string
	}
	there := map[key]bool{}
	for _, l := range have {
		for _, s := range l.Signatures {
			there[key{l.Type, string(s.Data)}] = true
		}
	}
	asked, wanted := map[osmith.GUID]SVN{}, map[osmith.GUID]SVN{}
	for _, v := range SVNs(have) {
		asked[v.Application] = v
	}
	for _, v := range SVNs(want) {
		wanted[v.Application] = v
	}
	for _, l := range want {
		for _, s := range l.Signatures {
			if v, ok := ParseSVN(l.Type, s); ok {
				current, known := asked[v.Application]
				if v != wanted[v.Application] || known && !current.Less(v) {
					continue
				}
				delete(wanted, v.Application) // once
				m := MissingEntry{Type: l.Type, Signature: s, SVN: &v}
				if known {
					m.Have = &current
				}
				missing = append(missing, m)
				continue
			}
			if k := (key{l.Type, string(s.Data)}); !there[k] {
				there[k] = true
				missing = append(missing, MissingEntry{Type: l.Type, Signature: s})
			}
		}
	}
	return missing
}

// SameContent reports whether two variables have the same entries, owners included, in any order
// and lists.
func SameContent(a, b []byte) (same bool, err error) {
	defer prefix.Add("secureboot", &err)
	first, err := parseLists(a)
	if err != nil {
		return false, err
	}
	second, err := parseLists(b)
	if err != nil {
		return false, err
	}
	return maps.Equal(entriesOf(first), entriesOf(second)), nil
}

// A PublishedUpdate is one of a set of updates published for many machines, such as
// Microsoft's of dbx: each machine takes those whose signer leads to one of its keys.
type PublishedUpdate struct {
	Name string // for reports: its file
	Auth []byte // the .auth file
}

// An UpdateChoice says which of a set of published updates a machine takes.
type UpdateChoice struct {
	Updates []ChosenUpdate // in the order in which they were given

	// After are the variables with all updates that the machine takes.
	After osmith.FirmwareVariables

	// Missing are the entries of all updates that the machine lacks now, by variable; StillMissing
	// are those that it lacks afterwards, because they are in updates that it refuses.
	Missing, StillMissing map[string][]MissingEntry
}

// A ChosenUpdate is one update and whether the machine takes it.
type ChosenUpdate struct {
	Pending // Variable is empty if the update was signed for none, or cannot be read

	// Refused is a [*RefusedError] that says why the machine refuses the update, usually because no
	// certificate in KEK leads to the signer; nil if the machine takes it.
	Refused error

	// New are the entries that the machine lacks now.
	New []MissingEntry

	lists []SignatureList
}

// ChooseUpdates says which of a set of updates a machine takes, and which of their entries it lacks
// before and after. The variable of an update is the one that its signature is for. Updates append,
// so that their order does not matter to what is in the variables in the end ([SameContent]); one
// that brings a key is applied before those that need it. Updates that replace a variable are
// refused, because their result depends on the order: see [ApplyWith]. The error says that a
// variable of the machine or the call cannot be read.
func ChooseUpdates(v osmith.FirmwareVariables, updates []PublishedUpdate, o ApplyOptions) (c *UpdateChoice, err error) {
	defer prefix.Add("secureboot", &err)
	if err := o.Firmware.check(); err != nil {
		return nil, err
	}
	c = &UpdateChoice{After: v, Missing: map[string][]MissingEntry{}, StillMissing: map[string][]MissingEntry{}}
	have := map[string][]SignatureList{}
	want := map[string][]SignatureList{}
	for _, k := range keyVariables(&v) {
		if have[k.name], err = parseLists(*k.data); err != nil {
			return nil, fmt.Errorf("%s of the machine: %w", k.name, err)
		}
	}
	for _, u := range updates {
		chosen := published(u)
		want[chosen.Variable] = append(want[chosen.Variable], chosen.lists...)
		chosen.New = Missing(have[chosen.Variable], chosen.lists)
		c.Updates = append(c.Updates, chosen)
	}
	waiting := make([]bool, len(updates))
	for i := range c.Updates {
		waiting[i] = c.Updates[i].Refused == nil
	}
	for progress := true; progress; {
		progress = false
		for i := range c.Updates {
			if !waiting[i] {
				continue
			}
			p := c.Updates[i].Pending
			p.Name = "" // it stands beside the error
			a, err := ApplyWith(c.After, p, o)
			if c.Updates[i].Refused = err; err == nil {
				c.After, waiting[i], progress = a.Variables, false, true
			}
		}
	}
	for name, lists := range want {
		if name == "" {
			continue
		}
		after, err := parseLists(Content(c.After, name))
		if err != nil {
			return nil, fmt.Errorf("%s of the machine with the updates: %w", name, err)
		}
		if m := Missing(have[name], lists); len(m) > 0 {
			c.Missing[name] = m
		}
		if m := Missing(after, lists); len(m) > 0 {
			c.StillMissing[name] = m
		}
	}
	return c, nil
}

// published reads an update and finds the variable that it is for.
func published(u PublishedUpdate) ChosenUpdate {
	c := ChosenUpdate{Pending: Pending{Auth: u.Auth, Name: u.Name}}
	fail := func(err error) ChosenUpdate {
		c.Refused = prefix.Error("secureboot", &RefusedError{Variable: c.Variable, Err: err})
		return c
	}
	a, err := parseAuth(u.Auth)
	if err != nil {
		return fail(err)
	}
	var ok bool
	if c.Variable, c.Append, ok = a.SignedFor(); !ok {
		return fail(fmt.Errorf("%w: %q did not sign this update for any key variable, or the update was changed afterwards", ErrSignature, subject(a.signer)))
	}
	if c.lists, err = parseLists(a.Payload); err != nil {
		return fail(err)
	}
	if !c.Append {
		return fail(fmt.Errorf("the update replaces %s and would remove its current content: apply it separately", c.Variable))
	}
	return c
}
