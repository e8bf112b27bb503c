package tpm

import (
	"bytes"
	"crypto"
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/pcrbank"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sm3"
)

// pkg is what errors of this package begin with.
const pkg = "tpm"

// Log is a measured boot, event by event: one that has happened, parsed from a machine, or one that
// has not happened yet, made by [Predict]. Both replay and compare in the same way.
type Log struct {
	Events []Event

	// Registers say what the events extend: PCRs, unless a parsed log is that of a confidential
	// virtual machine.
	Registers Registers

	// Findings are oddities of a parsed log that did not keep it from being read.
	Findings []Finding

	// Coverage says for each PCR whether a predicted log holds all of its events. It is nil for a
	// machine's log; [Compare] says what such a log claims.
	Coverage []Coverage

	userspace    int  // number of events at the end that userspace measured
	hasUserspace bool // what userspace measured was added, or predicted

	sha1Only     bool   // read from a log in the format of TPM 1.2
	headerDigest []byte // of the first event of a crypto-agile log, if it is not zeros
	trailer      []byte // padding behind the last event
}

// Finding is something that firmware should not have written.
type Finding struct {
	Event  int   // index into Log.Events, -1 if the finding belongs to no event
	Offset int64 // in bytes from the start of the log
	Text   string
}

func (f Finding) String() string {
	if f.Event < 0 {
		return fmt.Sprintf("at 0x%x: %s", f.Offset, f.Text)
	}
	return fmt.Sprintf("event %d at 0x%x: %s", f.Event, f.Offset, f.Text)
}

// maxAlgorithms bounds the banks of a log; TPMs have at most six.
const maxAlgorithms = 16

// headerData is the offset of the first event's data.
const headerData = 32

// specIDSignature starts the data of the first event of a crypto-agile log.
var specIDSignature = []byte("Spec ID Event03\x00")

var (
	errTruncated = errors.New("the log ends inside it")
	errEmpty     = errors.New("no events")
)

// logReader walks a log.
type logReader struct {
	data  []byte
	pos   int
	event int         // index of the event being read
	banks []Algorithm // of the header; nil in a SHA-1 log
	log   *Log

	orders map[string]*orderFinding // by the algorithms
}

// ParseLog reads a TCG event log: the crypto-agile format of TPM 2.0 firmware, or the SHA-1 format
// of TPM 1.2 (TCG PC Client Platform Firmware Profile 1.06, section 10.2). Linux has it as
// /sys/kernel/security/tpm0/binary_bios_measurements. The log of a confidential virtual machine has
// the same form, and other Registers. What can be read without doubt is read, and oddities are in
// Findings; a size or count that cannot be true, or a log that ends inside an event, is a
// [*osmith.FormatError]. In that case no Log is returned, since it is unknown what the rest
// measured; the events before that place are in a [*PartialError].
func ParseLog(data []byte) (_ *Log, err error) {
	defer prefix.Add(pkg, &err)
	r := &logReader{data: bytes.Clone(data), log: &Log{}}
	if err := r.all(); err != nil {
		return nil, r.partial(err)
	}
	r.settle()
	return r.log, nil
}

// PartialError says that a log could be read only up to some place, where it is cut off or damaged.
// Its events can be shown, but are not a [Log]: they do not replay to the values of a TPM, and do
// not show what else was measured.
type PartialError struct {
	Events   []Event   // events before that place
	Findings []Finding // findings about these events
	Err      error     // what is wrong at that place, a [*osmith.FormatError]
}

func (e *PartialError) Error() string { return e.Err.Error() }

// Unwrap returns what is wrong.
func (e *PartialError) Unwrap() error { return e.Err }

// partial adds what was read so far to an error.
func (r *logReader) partial(err error) error {
	if len(r.log.Events) == 0 {
		return err
	}
	r.settle()
	return &PartialError{r.log.Events, r.log.Findings, err}
}

// cutEvent is the most bytes at the end of a log that are rather the start of an event than
// padding: the event of PCR 0 begins with four zeros, that of PCR -1 with four ones, and no type of
// event begins so.
const cutEvent = 4

