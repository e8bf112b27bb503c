package swtpm

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"testing"
)

// Event is something that firmware measures: the bytes, which are in the log as they are.
type Event struct {
	PCR  int
	Data string
}

// Boot cuts the power, measures what firmware would, and returns its log.
func (s *TPM) Boot(t testing.TB, events ...Event) []byte {
	t.Helper()
	s.Reboot(t)
	for _, e := range events {
		s.Extend(t, e.PCR, []byte(e.Data))
	}
	return EventLog(events...)
}

// EventLog is the log of a boot with the banks sha256 and sha384, in the crypto-agile format (TCG
// PC Client Platform Firmware Profile 1.06, section 10).
func EventLog(events ...Event) []byte {
	const noAction, ipl = 3, 13 // event types
	le := binary.LittleEndian
	spec := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2, 2, 0, 0, 0, 0x0b, 0, 32, 0, 0x0c, 0, 48, 0, 0)
	b := le.AppendUint32(le.AppendUint32(nil, 0), noAction)
	b = append(b, make([]byte, 20)...) // SHA-1
	b = append(le.AppendUint32(b, uint32(len(spec))), spec...)
	for _, e := range events {
		short, long := sha256.Sum256([]byte(e.Data)), sha512.Sum384([]byte(e.Data))
		b = le.AppendUint32(le.AppendUint32(le.AppendUint32(b, uint32(e.PCR)), ipl), 2)
		b = append(append(b, 0x0b, 0), short[:]...)
		b = append(append(b, 0x0c, 0), long[:]...)
		b = append(le.AppendUint32(b, uint32(len(e.Data))), e.Data...)
	}
	return b
}
