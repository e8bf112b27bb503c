package upgradetest_test

import (
	"crypto"
	"fmt"
	"log"

	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/tpm/sealing"
	"github.com/osmith-dev/osmith/upgrade/upgradetest"
)

// A token for a value of PCR 11, without a TPM: it opens where PCR 11 has that.
func ExampleSealedToken() {
	values := map[int][]byte{11: make([]byte, 32)}
	d, err := policy.PolicyPCR(policy.Digest{}, crypto.SHA256, values)
	if err != nil {
		log.Fatal(err)
	}
	token := upgradetest.SealedToken(sealing.Token{Bank: crypto.SHA256, PCRs: []int{11}}, d)
	for _, last := range []byte{0, 1} {
		values[11][31] = last
		answer, err := token.Check(sealing.State{PCRs: map[crypto.Hash]map[int][]byte{crypto.SHA256: values}})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(answer.Verdict)
	}
	// Output:
	// opens
	// does not open
}
