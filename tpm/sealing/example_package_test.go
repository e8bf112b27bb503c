package sealing_test

import (
	"crypto"
	"fmt"
	"log"
	"os"

	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/tpm/sealing"
)

// The vendor of an image signs what PCR 11 is in each phase of its boot, and systemd-repart sealed
// the key of the root volume to the vendor's public key. Did the TPM give out that key in a later
// boot? The logs of that boot answer, without a TPM.
func Example() {
	volume, err := os.ReadFile("testdata/mkosi/token.json") // cryptsetup token export
	if err != nil {
		log.Fatal(err)
	}
	token, err := sealing.ParseToken(volume)
	if err != nil {
		log.Fatal(err)
	}
	section, err := os.ReadFile("testdata/mkosi/pcrsig.json") // .pcrsig of the UKI
	if err != nil {
		log.Fatal(err)
	}
	signatures, err := policy.ParseSignatures(section)
	if err != nil {
		log.Fatal(err)
	}

	const boot = "../testdata/mkosi/b2/"
	firmware, err := os.ReadFile(boot + "binary_bios_measurements") // /sys/kernel/security/tpm0
	if err != nil {
		log.Fatal(err)
	}
	events, err := tpm.ParseLog(firmware)
	if err != nil {
		log.Fatal(err)
	}
	userspace, err := os.ReadFile(boot + "tpm2-measure.log") // /run/log/systemd
	if err != nil {
		log.Fatal(err)
	}
	records, err := tpm.ParseUserspaceLog(userspace)
	if err != nil {
		log.Fatal(err)
	}

	unlocking, err := records.Until("nvpcr-separator") // the last word before the volume is unlocked
	if err != nil {
		log.Fatal(err)
	}
	state, err := sealing.StateOf(events, unlocking)
	if err != nil {
		log.Fatal(err)
	}
	state.Signatures = signatures
	answer, err := token.Check(state)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("as signed:", answer.Verdict)

	state.PCRs[crypto.SHA256][11] = make([]byte, 32) // a UKI that the vendor has not signed for
	if answer, err = token.Check(state); err != nil {
		log.Fatal(err)
	}
	fmt.Println("changed:", answer.Verdict, answer.Reasons)
	// Output:
	// as signed: opens
	// changed: does not open [no signature for the current PCR values: sha256 PCR 11 is 0000000000000000000000000000000000000000000000000000000000000000, and the key e85ebddb30314991 has signed for 4 others]
}
