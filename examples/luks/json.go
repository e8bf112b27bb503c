package main

import (
	"encoding/json"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/partition/luks"
)

const schema = "osmith.luks/1"

// volumeResult is the object of inspect, format and repair. Sizes and offsets are bytes.
type volumeResult struct {
	cli.Header
	UUID         string        `json:"uuid"`
	Label        string        `json:"label,omitempty"`
	Subsystem    string        `json:"subsystem,omitempty"`
	HeaderSize   int64         `json:"headerSize"` // of one of its two copies
	KeyslotsSize int64         `json:"keyslotsSize"`
	SequenceID   uint64        `json:"sequenceID"`
	Flags        []string      `json:"flags"`
	Requirements []string      `json:"requirements"`
	Slots        []slotObject  `json:"slots"`
	Tokens       []tokenObject `json:"tokens"`
	Data         []dataObject  `json:"data"`
	Detached     bool          `json:"detached"`
	NeedsRepair  bool          `json:"needsRepair"`
	// what is wrong with the copies of the header
	Problems    []string `json:"problems"`
	Unsupported string   `json:"unsupported,omitempty"` // why it can only be shown
}

type slotObject struct {
	ID         int    `json:"id"`
	Type       string `json:"type"`
	Priority   string `json:"priority"`
	KDF        string `json:"kdf,omitempty"`
	Hash       string `json:"hash,omitempty"`
	Iterations int64  `json:"iterations,omitempty"` // or passes
	Memory     int64  `json:"memory,omitempty"`
	Threads    int    `json:"threads,omitempty"`
	Tokens     []int  `json:"tokens"`
	Wiped      bool   `json:"wiped"` // an interrupted removal has left it; nothing opens it
}

type tokenObject struct {
	ID       int             `json:"id"`
	Type     string          `json:"type"`
	Keyslots []int           `json:"keyslots"`
	JSON     json.RawMessage `json:"json"`
}

type dataObject struct {
	Type       string `json:"type"`
	Offset     int64  `json:"offset"`
	Size       int64  `json:"size,omitempty"` // absent: up to the end of the device
	Cipher     string `json:"cipher"`
	SectorSize int    `json:"sectorSize"`
}

// slotResult is the object of test, add, change, recovery and remove.
type slotResult struct {
	cli.Header
	Slot     int    `json:"slot"`
	Recovery string `json:"recoveryKey,omitempty"` // of recovery
}

// tokenResult is the object of token add and token rm.
type tokenResult struct {
	cli.Header
	Token int `json:"token"`
}

// dataResult is the object of encrypt and decrypt.
type dataResult struct {
	cli.Header
	Size int64 `json:"size"` // of what was read or written
}

func ints(list []int) []int { return append([]int{}, list...) }

func texts(list []string) []string { return append([]string{}, list...) }

func describe(c *cli.Call, v *luks.Volume) (volumeResult, error) {
	h := v.Header()
	r := volumeResult{Header: c.Header(), UUID: h.UUID, Label: h.Label, Subsystem: h.Subsystem, HeaderSize: h.Size, KeyslotsSize: h.KeyslotsSize, SequenceID: h.SequenceID,
		Flags: texts(h.Flags), Requirements: texts(h.Requirements), Slots: []slotObject{}, Tokens: []tokenObject{}, Data: []dataObject{},
		Detached: h.Detached(), NeedsRepair: h.NeedsRepair(), Problems: problems(h)}
	if h.Unsupported != nil {
		r.Unsupported = h.Unsupported.Error()
	}
	for _, s := range h.Slots {
		wiped, err := v.Wiped(s.ID)
		if err != nil {
			return r, err
		}
		o := slotObject{s.ID, s.Type, s.Priority.String(), string(s.KDF.Type), s.KDF.Hash, s.KDF.Iterations, s.KDF.Memory, s.KDF.Threads, []int{}, wiped}
		for _, t := range h.Tokens {
			for _, slot := range t.Keyslots {
				if slot == s.ID {
					o.Tokens = append(o.Tokens, t.ID)
				}
			}
		}
		r.Slots = append(r.Slots, o)
	}
	for _, t := range h.Tokens {
		r.Tokens = append(r.Tokens, tokenObject{t.ID, t.Type, ints(t.Keyslots), t.JSON})
	}
	for _, s := range h.Segments {
		r.Data = append(r.Data, dataObject{s.Type, s.Offset, s.Size, s.Cipher, s.SectorSize})
	}
	return r, nil
}

func problems(h *luks.Header) []string {
	all := []string{}
	for _, c := range h.Copies {
		switch {
		case c.Err != nil:
			all = append(all, c.Err.Error())
		case c.Differs && c.SequenceID < h.SequenceID:
			all = append(all, "one copy of the header is older")
		case c.Differs:
			all = append(all, "the copies of the header differ")
		}
	}
	return all
}
