package main

import (
	"crypto"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/tpm"
)

const schema = "osmith.pcr/1"

// logResult is the object of log. Digests are lower-case hexadecimal, offsets count bytes.
type logResult struct {
	cli.Header
	Events   []event   `json:"events"`
	Findings []finding `json:"findings"`
	NVPCRs   []nvpcr   `json:"nvpcrs"` // of userspace's log
	// why the events are not all that the log has: it is cut or damaged
	Partial string `json:"partial,omitempty"`
}

type event struct {
	PCR         int               `json:"pcr"`                // or the number of another register
	Register    string            `json:"register,omitempty"` // its name: "RTMR 0"
	Type        string            `json:"type"`
	Digests     map[string]string `json:"digests"` // by bank
	Description string            `json:"description"`
	// the digest covers what the description is made of
	Attested bool `json:"attested"`
}

type finding struct {
	Event  int    `json:"event"` // -1 if it belongs to none
	Offset int64  `json:"offset"`
	Text   string `json:"text"`
}

// replayResult is the object of replay: values by bank and PCR.
type replayResult struct {
	cli.Header
	PCRs map[string]map[int]string `json:"pcrs"`
	// what the numbers are of, if they are not of PCRs: RTMR 0 is 1
	Registers string `json:"registers,omitempty"`
	Verified  *bool  `json:"verified,omitempty"` // with -pcrs
	Wrong     []int  `json:"wrong,omitempty"`    // PCRs that differ
}

// predictResult is the object of predict: what is known of each PCR of each boot, and the values
// that are possible.
type predictResult struct {
	cli.Header
	Boots []predictedBoot             `json:"boots"`
	PCRs  map[string]map[int][]string `json:"pcrs"` // that all boots predict

	// of the boots that are described, each of which may go several ways
	Moments []predictedMoment `json:"moments"`
}

// predictedMoment is where the prediction of a boot ends.
type predictedMoment struct {
	Phases []string `json:"phases"` // null or []: when the kernel starts
	NVPCRs []nvpcr  `json:"nvpcrs"`
}

type predictedBoot struct {
	Coverage []coverage `json:"coverage"`
}

type coverage struct {
	PCR      int    `json:"pcr"`
	State    string `json:"state"`
	Evidence string `json:"evidence"`
	Note     string `json:"note"`
	// its state up to where userspace begins, if only userspace's part is not known
	Before string `json:"beforeUserspace,omitempty"`
}

// diffResult is the object of diff. Causes are the differences that do not follow from others, a
// UKI that differs with its sections as parts; Boot is the index of the expected boot that was
// compared, the one that differs least. Equal is about the PCRs in Compared, but for their events
// of userspace that NotCompared names.
type diffResult struct {
	cli.Header
	Equal       bool             `json:"equal"`
	Boot        int              `json:"boot"`
	Causes      []tpm.Difference `json:"causes"`
	Differences []tpm.Difference `json:"differences"`
	Compared    []int            `json:"compared"`
	NotCompared []uncompared     `json:"notCompared"`
}

// uncompared is what the logs were not compared in. Expected and Actual count the events that they
// hold of it.
type uncompared struct {
	PCR       int    `json:"pcr"`
	Userspace bool   `json:"userspace"` // only what userspace measured
	Reason    string `json:"reason"`
	Expected  int    `json:"expected"`
	Actual    int    `json:"actual"`
}

// signResult is the object of sign.
type signResult struct {
	cli.Header
	Policies    int    `json:"policies"`
	Fingerprint string `json:"fingerprint"`
}

// pcrlockResult is the object of pcrlock: paths below the output directory.
type pcrlockResult struct {
	cli.Header
	Files []string `json:"files"`
}

// digests are an event's by bank.
func digests(e *tpm.Event) map[string]string {
	out := hexes(e.Digests)
	if d := e.Digest(tpm.AlgorithmSM3); d != nil {
		out[tpm.Algorithm{ID: tpm.AlgorithmSM3}.String()] = hex.EncodeToString(d)
	}
	return out
}

func hexes(digests map[crypto.Hash][]byte) map[string]string {
	out := make(map[string]string, len(digests))
	for h, d := range digests {
		out[tpm.BankName(h)] = hex.EncodeToString(d)
	}
	return out
}

// registerName is that of a register which is no PCR.
func registerName(l *tpm.Log, number int) string {
	if l.Registers == tpm.RegistersPCR {
		return ""
	}
	return l.Registers.Name(number)
}

// registersJSON is what a log of other registers is about.
func registersJSON(l *tpm.Log) string {
	if l.Registers == tpm.RegistersPCR {
		return ""
	}
	return l.Registers.String()
}

// parseBanks reads a list of names; empty is nil.
func parseBanks(list string) ([]crypto.Hash, error) {
	var out []crypto.Hash
	for _, name := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' }) {
		h, err := tpm.BankByName(name)
		if err != nil {
			return nil, fmt.Errorf("banks: %w", err)
		}
		out = append(out, h)
	}
	return out, nil
}