// all reads the whole log.
func (r *logReader) all() error {
	if len(r.data) == 0 {
		return r.fail(0, "header", errEmpty)
	}
	end := paddingStart(r.data)
	if end == 0 {
		return r.fail(0, "header", fmt.Errorf("%w: all %d bytes are 0x%02x", errEmpty, len(r.data), r.data[0]))
	}
	first, err := r.event1()
	if err != nil {
		return err
	}
	if first.Type == EventNoAction && bytes.HasPrefix(first.Data, specIDSignature) {
		id, err := readSpecID(first.Data)
		if err != nil {
			return r.inData(headerData, err)
		}
		r.banks = id.Algorithms
		r.checkHeader(&first, id)
		first.Digests = nil
	} else {
		r.log.sha1Only = true
	}
	r.log.Events = append(r.log.Events, first)
	for r.pos < len(r.data) {
		if r.pos >= end && len(r.data)-r.pos > cutEvent {
			r.log.trailer = r.data[r.pos:]
			r.log.Findings = append(r.log.Findings, Finding{-1, int64(r.pos), fmt.Sprintf("%d bytes of padding behind the last event", len(r.data)-r.pos)})
			break
		}
		start := r.pos
		r.event = len(r.log.Events)
		read := r.event2
		if r.log.sha1Only {
			read = r.event1
		}
		e, err := read()
		if err != nil {
			return err
		}
		r.log.Events = append(r.log.Events, e)
		r.check(start, &e)
	}
	return nil
}

func (r *logReader) fail(off int, field string, err error) error {
	return &osmith.FormatError{Offset: int64(off), Field: fmt.Sprintf("event log: event %d: %s", r.event, field), Err: err}
}

// inData is an error about an event's data, which start at off, as one about the log.
func (r *logReader) inData(off int, err error) error {
	format, ok := errors.AsType[*osmith.FormatError](err)
	if !ok {
		return r.fail(off, "data", err)
	}
	return r.fail(off+int(format.Offset), format.Field, format.Err)
}

// take returns the next n bytes.
func (r *logReader) take(n int, field string) ([]byte, error) {
	if n > len(r.data)-r.pos {
		return nil, r.fail(r.pos, field, fmt.Errorf("%d bytes, %d left: %w", n, len(r.data)-r.pos, errTruncated))
	}
	b := r.data[r.pos : r.pos+n : r.pos+n]
	r.pos += n
	return b, nil
}

func (r *logReader) u32(field string) (uint32, error) {
	b, err := r.take(4, field)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b), nil
}

func (r *logReader) u16(field string) (uint16, error) {
	b, err := r.take(2, field)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint16(b), nil
}

// head reads what both formats begin with.
func (r *logReader) head() (Event, error) {
	pcr, err := r.u32("PCR")
	if err != nil {
		return Event{}, err
	}
	typ, err := r.u32("type")
	if err != nil {
		return Event{}, err
	}
	// Through int32, so that 0xffffffff is -1 on every platform.
	return Event{PCR: int(int32(pcr)), Type: EventType(typ)}, nil
}

// event1 reads a TCG_PCR_EVENT (Firmware Profile 1.06, section 10.2.1).
func (r *logReader) event1() (Event, error) {
	at := r.pos
	e, err := r.head()
	if err != nil {
		return Event{}, err
	}
	digest, err := r.take(crypto.SHA1.Size(), "digest")
	if err != nil {
		return Event{}, err
	}
	e.Digests = map[crypto.Hash][]byte{crypto.SHA1: digest}
	if e.Data, err = r.eventData(); err == nil && allByte(r.data[at:r.pos], 0) {
		return Event{}, r.fail(at, "head", fmt.Errorf("%d zero bytes, want an event", r.pos-at))
	}
	return e, err
}

// event2 reads a TCG_PCR_EVENT2 (section 10.2.2).
func (r *logReader) event2() (Event, error) {
	e, err := r.head()
	if err != nil {
		return Event{}, err
	}
	at := r.pos
	count, err := r.u32("digest count")
	if err != nil {
		return Event{}, err
	}
	if count > maxAlgorithms {
		return Event{}, r.fail(at, "digest count", fmt.Errorf("%d, the header lists %d algorithms", count, len(r.banks)))
	}
	e.Digests = make(map[crypto.Hash][]byte, count)
	inOrder := count == uint32(len(r.banks))
	order := make([]uint16, 0, count)
	for i := range int(count) {
		at := r.pos
		id, err := r.u16("digest algorithm")
		if err != nil {
			return Event{}, err
		}
		k := slices.IndexFunc(r.banks, func(a Algorithm) bool { return a.ID == id })
		size, ok := digestSize(r.banks, id)
		if !ok { // nothing says how long its digests are
			return Event{}, r.fail(at, "digest algorithm", fmt.Errorf("0x%04x is not in the header", id))
		}
		if slices.Contains(order, id) {
			return Event{}, r.fail(at, "digest algorithm", fmt.Errorf("0x%04x is listed twice", id))
		}
		inOrder = inOrder && k == i
		order = append(order, id)
		digest, err := r.take(size, "digest")
		if err != nil {
			return Event{}, err
		}
		if a, ok := pcrbank.ByID(id); ok {
			e.Digests[a.Hash] = digest
			continue
		}
		if e.foreign == nil {
			e.foreign = make(map[uint16][]byte)
		}
		e.foreign[id] = digest
	}
	if !inOrder {
		e.order = order
	}
	e.Data, err = r.eventData()
	return e, err
}

