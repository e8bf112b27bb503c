package tpm

import (
	"crypto"
	"encoding/binary"
	"testing"

	"github.com/osmith-dev/osmith/internal/pcrbank"
)

// manyEvents is a log of n events with two banks.
func manyEvents(b *testing.B, n int) []byte {
	b.Helper()
	l := &Log{Events: []Event{newSpecID([]crypto.Hash{crypto.SHA1, crypto.SHA256})}}
	for i := range n {
		data := binary.LittleEndian.AppendUint64([]byte("an event of a boot loader "), uint64(i))
		l.Events = append(l.Events, Event{PCR: i % 16, Type: EventEFIAction, Data: data, Digests: map[crypto.Hash][]byte{
			crypto.SHA1: pcrbank.Sum(crypto.SHA1, data), crypto.SHA256: pcrbank.Sum(crypto.SHA256, data),
		}})
	}
	raw, err := l.MarshalBinary()
	if err != nil {
		b.Fatal(err)
	}
	return raw
}

// BenchmarkParseReplay parses and replays a log of 10,000 events, with all findings looked for.
func BenchmarkParseReplay(b *testing.B) {
	raw := manyEvents(b, 10_000)
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		l, err := ParseLog(raw)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := l.Replay(); err != nil {
			b.Fatal(err)
		}
	}
}
