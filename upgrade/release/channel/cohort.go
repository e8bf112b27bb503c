package channel

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// Cohort is the cohort that a machine is in for a version, 0 to 999: always the same for the same
// names, and a new one for each version, so that different machines go first each time. A version
// that is offered to n cohorts is offered to those below n; who was offered it stays among them
// when n grows.
//
// The machine's ID, such as the content of /etc/machine-id, is the key of an HMAC-SHA256 over
// "osmith.channel/1", product, channel and version, each ended by a NUL byte; the cohort is the
// first eight bytes of that, as a big-endian number, modulo 1000. Neither the ID nor anything else
// is sent.
func Cohort(product, channel, version, machineID string) int {
	h := hmac.New(sha256.New, []byte(machineID))
	fmt.Fprintf(h, "%s\x00%s\x00%s\x00%s\x00", Schema, product, channel, version)
	return int(binary.BigEndian.Uint64(h.Sum(nil)) % Cohorts)
}
