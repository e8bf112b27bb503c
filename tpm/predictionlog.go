package tpm

import (
	"bytes"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/strictjson"
)

// ErrNoCoverage says that a log is not one of [Log.MarshalPrediction].
var ErrNoCoverage = errors.New("the log has no coverage: want a predicted log")

// coverageSignature starts the data of the EV_NO_ACTION event that carries the coverage of a
// predicted log: the second event. Behind it is a coverageJSON.
var coverageSignature = []byte("osmith coverage\x00")

type coverageJSON struct {
	Userspace int             `json:"userspace"` // events at the end of the log
	PCRs      []coverageOfPCR `json:"pcrs"`
}

type coverageOfPCR struct {
	PCR        int    `json:"pcr"`
	Prediction string `json:"prediction"`
	Evidence   string `json:"evidence"`
	Note       string `json:"note"`
	Before     string `json:"beforeUserspace,omitempty"` // left out where it is "not predicted"
}

// MarshalPrediction returns a predicted log with its Coverage, for [ParsePrediction]. It is a
// crypto-agile log as [Log.MarshalBinary] writes it, with one more event that extends no PCR, so
// that other programs can read it too.
func (l *Log) MarshalPrediction() (_ []byte, err error) {
	defer prefix.Add(pkg, &err)
	if l.Coverage == nil {
		return nil, fmt.Errorf("writing a prediction: %w", ErrNoCoverage)
	}
	doc := coverageJSON{Userspace: l.userspace, PCRs: make([]coverageOfPCR, 0, len(l.Coverage))}
	for _, c := range l.Coverage {
		doc.PCRs = append(doc.PCRs, coverageOfPCR{c.PCR, c.Prediction.String(), c.Evidence.String(), c.Note, ""})
		if c.BeforeUserspace != PredictionNone {
			doc.PCRs[len(doc.PCRs)-1].Before = c.BeforeUserspace.String()
		}
	}
	if _, err := doc.coverage(len(l.Events)); err != nil {
		return nil, fmt.Errorf("writing a prediction: %w", err)
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	out := Log{Events: l.Events}
	if len(out.Events) == 0 || !isSpecID(&out.Events[0]) {
		out.Events = slices.Concat([]Event{newSpecID(l.Banks())}, out.Events)
	}
	e := Event{Type: EventNoAction, Digests: make(map[crypto.Hash][]byte), Data: slices.Concat(coverageSignature, text)}
	id, err := readSpecID(out.Events[0].Data)
	if err != nil {
		return nil, fmt.Errorf("writing a prediction: %w", err)
	}
	for _, a := range id.Algorithms {
		if k, ok := pcrbank.ByID(a.ID); ok {
			e.Digests[k.Hash] = make([]byte, a.Size)
		}
	}
	out.Events = slices.Concat(out.Events[:1], []Event{e}, out.Events[1:])
	return out.MarshalBinary()
}

// ParsePrediction reads what [Log.MarshalPrediction] wrote. Any other log is an [ErrNoCoverage].
//
// What a log claims about itself is not measured. To judge a machine, read its log with [ParseLog],
// which ignores such claims.
func ParsePrediction(data []byte) (_ *Log, err error) {
	defer prefix.Add(pkg, &err)
	l, err := ParseLog(data)
	if err != nil {
		return nil, err
	}
	if len(l.Events) < 2 || !isSpecID(&l.Events[0]) || l.Events[1].extends() || !bytes.HasPrefix(l.Events[1].Data, coverageSignature) {
		return nil, fmt.Errorf("reading a prediction: %w", ErrNoCoverage)
	}
	fail := func(err error) error {
		return &osmith.FormatError{Offset: -1, Field: "event log: event 1: coverage", Err: err}
	}
	var doc coverageJSON
	if err := strictjson.Unmarshal(l.Events[1].Data[len(coverageSignature):], &doc, strictjson.KnownFields, strictjson.Complete); err != nil {
		return nil, fail(err)
	}
	l.Events = slices.Delete(l.Events, 1, 2)
	for i := range l.Findings {
		if l.Findings[i].Event > 1 {
			l.Findings[i].Event--
		}
	}
	if l.Coverage, err = doc.coverage(len(l.Events)); err != nil {
		return nil, fail(err)
	}
	l.userspace, l.hasUserspace = doc.Userspace, true
	return l, nil
}

// ParseExpected reads a log to compare boots with: a prediction, as [ParsePrediction] does, or the
// log of an earlier boot, as [ParseLog] does.
func ParseExpected(data []byte) (*Log, error) {
	l, err := ParsePrediction(data)
	if errors.Is(err, ErrNoCoverage) {
		return ParseLog(data)
	}
	return l, err
}

// coverage checks the document against a log of some events, and returns the coverage that it
// gives.
func (doc *coverageJSON) coverage(events int) ([]Coverage, error) {
	if doc.Userspace < 0 || doc.Userspace > events {
		return nil, fmt.Errorf("%d events of userspace, in a log of %d events", doc.Userspace, events)
	}
	out := make([]Coverage, 0, len(doc.PCRs))
	for _, p := range doc.PCRs {
		c := Coverage{PCR: p.PCR, Note: p.Note, Prediction: -1, Evidence: -1, BeforeUserspace: -1}
		if p.Before == "" {
			c.BeforeUserspace = PredictionNone
		}
		for q := PredictionNone; q <= PredictionOneOf; q++ {
			if q.String() == p.Prediction {
				c.Prediction = q
			}
			if q.String() == p.Before {
				c.BeforeUserspace = q
			}
		}
		for e := EvidenceNone; e <= EvidenceBooted; e++ {
			if e.String() == p.Evidence {
				c.Evidence = e
			}
		}
		switch {
		case p.PCR < 0 || p.PCR >= PCRCount:
			return nil, fmt.Errorf("PCR %d: want 0 to %d", p.PCR, PCRCount-1)
		case slices.ContainsFunc(out, func(o Coverage) bool { return o.PCR == p.PCR }):
			return nil, fmt.Errorf("PCR %d is listed twice", p.PCR)
		case c.Prediction < 0:
			return nil, fmt.Errorf("PCR %d: prediction %q: want %q, %q, %q or %q", p.PCR, p.Prediction, PredictionNone, PredictionExact, PredictionBaseline, PredictionOneOf)
		case c.BeforeUserspace < 0:
			return nil, fmt.Errorf("PCR %d: beforeUserspace %q: want %q, %q or %q", p.PCR, p.Before, PredictionExact, PredictionBaseline, PredictionOneOf)
		case c.Evidence < 0:
			return nil, fmt.Errorf("PCR %d: evidence %q: want %q, %q or %q", p.PCR, p.Evidence, EvidenceNone, EvidenceSource, EvidenceBooted)
		}
		out = append(out, c)
	}
	return out, nil
}
