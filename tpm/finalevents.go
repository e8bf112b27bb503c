package tpm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// ParseFinalEvents reads an EFI_TCG2_FINAL_EVENTS_TABLE (TCG EFI Protocol Specification 1.00
// revision 0.13, section 7): the events after the boot loader fetched the log, ExitBootServices
// among them. main is the crypto-agile log that the events belong to, whose header says how long
// digests are. Findings and errors are those of [ParseLog]; offsets count from the table's start.
func ParseFinalEvents(table []byte, main *Log) (_ []Event, _ []Finding, err error) {
	defer prefix.Add(pkg, &err)
	if main.sha1Only || len(main.Events) == 0 || !isSpecID(&main.Events[0]) {
		return nil, nil, fmt.Errorf("final events: the log is not crypto-agile: %w", ErrBank)
	}
	id, err := readSpecID(main.Events[0].Data)
	if err != nil {
		return nil, nil, fmt.Errorf("final events: %w", err)
	}
	const header = 16
	r := &logReader{data: bytes.Clone(table), log: &Log{}, banks: id.Algorithms}
	if len(table) < header {
		return nil, nil, r.fail(0, "final events table", errTruncated)
	}
	version, count := binary.LittleEndian.Uint64(table), binary.LittleEndian.Uint64(table[8:])
	if version != 1 {
		return nil, nil, r.fail(0, "final events table: version", fmt.Errorf("%d, want 1", version))
	}
	r.pos = header
	for i := uint64(0); i < count; i++ {
		r.event = int(min(i, 1<<30))
		start := r.pos
		e, err := r.event2()
		if err != nil {
			return nil, nil, r.partial(err)
		}
		r.log.Events = append(r.log.Events, e)
		r.check(start, &e)
	}
	if r.pos < len(r.data) && !allByte(r.data[r.pos:], 0) && !allByte(r.data[r.pos:], 0xff) {
		r.log.Findings = append(r.log.Findings, Finding{-1, int64(r.pos), fmt.Sprintf("%d bytes behind the last of %d final events", len(r.data)-r.pos, count)})
	}
	r.settle()
	for i := range r.log.Events {
		r.log.Events[i].cc = main.Registers == RegistersCC
	}
	return r.log.Events, r.log.Findings, nil
}

// WithFinalEvents returns the log with those final events that it does not hold yet. Firmware
// writes an event to both from the moment when the log was first fetched, so the end of the log may
// be the start of the table.
func (l *Log) WithFinalEvents(events []Event) *Log {
	same := func(a, b Event) bool {
		return a.PCR == b.PCR && a.Type == b.Type && a.sameDigests(&b) && bytes.Equal(a.Data, b.Data)
	}
	firmware, later := l.Events[:len(l.Events)-l.userspace], l.Events[len(l.Events)-l.userspace:]
	overlap := min(len(events), len(firmware))
	for overlap > 0 && !slices.EqualFunc(firmware[len(firmware)-overlap:], events[:overlap], same) {
		overlap--
	}
	out := *l
	out.Events = slices.Concat(firmware, events[overlap:], later)
	out.setSubjects()
	return &out
}
