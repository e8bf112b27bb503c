package tpm

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/strictjson"
)

// Record is an entry of systemd's own log: userspace extended a PCR or an NvPCR.
type Record struct {
	PCR       int    // -1 for an NvPCR
	NVIndex   uint32 // NV index of the NvPCR, 0 for a PCR
	NVName    string // name of the NvPCR, from its definition
	Digests   map[crypto.Hash][]byte
	Word      string // what was measured, "" if that is a secret
	EventType string // "phase", "machine-id", "filesystem", "volume-key", …
	BootID    string // 32 hexadecimal digits
	Timestamp uint64 // microseconds since the boot, including suspend
}

// UserspaceLog is /run/log/systemd/tpm2-measure.log.
type UserspaceLog struct {
	Records  []Record
	Findings []Finding // Event is the index into Records
}

// maxRecord bounds a record in bytes; systemd's are a few hundred.
const maxRecord = 1 << 20

var (
	errNoRecord = errors.New("no record separator (0x1e)")
	errBadPCR   = errors.New("want either a PCR from 0 to 23 or an NV index")
)

// jsonRecord is a record as systemd writes it: a subset of the TCG Canonical Event Log in JSON
// (systemd 262, TPM2_PCR_MEASUREMENTS).
type jsonRecord struct {
	PCR         *int         `json:"pcr"`
	NVIndex     *uint32      `json:"nv_index"`
	Digests     []jsonDigest `json:"digests"`
	ContentType string       `json:"content_type"`
	Content     struct {
		NVName    string  `json:"nvIndexName"`
		Word      *string `json:"string"`
		BootID    string  `json:"bootId"`
		Timestamp uint64  `json:"timestamp"`
		EventType string  `json:"eventType"`
	} `json:"content"`
}

// ParseUserspaceLog reads systemd's log of measurements (RFC 7464: 0x1e, JSON, newline). A
// truncated record at the end is a finding, since its writer may have died; any other malformed
// record is a [*osmith.FormatError]. A word that does not match its digest is a finding too: only
// the digests count. Records of volume keys differ: their digest is made with the key, so their
// word cannot be checked, and a digest that matches the word is the finding.
func ParseUserspaceLog(data []byte) (*UserspaceLog, error) {
	u := &UserspaceLog{}
	pos := 0
	fail := func(field string, err error) (*UserspaceLog, error) {
		offset := int64(pos)
		if inner, ok := errors.AsType[*osmith.FormatError](err); ok {
			offset, err = offset+1+max(inner.Offset, 0), inner.Err // behind the separator
		}
		return nil, prefix.Error(pkg, &osmith.FormatError{Offset: offset, Field: fmt.Sprintf("userspace log: record %d: %s", len(u.Records), field), Err: err})
	}
	for pos < len(data) {
		if data[pos] != 0x1e {
			return fail("start", errNoRecord)
		}
		end := bytes.IndexByte(data[pos+1:], 0x1e)
		next := len(data)
		if end >= 0 {
			next = pos + 1 + end
		}
		text := data[pos+1 : next]
		if len(text) > maxRecord {
			return fail("record", fmt.Errorf("%d bytes, want %d or fewer", len(text), maxRecord))
		}
		rec, err := readRecord(text)
		switch {
		case err == nil:
			u.Records = append(u.Records, rec)
			u.checkRecord(pos)
		case next == len(data) && !bytes.HasSuffix(text, []byte{'\n'}):
			u.Findings = append(u.Findings, Finding{-1, int64(pos), fmt.Sprintf("the last record is cut after %d bytes", len(text))})
		default:
			return fail("record", err)
		}
		pos = next
	}
	return u, nil
}

func readRecord(text []byte) (Record, error) {
	var j jsonRecord
	if err := strictjson.Unmarshal(text, &j); err != nil {
		return Record{}, err
	}
	r := Record{PCR: -1, NVName: j.Content.NVName, EventType: j.Content.EventType, BootID: j.Content.BootID, Timestamp: j.Content.Timestamp}
	switch {
	case j.PCR != nil && j.NVIndex == nil && *j.PCR >= 0 && *j.PCR < PCRCount:
		r.PCR = *j.PCR
	case j.PCR == nil && j.NVIndex != nil:
		r.NVIndex = *j.NVIndex
	default:
		return Record{}, errBadPCR
	}
	if j.Content.Word != nil {
		r.Word = *j.Content.Word
	}
	var err error
	r.Digests, err = readDigests(j.Digests)
	return r, err
}

