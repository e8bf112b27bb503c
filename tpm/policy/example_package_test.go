package policy_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"log"

	"github.com/osmith-dev/osmith/tpm/policy"
)

// A vendor's key signs the value that PCR 11 will have: a secret that is sealed to the key opens
// for every version with such a signature.
func Example() {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		log.Fatal(err)
	}
	// tpm.PCR11States works out the states of a UKI.
	state := map[crypto.Hash]map[int][]byte{crypto.SHA256: {11: make([]byte, 32)}}
	signatures, err := policy.Sign(key, []map[crypto.Hash]map[int][]byte{state}, "")
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range signatures {
		fmt.Println(s.Bank, s.PCRs, s.Verify(&key.PublicKey))
	}
	// Output:
	// SHA-256 [11] <nil>
}
