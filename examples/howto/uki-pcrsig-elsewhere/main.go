// uki-pcrsig-elsewhere makes the .pcrsig of a UKI with a key that only a service or an HSM can use.
// The first call writes UKI.policy1.tosign and so on, each to be signed with PKCS #1 v1.5 and
// SHA-256. The second one takes the signatures, in the same order, and prints the .pcrsig. It takes
// the place of systemd-measure policy-digest.
//
//	uki-pcrsig-elsewhere UKI PUBLICKEY
//	uki-pcrsig-elsewhere UKI PUBLICKEY SIGNATURE...
package main

import (
	"crypto"
	"fmt"
	"log"
	"os"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/uki"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: uki-pcrsig-elsewhere UKI PUBLICKEY [SIGNATURE...]")
		os.Exit(2)
	}
	image, keyFile, answers := os.Args[1], os.Args[2], os.Args[3:]
	text, err := os.ReadFile(keyFile)
	fatal(err)
	key, err := policy.ParsePublicKey(text)
	fatal(err)
	src, err := osmith.OpenFile(image)
	fatal(err)
	f, err := uki.Open(src)
	fatal(err)
	sections, err := f.Measurements(crypto.SHA256)
	fatal(err)
	// nil: the points of a boot that systemd signs for
	states, err := tpm.PCR11States(sections, []crypto.Hash{crypto.SHA256}, nil)
	fatal(err)
	policies, err := policy.Prepare(key, states, "")
	fatal(err)
	if len(answers) == 0 {
		for i, p := range policies {
			name := fmt.Sprintf("%s.policy%d.tosign", image, i+1)
			fatal(os.WriteFile(name, p.TBS(), 0o644))
			fmt.Println(name)
		}
		return
	}
	signatures := make([][]byte, len(answers))
	for i, name := range answers {
		signatures[i], err = os.ReadFile(name)
		fatal(err)
	}
	joined, err := policies.Join(key, signatures) // which checks each against the key
	fatal(err)
	pcrsig, err := joined.MarshalJSON()
	fatal(err)
	fmt.Println(string(pcrsig))
}

func fatal(err error) {
	if err != nil {
		log.Fatal("uki-pcrsig-elsewhere: ", err)
	}
}
