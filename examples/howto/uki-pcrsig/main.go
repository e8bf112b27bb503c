// uki-pcrsig signs the values that PCR 11 will have when a unified kernel image boots: a secret
// that is sealed to the key opens for every version with such a signature. It prints the JSON of
// .pcrsig, in place of systemd-measure sign.
//
//	uki-pcrsig UKI KEY
package main

import (
	"crypto"
	"fmt"
	"log"
	"os"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/uki"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: uki-pcrsig UKI KEY")
		os.Exit(2)
	}
	if err := signPolicies(os.Args[1], os.Args[2]); err != nil {
		log.Fatal("uki-pcrsig: ", err)
	}
}

func signPolicies(image, keyFile string) error {
	text, err := os.ReadFile(keyFile)
	if err != nil {
		return err
	}
	key, err := secureboot.ParsePrivateKey(text)
	if err != nil {
		return err
	}
	src, err := osmith.OpenFile(image)
	if err != nil {
		return err
	}
	defer src.Close()
	f, err := uki.Open(src)
	if err != nil {
		return err
	}
	sections, err := f.Measurements(crypto.SHA256)
	if err != nil {
		return err
	}
	// nil: the points that systemd signs for
	states, err := tpm.PCR11States(sections, []crypto.Hash{crypto.SHA256}, nil)
	if err != nil {
		return err
	}
	signatures, err := policy.Sign(key, states, "")
	if err != nil {
		return err
	}
	pcrsig, err := signatures.MarshalJSON()
	fmt.Println(string(pcrsig))
	return err
}