// readDigests reads the digests of a record; those of hashes that are no bank here are left out.
func readDigests(list []jsonDigest) (map[crypto.Hash][]byte, error) {
	out := make(map[crypto.Hash][]byte, len(list))
	for _, d := range list {
		value, err := hex.DecodeString(d.Digest)
		if err != nil {
			return nil, fmt.Errorf("a %s digest that is not hexadecimal: %w", escape(d.HashAlg), err)
		}
		h, err := BankByName(d.HashAlg)
		if err != nil {
			continue
		}
		if len(value) != h.Size() {
			return nil, fmt.Errorf("a %s digest of %d bytes, want %d", BankName(h), len(value), h.Size())
		}
		if _, twice := out[h]; twice {
			return nil, fmt.Errorf("two %s digests", BankName(h))
		}
		out[h] = value
	}
	return out, nil
}

func (u *UserspaceLog) checkRecord(pos int) {
	i := len(u.Records) - 1
	r := &u.Records[i]
	note := func(text string) { u.Findings = append(u.Findings, Finding{i, int64(pos), text}) }
	if len(r.Digests) == 0 {
		note("no digest of a known bank")
	}
	own := hashedAs(&Event{Digests: r.Digests}, []byte(r.Word))
	switch keyed := r.EventType == eventVolumeKey && r.word().keyed(); {
	case r.Word == "" || len(r.Digests) == 0: // nothing to compare
	case keyed && own:
		note("the record of a volume key with the digest of its word, which no key is in: " + escape(r.Word))
	case !keyed && !own:
		note("a word whose digest is not its own: " + escape(r.Word))
	}
	if r.BootID != u.Records[0].BootID {
		note("of another boot: " + escape(r.BootID))
	}
}

// Events are the records that extended PCRs, as events of type EV_IPL with the word as their data,
// the same form that [Predict] uses.
func (u *UserspaceLog) Events() []Event {
	var out []Event
	for _, r := range u.Records {
		if r.PCR >= 0 {
			out = append(out, Event{PCR: r.PCR, Type: EventIPL, Digests: r.Digests, Data: []byte(r.Word)})
		}
	}
	return out
}

// WithUserspace returns a firmware's log with the events that userspace measured afterwards. Its
// replay is what the TPM of a running system holds, except PCR 10.
func (l *Log) WithUserspace(u *UserspaceLog) *Log {
	out := *l
	events := u.Events()
	out.Events = append(out.Events[:len(out.Events):len(out.Events)], events...)
	out.userspace, out.hasUserspace = l.userspace+len(events), true
	out.trailer = nil
	out.setSubjects()
	return &out
}

// MachineIDWord is what systemd-pcrmachine measures into PCR 15. id has 32 hexadecimal digits,
// without dashes.
func MachineIDWord(id string) (string, error) {
	if len(id) != 32 || strings.Trim(id, "0123456789abcdef") != "" {
		return "", fmt.Errorf("tpm: machine ID \"%s\": want 32 lower-case hexadecimal digits", escape(id))
	}
	return wordMachineID + id, nil
}

// FileSystem is what systemd-pcrfs measures of a mounted file system into PCR 15. A field that
// systemd-pcrfs does not know is empty.
type FileSystem struct {
	Path  string // where it is mounted
	Type  string // "erofs"
	UUID  string // of the file system
	Label string // of the file system

	PartitionUUID, PartitionType, PartitionLabel string
}

// Word is the text that is measured. A colon in a field is written as \x3a.
func (f FileSystem) Word() string {
	fields := []string{f.Path, f.Type, f.UUID, f.Label, f.PartitionUUID, f.PartitionType, f.PartitionLabel}
	for i := range fields {
		fields[i] = strings.ReplaceAll(fields[i], ":", `\x3a`)
	}
	return wordFileSystem + strings.Join(fields, ":")
}
