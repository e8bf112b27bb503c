package main

import (
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/internal/cli"
)

const schema = "osmith.boot/1"

// loaderObject is the systemd-boot of an ESP, and by which rules the menu is told.
type loaderObject struct {
	Path         string `json:"path"`    // "": there is none on the ESP
	Version      string `json:"version"` // "262-1"
	Architecture string `json:"architecture"`
	Rules        string `json:"rules"`    // the release that was followed
	Evidence     string `json:"evidence"` // how well its rules are known: booted, source, none
}

// entryObject is a line of the menu.
type entryObject struct {
	ID        string `json:"id"`
	Path      string `json:"path"`
	XBOOTLDR  bool   `json:"xbootldr"` // on the extended boot loader partition
	Type      string `json:"type"`
	Title     string `json:"title"`
	Version   string `json:"version"`
	Profile   int    `json:"profile"`
	TriesLeft *int   `json:"triesLeft,omitempty"` // absent: the entry is not counted, and good
	TriesDone *int   `json:"triesDone,omitempty"`
	Bad       bool   `json:"bad"`
	Default   bool   `json:"default"`
	Damage    string `json:"damage,omitempty"` // why it cannot start
}

type findingObject struct {
	Path     string `json:"path"`
	XBOOTLDR bool   `json:"xbootldr"`
	Text     string `json:"text"`
}

// listResult is the object of list.
type listResult struct {
	cli.Header
	Loader loaderObject `json:"loader"`
	// -vars was given; else the default is that of no variables
	Vars     bool            `json:"vars"`
	Entries  []entryObject   `json:"entries"`
	Default  string          `json:"default"` // id; "": there is no entry
	Reason   string          `json:"reason"`
	Findings []findingObject `json:"findings"`
}

// whyResult is the object of why.
type whyResult struct {
	cli.Header
	Loader  loaderObject `json:"loader"`
	Vars    bool         `json:"vars"`
	Default *entryObject `json:"default,omitempty"`
	Reason  string       `json:"reason"`
	Because []string     `json:"because"` // in words
	Asked   *entryObject `json:"asked,omitempty"`
	// why the loader does not start that one; none if it does, or if none was named
	WhyNot []string       `json:"whyNot"`
	Starts []startsObject `json:"starts"` // one after another, if none is ever declared good
	// the last of them goes on for ever; false: there are more than were looked at, or the loader
	// has nothing to start
	Endless bool `json:"endless"`
}

// startsObject are starts of one entry in a row.
type startsObject struct {
	ID     string `json:"id"`
	Path   string `json:"path"`  // before the first of them
	After  string `json:"after"` // the path behind the last of them
	Reason string `json:"reason"`
	Count  int    `json:"count"`
}

// markResult is the object of bless and bad.
type markResult struct {
	cli.Header
	Counted  bool `json:"counted"`
	XBOOTLDR bool `json:"xbootldr"`
	// the path before; "": this boot was not counted, and is good all the same
	From string `json:"from"`
	Path string `json:"path"`           // and now
	Next string `json:"next,omitempty"` // of bad: the id of what the loader starts next
}

type changeObject struct {
	Kind   string `json:"kind"`
	Path   string `json:"path"`
	Before string `json:"before,omitempty"` // version of the loader
	After  string `json:"after,omitempty"`
	Reason string `json:"reason"`
}

type keptObject struct {
	Path    string `json:"path"`
	Version string `json:"version,omitempty"`
	Reason  string `json:"reason"`
}

// installResult is the object of install.
type installResult struct {
	cli.Header
	Changes  []changeObject  `json:"changes"`
	Kept     []keptObject    `json:"kept"`
	Findings []findingObject `json:"findings"`
	DryRun   bool            `json:"dryRun"`
	// a loader stays that is newer than the one to install, so that the answer is no
	NewerStays bool          `json:"newerStays"`
	Option     *optionObject `json:"bootOption,omitempty"`
	// with -random-seed and -vars: written, there, or why it was refused
	SystemToken string `json:"systemToken,omitempty"`
}

// gcResult is the object of gc.
type gcResult struct {
	cli.Header
	DryRun   bool            `json:"dryRun"`
	Garbage  []garbageObject `json:"garbage"`  // what went, or would go
	Size     int64           `json:"size"`     // of all of it
	Problems []string        `json:"problems"` // why not all of it is known
}

type garbageObject struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	Reason string `json:"reason"`
}

// optionObject is the boot option of firmware.
type optionObject struct {
	Number   uint16   `json:"number"`
	Changes  []string `json:"changes"`
	Inactive bool     `json:"inactive"`          // it is switched off, and is left so
	Refused  string   `json:"refused,omitempty"` // what firmware said
}

func entryOf(e *bootloader.Entry, chosen *bootloader.Entry) entryObject {
	o := entryObject{ID: e.ID, Path: e.Path, XBOOTLDR: e.XBOOTLDR, Type: e.Type.String(), Title: e.Title, Version: e.Version, Profile: e.Profile, Bad: e.Bad(), Default: e == chosen, Damage: e.Damage}
	if e.Counted {
		o.TriesLeft, o.TriesDone = &e.TriesLeft, &e.TriesDone
	}
	return o
}
