package sealing

import (
	"crypto"
	"encoding/binary"

	"github.com/osmith-dev/osmith/tpm"
)

// measured is something that was measured into a PCR.
type measured struct {
	pcr  int
	data string
}

// eventLog is the firmware's log of what was measured, in the crypto-agile format (TCG PC Client Platform Firmware Profile
// 1.06, section 10).
func eventLog(events []measured) []byte {
	le := binary.LittleEndian
	spec := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2)
	spec = le.AppendUint32(spec, uint32(len(tpm.Banks())))
	for _, h := range tpm.Banks() {
		spec = le.AppendUint16(le.AppendUint16(spec, uint16(algorithms[h])), uint16(h.Size()))
	}
	spec = append(spec, 0)
	b := le.AppendUint32(le.AppendUint32(nil, 0), 3) // EV_NO_ACTION
	b = append(b, make([]byte, crypto.SHA1.Size())...)
	b = append(le.AppendUint32(b, uint32(len(spec))), spec...)
	for _, e := range events {
		b = le.AppendUint32(le.AppendUint32(b, uint32(e.pcr)), 13) // EV_IPL
		b = le.AppendUint32(b, uint32(len(tpm.Banks())))
		for _, h := range tpm.Banks() {
			w := h.New()
			w.Write([]byte(e.data))
			b = append(le.AppendUint16(b, uint16(algorithms[h])), w.Sum(nil)...)
		}
		b = append(le.AppendUint32(b, uint32(len(e.data))), e.data...)
	}
	return b
}
