package sealing

import "github.com/osmith-dev/osmith/internal/swtpm"

// measured is something that was measured into a PCR.
type measured struct {
	pcr  int
	data string
}

// eventLog is the firmware's log of what was measured.
func eventLog(events []measured) []byte {
	all := make([]swtpm.Event, len(events))
	for i, e := range events {
		all[i] = swtpm.Event{PCR: e.pcr, Data: e.data}
	}
	return swtpm.EventLog(all...)
}