// digestSize is the length of an algorithm's digests by the header, or by the algorithm.
func digestSize(banks []Algorithm, id uint16) (int, bool) {
	if k := slices.IndexFunc(banks, func(a Algorithm) bool { return a.ID == id }); k >= 0 {
		return banks[k].Size, true
	}
	if id == AlgorithmSM3 {
		return sm3.Size, true
	}
	a, ok := pcrbank.ByID(id)
	if !ok {
		return 0, false
	}
	return a.Hash.Size(), true
}

func (r *logReader) eventData() ([]byte, error) {
	at := r.pos
	size, err := r.u32("data size")
	if err != nil {
		return nil, err
	}
	if uint64(size) > uint64(len(r.data)-r.pos) {
		return nil, r.fail(at, "data size", fmt.Errorf("%d bytes, %d left: %w", size, len(r.data)-r.pos, errTruncated))
	}
	return r.take(int(size), "data")
}

// paddingStart is the offset from which data is a run of one byte, zero or all ones: nothing from
// there on is an event.
func paddingStart(data []byte) int {
	last := data[len(data)-1]
	if last != 0 && last != 0xff {
		return len(data)
	}
	i := len(data)
	for i > 0 && data[i-1] == last {
		i--
	}
	return i
}

func allByte(b []byte, v byte) bool {
	for _, c := range b {
		if c != v {
			return false
		}
	}
	return true
}

// Banks are the hashes for which every event that extends a PCR has a digest, in the order of
// [Banks].
func (l *Log) Banks() []crypto.Hash {
	var hs []crypto.Hash
	for _, a := range pcrbank.All {
		found := false
		missing := slices.ContainsFunc(l.Events, func(e Event) bool {
			_, ok := e.Digests[a.Hash]
			found = found || ok
			return e.extends() && !ok
		})
		if found && !missing {
			hs = append(hs, a.Hash)
		}
	}
	return hs
}

// SpecID is a TCG_EfiSpecIdEvent (Firmware Profile 1.06, section 10.4.5.1): the first event of a
// crypto-agile log, which names the algorithms that every other event has digests of.
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

// String is the name of the bank for a hash of [Banks] and for SM3, and the number of any other
// hash.
func (a Algorithm) String() string {
	if a.ID == AlgorithmSM3 {
		return nameSM3
	}
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
		if size, ok := digestSize(nil, a.ID); ok && size != a.Size {
			return SpecID{}, dataError(at, "header: algorithms", "%v with digests of %d bytes, want %d", a, a.Size, size)
		}
		if a.Size == 0 || a.Size > 1024 {
			return SpecID{}, dataError(at, "header: algorithms", "%v with digests of %d bytes", a, a.Size)
		}
		if slices.ContainsFunc(s.Algorithms, func(o Algorithm) bool { return o.ID == a.ID }) {
			return SpecID{}, dataError(at, "header: algorithms", "0x%04x is listed twice", a.ID)
		}
		s.Algorithms = append(s.Algorithms, a)
		at += 4
	}
	// A wrong size of the vendor info is a finding: the rest can be read.
	if at < len(data) {
		s.Vendor = data[at+1:]
	}
	return s, nil
}

// newSpecID is the first event of a crypto-agile log of version 2.00, errata 2, of a 64-bit PC
// client.
func newSpecID(banks []crypto.Hash) Event {
	data := bytes.Clone(specIDSignature)
	data = append(data, 0, 0, 0, 0, 0, 2, 2, 2)
	data = binary.LittleEndian.AppendUint32(data, uint32(len(banks)))
	for _, h := range banks {
		a, _ := pcrbank.ByHash(h)
		data = binary.LittleEndian.AppendUint16(data, a.ID)
		data = binary.LittleEndian.AppendUint16(data, uint16(h.Size()))
	}
	return Event{Type: EventNoAction, Data: append(data, 0), Subject: Subject{Kind: SubjectNothing}}
}

var (
	_ encoding.BinaryAppender  = (*Log)(nil)
	_ encoding.BinaryMarshaler = (*Log)(nil)
)

// MarshalBinary returns the log in the format from which it was read, byte for byte as it was; a
// log made by [Predict] or by hand is written as crypto-agile.
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
			return nil, fmt.Errorf("writing an event log: no bank for which every event has a digest: %w", ErrBank)
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
