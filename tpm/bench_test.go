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

// BenchmarkPredict predicts a boot of systemd 262 up to its last phase, from the logs of an earlier
// one of a real machine.
func BenchmarkPredict(b *testing.B) {
	boot := mkosiBoot(b, "b2", "b1")
	boot.Userspace = &Userspace{Earlier: mkosiUserspace(b, "b1")}
	boot.Phases = boot.Userspace.Earlier.Phases()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Predict(boot); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDiff compares logs of 10,000 events in one PCR, in the shapes that are far from each
// other in different ways.
func BenchmarkDiff(b *testing.B) {
	const n = 10_000
	for name, of := range diffShapes(n) {
		b.Run(name, func(b *testing.B) {
			want, got := numbered(n, func(i int) int { return i }), numbered(n, of)
			if name == "two values" {
				want = numbered(n, func(i int) int { return i / 3 % 2 })
			}
			b.ReportAllocs()
			for b.Loop() {
				Diff(want, got)
			}
		})
	}
}

// diffShapes are logs as the numbers of their events, beside one that counts up.
func diffShapes(n int) map[string]func(i int) int {
	return map[string]func(i int) int{
		"equal":       func(i int) int { return i },
		"reversed":    func(i int) int { return n - 1 - i },
		"other":       func(i int) int { return n + i },
		"each second": func(i int) int { return i + i%2*n },
		"rotated":     func(i int) int { return (i + n/2) % n },
		"half moved": func(i int) int { // each second event of one half stands in the other one
			if i%2 == 1 {
				return (i + n/2) % n
			}
			return i
		},
		"pairs swapped": func(i int) int { return i ^ 1 },
		"two values":    func(i int) int { return i * i / 7 % 2 },
	}
}

// numbered is a log of events that say a number.
func numbered(n int, of func(i int) int) *Log {
	l := &Log{Events: []Event{newSpecID([]crypto.Hash{crypto.SHA256})}}
	for i := range n {
		data := binary.LittleEndian.AppendUint64([]byte("event "), uint64(of(i)))
		l.Events = append(l.Events, Event{PCR: 8, Type: EventEFIAction, Data: data, Digests: map[crypto.Hash][]byte{crypto.SHA256: pcrbank.Sum(crypto.SHA256, data)},
			Subject: Subject{Kind: SubjectAction, Name: "event"}})
	}
	return l
}
