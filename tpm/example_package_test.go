package tpm_test

import (
	"crypto"
	"fmt"
	"log"
	"os"

	"github.com/osmith-dev/osmith/tpm"
)

// The event log of a machine says what its boot measured, and what its PCRs are if the log is true.
func Example() {
	raw, err := os.ReadFile("testdata/boot/a-sb-sdboot-262/binary_bios_measurements")
	if err != nil {
		log.Fatal(err)
	}
	machine, err := tpm.ParseLog(raw)
	if err != nil {
		log.Fatal(err)
	}
	banks, err := machine.Replay(crypto.SHA256)
	if err != nil {
		log.Fatal(err)
	}
	for _, pcr := range []int{4, 7, 11} {
		fmt.Printf("PCR %d: %x\n", pcr, banks[crypto.SHA256].PCR(pcr))
	}
	// Output:
	// PCR 4: 349201d4eb4ba7462fe441a3d975ec221ec6e868b153efadd40972c72fb83d6f
	// PCR 7: 1724302c1839626341bc762c4cf9b85a1f4b3620494698bee8df283577e8d1b7
	// PCR 11: be2b60665db80f8dbfaed02556bc7d1943f7752d7c0482facef01ef3771da3b6
}
