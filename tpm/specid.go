package tpm

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/internal/pcrbank"
)

// SpecID is a TCG_EfiSpecIdEvent (Firmware Profile 1.06, section 10.4.5.1): the first event of a crypto-agile log, which
// names the algorithms that every other event has digests of.
type SpecID struct {
	PlatformClass        uint32 // 0: client, 1: server
	Major, Minor, Errata byte
	UintnSize            byte // 1: 32 bit, 2: 64 bit
	Algorithms           []Algorithm
	Vendor               []byte
}

// Algorithm is a hash of the TCG Algorithm Registry and the length of its digests in bytes.
type Algorithm struct {
	ID   uint16
	Size int
}

// String is the name of a bank of this package, the number of any other hash.
func (a Algorithm) String() string {
	if k, ok := pcrbank.ByID(a.ID); ok {
		return k.Name
	}
	return fmt.Sprintf("0x%04x", a.ID)
}

func (s SpecID) String() string {
	names := make([]string, 0, len(s.Algorithms))
	for _, a := range s.Algorithms {
		names = append(names, a.String())
	}
	return "TCG event log with " + strings.Join(names, ", ")
}

func isSpecID(e *Event) bool {
	return e.Type == EventNoAction && bytes.HasPrefix(e.Data, specIDSignature)
}

// readSpecID reads the data of the first event, of which the caller has seen the signature.
func readSpecID(data []byte) (SpecID, error) {
	le := binary.LittleEndian
	at := len(specIDSignature)
	short := func(field string) (SpecID, error) {
		return SpecID{}, dataError(at, "header: "+field, "%w", errTruncated)
	}
	if len(data)-at < 8 {
		return short("version")
	}
	s := SpecID{PlatformClass: le.Uint32(data[at:]), Minor: data[at+4], Major: data[at+5], Errata: data[at+6], UintnSize: data[at+7]}
	if at += 8; len(data)-at < 4 {
		return short("algorithm count")
	}
	count := le.Uint32(data[at:])
	if count == 0 || count > maxAlgorithms {
		return SpecID{}, dataError(at, "header: algorithm count", "%d, want 1 to %d", count, maxAlgorithms)
	}
	at += 4
	for range count {
		if len(data)-at < 4 {
			return short("algorithms")
		}
		a := Algorithm{le.Uint16(data[at:]), int(le.Uint16(data[at+2:]))}
		if k, ok := pcrbank.ByID(a.ID); ok && k.Hash.Size() != a.Size {
			return SpecID{}, dataError(at, "header: algorithms", "%s with digests of %d bytes, want %d", k.Name, a.Size, k.Hash.Size())
		}
		if a.Size == 0 || a.Size > 1024 {
			return SpecID{}, dataError(at, "header: algorithms", "%v with digests of %d bytes", a, a.Size)
		}
		if slices.ContainsFunc(s.Algorithms, func(o Algorithm) bool { return o.ID == a.ID }) {
			return SpecID{}, dataError(at, "header: algorithms", "0x%04x comes twice", a.ID)
		}
		s.Algorithms = append(s.Algorithms, a)
		at += 4
	}
	// A wrong size of the vendor info keeps nobody from reading on: it is a finding.
	if at < len(data) {
		s.Vendor = data[at+1:]
	}
	return s, nil
}

// newSpecID is the first event of a crypto-agile log of version 2.00, errata 2, of a 64-bit PC client.
func newSpecID(banks []crypto.Hash) Event {
	data := bytes.Clone(specIDSignature)
	data = append(data, 0, 0, 0, 0, 0, 2, 2, 2)
	data = binary.LittleEndian.AppendUint32(data, uint32(len(banks)))
	for _, h := range banks {
		a, _ := pcrbank.ByHash(h)
		data = binary.LittleEndian.AppendUint16(data, a.ID)
		data = binary.LittleEndian.AppendUint16(data, uint16(h.Size()))
	}
	return Event{Type: EventNoAction, Data: append(data, 0)}
}
