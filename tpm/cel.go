package tpm

import (
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// jsonDigest is a digest in the TCG Canonical Event Log's JSON and in .pcrlock files.
type jsonDigest struct {
	HashAlg string `json:"hashAlg"`
	Digest  string `json:"digest"`
}

type celRecord struct {
	PCR         int          `json:"pcr"`
	Recnum      int          `json:"recnum"`
	Digests     []jsonDigest `json:"digests"`
	ContentType string       `json:"content_type"`
	Content     celContent   `json:"content"`
}

type celContent struct {
	EventType string `json:"event_type"`
	EventData string `json:"event_data"`
}

// CEL is the log in the JSON encoding of the TCG Canonical Event Log (version 1.0, content type
// pcclient_std), in the form that "systemd-pcrlock cel" prints: one array, without the events that
// extend no PCR, numbered as in the log.
func (l *Log) CEL() (_ []byte, err error) {
	defer prefix.Add(pkg, &err)
	if l.Registers != RegistersPCR { // the content type has PCRs
		return nil, fmt.Errorf("writing CEL: the log is of %v: %w", l.Registers, ErrRegisters)
	}
	records := make([]celRecord, 0, len(l.Events))
	for i := range l.Events {
		e := &l.Events[i]
		if !e.extends() {
			continue
		}
		if e.PCR < 0 || e.PCR >= PCRCount {
			return nil, fmt.Errorf("writing CEL: event %d is for PCR %d", i, e.PCR)
		}
		records = append(records, celRecord{e.PCR, i, jsonDigests(e), "pcclient_std", celContent{e.Type.String(), hex.EncodeToString(e.Data)}})
	}
	return json.Marshal(records)
}

// jsonDigests lists an event's digests in the order of [Banks].
func jsonDigests(e *Event) []jsonDigest {
	out := make([]jsonDigest, 0, len(e.Digests))
	for _, a := range pcrbank.All {
		if d, ok := e.Digests[a.Hash]; ok {
			out = append(out, jsonDigest{a.Name, hex.EncodeToString(d)})
		}
	}
	return out
}
