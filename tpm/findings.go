package tpm

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/sm3"
)

// check notes what is wrong with an event that could be read. A log whose events were changed and
// whose digests were not (or the other way round) still replays; this is where it shows.
func (r *logReader) check(offset int, e *Event) {
	note := func(format string, args ...any) {
		r.log.Findings = append(r.log.Findings, Finding{len(r.log.Events) - 1, int64(offset), fmt.Sprintf(format, args...)})
	}
	if e.order != nil {
		r.noteOrder(offset, e.order)
	}
	if !e.extends() {
		for _, a := range pcrbank.All {
			if !allByte(e.Digests[a.Hash], 0) {
				note("%v with a %s digest that is not zero; it extends nothing", e.Type, a.Name)
			}
		}
		if n, ok := e.locality(); ok && n != 0 && n != 3 && n != 4 {
			note("startup locality %d, want 0, 3 or 4", n)
		}
		return
	}
	if e.PCR < 0 || e.PCR >= PCRCount {
		note("%v for PCR %d, which no TPM has", e.Type, e.PCR)
	}
	if _, known := eventNames[e.Type]; !known {
		note("unknown event type %v", e.Type)
	}
	if _, err := e.payload(); err != nil {
		if text, ok := textOf(e.Data); ok && e.Type == EventTag {
			note("%v without a tag, whose data are the text %s", e.Type, quote(text))
		} else {
			note("%v whose data cannot be read: %v", e.Type, errors.Unwrap(err))
		}
	}
	if len(e.Digests) == 0 && e.foreign[AlgorithmSM3] == nil {
		return // said above, and nothing to compare
	}
	switch {
	case !e.Type.hashesData() || hashedAs(e, e.Data) || e.Type == EventSeparator && isErrorSeparator(e):
	case e.Type == EventEFIVariableDriverConfig && hashesContents(e):
		note("%v whose digest is of the contents of %s alone, without its name", e.Type, variableSubject(SubjectVariable, e))
	case byteTooMany(e):
		note("%v whose data have a byte more than was hashed, as shim writes them", e.Type)
	default:
		note("%v whose digest is not that of its data", e.Type)
	}
	if e.Type == EventEFIVariableBoot && !hashedAs(e, e.Data) {
		// edk2 hashes the contents alone, older firmware the whole structure.
		if _, _, data, ok := splitVariable(e.Data); !ok || !hashedAs(e, data) {
			note("%v whose digest is neither that of its data nor that of the variable", e.Type)
		}
	}
}

// orderFinding is about the events whose digests are of certain algorithms, other than those of the
// header.
type orderFinding struct {
	finding    int // index into the log's findings, about the first of them
	more, last int // how many come after that, and the last one
}

// settle ends the reading of a log, or of what there is of it.
func (r *logReader) settle() {
	for _, o := range r.orders {
		if o.more > 0 {
			r.log.Findings[o.finding].Text += fmt.Sprintf("; likewise %d more, up to event %d", o.more, o.last)
		}
	}
	r.log.setRegisters()
	r.log.setSubjects()
}

// noteOrder notes which digests an event lacks or has besides those that the header lists: once for
// all events that have the same, as Windows' have on firmware with one more bank.
func (r *logReader) noteOrder(offset int, order []uint16) {
	event, key := len(r.log.Events)-1, fmt.Sprint(order)
	if o, ok := r.orders[key]; ok {
		o.more, o.last = o.more+1, event
		return
	}
	names := func(has func(id uint16) bool, ids []uint16) string {
		var out []string
		for _, id := range ids {
			if !has(id) {
				out = append(out, Algorithm{ID: id}.String())
			}
		}
		return strings.Join(out, ", ")
	}
	listed := make([]uint16, 0, len(r.banks))
	for _, a := range r.banks {
		listed = append(listed, a.ID)
	}
	var parts []string
	if missing := names(func(id uint16) bool { return slices.Contains(order, id) }, listed); missing != "" {
		parts = append(parts, "it has no digest of "+missing+", which the header lists")
	}
	if extra := names(func(id uint16) bool { return slices.Contains(listed, id) }, order); extra != "" {
		parts = append(parts, "it has a digest of "+extra+", which the header does not list")
	}
	if parts == nil {
		parts = append(parts, "its digests are in another order than the header lists them")
	}
	if r.orders == nil {
		r.orders = make(map[string]*orderFinding)
	}
	r.orders[key] = &orderFinding{finding: len(r.log.Findings)}
	r.log.Findings = append(r.log.Findings, Finding{event, int64(offset), strings.Join(parts, ", and ")})
}

// checkHeader notes what is wrong with the first event of a crypto-agile log.
func (r *logReader) checkHeader(e *Event, id SpecID) {
	note := func(offset int, format string, args ...any) {
		r.log.Findings = append(r.log.Findings, Finding{0, int64(offset), fmt.Sprintf(format, args...)})
	}
	if digest := e.Digests[crypto.SHA1]; !allByte(digest, 0) {
		r.log.headerDigest = digest
		note(8, "the header has a digest; it extends nothing")
	}
	if e.PCR != 0 && e.PCR != 1 { // see setRegisters
		note(0, "the header is for PCR %d", e.PCR)
	}
	if id.Major != 2 || id.PlatformClass > 1 || id.UintnSize != 1 && id.UintnSize != 2 {
		note(headerData, "the header is of version %d.%d, platform class %d, with integers of %d bytes", id.Major, id.Minor, id.PlatformClass, 4*int(id.UintnSize))
	}
	at := len(specIDSignature) + 12 + 4*len(id.Algorithms)
	switch {
	case at >= len(e.Data):
		note(headerData+at, "the header ends before the size of its vendor info")
	case int(e.Data[at]) != len(id.Vendor):
		note(headerData+at, "the header has %d bytes of vendor info and says %d", len(id.Vendor), e.Data[at])
	}
}

// hashesContents reports whether the digest of a variable's event is of its contents and not of its
// name, as on firmware for TPM 1.2.
func hashesContents(e *Event) bool {
	v, err := readVariable(e.Data)
	return err == nil && hashedAs(e, v.Data)
}

// byteTooMany reports whether the event is shim's of an authority, whose size it counts one byte
// too large.
func byteTooMany(e *Event) bool {
	return e.Type == EventEFIVariableAuthority && len(e.Data) > 0 && hashedAs(e, e.Data[:len(e.Data)-1])
}

// hashedAs reports whether the event has digests and every one is that of data, as far as they are
// of algorithms that this package computes.
func hashedAs(e *Event, data []byte) bool {
	foreign, ok := e.foreign[AlgorithmSM3]
	if ok {
		if want := sm3.Sum(data); !bytes.Equal(foreign, want[:]) {
			return false
		}
	} else if len(e.Digests) == 0 {
		return false
	}
	for h, d := range e.Digests {
		if !bytes.Equal(d, pcrbank.Sum(h, data)) {
			return false
		}
	}
	return true
}

// isErrorSeparator reports whether the event is the separator of a firmware that met an error: the
// digest is that of the number 1, and the data describes the error (Firmware Profile 1.06, section
// 10.4.1, EV_SEPARATOR).
func isErrorSeparator(e *Event) bool { return hashedAs(e, []byte{1, 0, 0, 0}) }
