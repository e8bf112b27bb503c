package tpm

import (
	"crypto"
	"encoding"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/prefix"
)

var (
	_ encoding.BinaryAppender  = (*Log)(nil)
	_ encoding.BinaryMarshaler = (*Log)(nil)
)

// MarshalBinary is the log in the format that it was read from; a log made by [Predict] or by hand is written as
// crypto-agile. A parsed log comes out byte for byte as it was.
func (l *Log) MarshalBinary() ([]byte, error) { return l.AppendBinary(nil) }

// AppendBinary appends what [Log.MarshalBinary] returns.
func (l *Log) AppendBinary(b []byte) (_ []byte, err error) {
	defer prefix.Add(pkg, &err)
	if l.sha1Only {
		return l.appendSHA1(b)
	}
	events := l.Events
	if len(events) == 0 || !isSpecID(&events[0]) {
		banks := l.Banks()
		if len(banks) == 0 {
			return nil, fmt.Errorf("writing an event log: no bank that every event has a digest for: %w", ErrBank)
		}
		events = slices.Concat([]Event{newSpecID(banks)}, events)
	}
	id, err := readSpecID(events[0].Data)
	if err != nil {
		return nil, fmt.Errorf("writing an event log: %w", err)
	}
	for i := range events {
		e := &events[i]
		if uint64(len(e.Data)) > math.MaxUint32 {
			return nil, fmt.Errorf("writing an event log: event %d: %d bytes of data", i, len(e.Data))
		}
		b = appendHead(b, e)
		if i == 0 {
			b = append(b, l.header20()...)
		} else if b, err = appendDigests(b, e, id.Algorithms); err != nil {
			return nil, fmt.Errorf("writing an event log: event %d: %w", i, err)
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(len(e.Data)))
		b = append(b, e.Data...)
	}
	return append(b, l.trailer...), nil
}

// header20 is the digest field of the first event, which is in the old format and has no meaning.
func (l *Log) header20() []byte {
	if l.headerDigest != nil {
		return l.headerDigest
	}
	return make([]byte, crypto.SHA1.Size())
}

func (l *Log) appendSHA1(b []byte) ([]byte, error) {
	for i := range l.Events {
		e := &l.Events[i]
		digest := e.Digests[crypto.SHA1]
		if len(digest) != crypto.SHA1.Size() || uint64(len(e.Data)) > math.MaxUint32 {
			return nil, fmt.Errorf("writing an event log: event %d: a sha1 digest of %d bytes and %d bytes of data", i, len(digest), len(e.Data))
		}
		b = append(appendHead(b, e), digest...)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(e.Data)))
		b = append(b, e.Data...)
	}
	return append(b, l.trailer...), nil
}

func appendHead(b []byte, e *Event) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(int32(e.PCR)))
	return binary.LittleEndian.AppendUint32(b, uint32(e.Type))
}

// appendDigests writes a TPML_DIGEST_VALUES in the little-endian form of logs.
func appendDigests(b []byte, e *Event, banks []Algorithm) ([]byte, error) {
	order := e.order
	if order == nil {
		for _, k := range banks {
			order = append(order, k.ID)
		}
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(order)))
	for _, id := range order {
		digest := e.foreign[id]
		if a, ok := pcrbank.ByID(id); ok {
			digest = e.Digests[a.Hash]
		}
		if size, ok := digestSize(banks, id); !ok || len(digest) != size {
			return nil, fmt.Errorf("algorithm 0x%04x: a digest of %d bytes: %w", id, len(digest), ErrBank)
		}
		b = binary.LittleEndian.AppendUint16(b, id)
		b = append(b, digest...)
	}
	return b, nil
}
