package upgrade

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/partition"
)

// StateSchema names the JSON form of a state, docs/schema/state.json.
const StateSchema = "osmith.state/1"

type stateJSON struct {
	Schema   string          `json:"schema"`
	Next     string          `json:"next"`
	Reason   string          `json:"nextReason"`
	LastGood string          `json:"lastGood"`
	FellBack fellBackJSON    `json:"fellBack"`
	Secure   string          `json:"secureBoot"`
	Running  string          `json:"running"`
	Started  string          `json:"started"`
	ESP      espJSON         `json:"esp"`
	Slots    []slotJSON      `json:"slots"`
	Entries  []entryJSON     `json:"entries"`
	Staged   []string        `json:"staged"`
	Garbage  []garbageJSON   `json:"garbage"`
	Failed   []FailedRelease `json:"failed"`
	Volumes  []*Volume       `json:"volumes"`
	Problems []string        `json:"problems"`
}

type fellBackJSON struct {
	Version string `json:"version"`
	Entry   string `json:"entry"`
	Reason  string `json:"reason"`
}

type espJSON struct {
	Size int64 `json:"size"`
	Free int64 `json:"free"`
}

type garbageJSON struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	Reason string `json:"reason"`
}

type slotJSON struct {
	Name     string              `json:"name"`
	State    partition.SlotState `json:"state"`
	Label    string              `json:"label"`
	Version  string              `json:"version"`
	RootHash string              `json:"rootHash"`
	Root     int64               `json:"rootSize"`
	Tree     int64               `json:"treeSize"`
}

type entryJSON struct {
	Path      string `json:"path"`
	ID        string `json:"id"`
	Type      string `json:"type"`
	Profile   int    `json:"profile"`
	Version   string `json:"version"`
	Counted   bool   `json:"counted"`
	TriesLeft int    `json:"triesLeft"`
	TriesDone int    `json:"triesDone"`
	Bad       bool   `json:"bad"`
	RootHash  string `json:"rootHash"`
	Slot      string `json:"slot"`
	Damage    string `json:"damage"`
}

// MarshalJSON writes the state for a program. A value that is unknown or missing is "".
func (s *State) MarshalJSON() ([]byte, error) {
	out := stateJSON{Schema: StateSchema, Next: pathOf(s.Next), Reason: string(s.NextReason), LastGood: pathOf(s.LastGood), Secure: s.machine.secureBootState(), Running: pathOf(s.Running), Started: pathOf(s.Started),
		ESP: espJSON{s.esp.esp.window.Size(), s.espFree}, Slots: []slotJSON{}, Entries: []entryJSON{},
		Staged: append([]string{}, s.Staged...), Garbage: []garbageJSON{}, Failed: append([]FailedRelease{}, s.Failed...), Volumes: append([]*Volume{}, s.Volumes...), Problems: []string{}}
	if f := s.FellBack; f != nil {
		out.FellBack = fellBackJSON{f.Version, pathOf(f.Entry), f.Reason}
	}
	for _, slot := range s.Slots {
		out.Slots = append(out.Slots, slotJSON{slot.Name(), slot.State, slot.Label, slot.Version, hex.EncodeToString(slot.RootHash), slot.rootSize, slot.treeSize})
	}
	for _, e := range s.Entries {
		j := entryJSON{Path: e.Path, ID: e.ID, Type: e.Type.String(), Profile: e.Profile, Version: e.Version, Counted: e.Counted, Bad: e.Bad(),
			RootHash: hex.EncodeToString(e.RootHash), Damage: e.Damage}
		if e.Counted {
			j.TriesLeft, j.TriesDone = e.TriesLeft, e.TriesDone
		}
		if e.Slot != nil {
			j.Slot = e.Slot.Name()
		}
		out.Entries = append(out.Entries, j)
	}
	for _, g := range s.Garbage {
		out.Garbage = append(out.Garbage, garbageJSON{g.Path, g.Size, g.Reason})
	}
	for _, err := range s.problems() {
		out.Problems = append(out.Problems, err.Error())
	}
	return json.Marshal(out)
}

// problems are Problems, and what else is not known.
func (s *State) problems() []error {
	list := s.Problems
	if s.GarbageErr != nil {
		list = append(list[:len(list):len(list)], s.GarbageErr)
	}
	if s.FailedErr != nil {
		list = append(list[:len(list):len(list)], s.FailedErr)
	}
	if s.notStarted != nil {
		list = append(list[:len(list):len(list)], s.notStarted)
	}
	return list
}

func pathOf(e *Entry) string {
	if e == nil {
		return ""
	}
	return e.Path
}

// String is the state for a person, on one screen.
func (s *State) String() string {
	var b strings.Builder
	if f := s.FellBack; f != nil {
		fmt.Fprintf(&b, "fell back to version %s from %s: %s\n", s.Running.Version, f.Version, f.Reason)
	}
	for _, slot := range s.Slots {
		fmt.Fprintf(&b, "slot %s  %-9s  %s\n", slot.Name(), slot.State, slot.Label)
	}
	for _, e := range s.Entries {
		var notes []string
		switch {
		case !e.Counted:
			notes = append(notes, "good")
		case e.Bad():
			notes = append(notes, fmt.Sprintf("failed %d times", e.TriesDone))
		default:
			notes = append(notes, fmt.Sprintf("%d of %d tries left", e.TriesLeft, e.TriesLeft+e.TriesDone))
		}
		if e.Slot != nil {
			notes = append(notes, "slot "+e.Slot.Name())
		}
		for _, x := range []struct {
			is   *Entry
			note string
		}{{s.Running, "runs"}, {s.Next, fmt.Sprintf("next (%s)", s.NextReason)}, {s.LastGood, "last good"}} {
			if x.is == e {
				notes = append(notes, x.note)
			}
		}
		if e.Damage != "" {
			notes = append(notes, "damaged: "+e.Damage)
		}
		name := e.Path
		if e.Profile != 0 {
			name += fmt.Sprintf(" (profile %d)", e.Profile)
		}
		fmt.Fprintf(&b, "entry   %s  %s\n", name, strings.Join(notes, ", "))
	}
	for _, v := range s.Volumes {
		fmt.Fprintf(&b, "volume  %s\n", v.summary())
	}
	for _, name := range s.Staged {
		fmt.Fprintf(&b, "staged  %s\n", name)
	}
	for _, g := range s.Garbage {
		if !slices.Contains(s.Staged, g.Path) {
			fmt.Fprintf(&b, "garbage %s (%d bytes): %s\n", g.Path, g.Size, g.Reason)
		}
	}
	if secure := s.machine.secureBootState(); secure != "" {
		fmt.Fprintf(&b, "secure boot: %s\n", secure)
	}
	fmt.Fprintf(&b, "ESP     %d of %d bytes free\n", s.espFree, s.esp.esp.window.Size())
	for _, r := range s.Failed {
		fmt.Fprintf(&b, "failed  %s %s\n", r.Product, r.Version)
	}
	for _, err := range s.problems() {
		fmt.Fprintf(&b, "!       %v\n", err)
	}
	return b.String()
}
