package secureboot_test

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/osmith-dev/osmith/signing/secureboot"
)

func Example() {
	// Once per product: three keys.
	year := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	keys, err := secureboot.Generate(nil, secureboot.GenerateOptions{CommonName: "Acme OS", NotBefore: year, NotAfter: year.AddDate(20, 0, 0)})
	if err != nil {
		panic(err)
	}

	// The machine's variables after enrolment, and what it would say to an image signed by the db key.
	machine, err := keys.Variables()
	if err != nil {
		panic(err)
	}
	digest := sha256.Sum256([]byte("stands for the Authenticode digest of a PE image"))
	digests := map[crypto.Hash][]byte{crypto.SHA256: digest[:]}
	signature := secureboot.Candidate{Hash: crypto.SHA256, Digest: digest[:], Signer: keys.DB.Cert}
	fmt.Println(machine.Evaluate(digests, []secureboot.Candidate{signature}).Reason)

	// Withdrawing the image.
	machine.DBX, err = secureboot.AppendSignatureLists(machine.DBX, secureboot.HashList(keys.Owner, digest))
	if err != nil {
		panic(err)
	}
	fmt.Println(machine.Evaluate(digests, []secureboot.Candidate{signature}).Allowed)
	// Output:
	// db has the certificate "CN=Acme OS Signature Database Key"
	// false
}

func ExampleSignVariable() {
	year := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	keys, err := secureboot.Generate(nil, secureboot.GenerateOptions{CommonName: "Acme OS", NotBefore: year, NotAfter: year.AddDate(20, 0, 0)})
	if err != nil {
		panic(err)
	}
	revoked := sha256.Sum256([]byte("stands for the Authenticode digest of an old image"))
	payload, err := secureboot.AppendSignatureLists(nil, secureboot.HashList(keys.Owner, revoked))
	if err != nil {
		panic(err)
	}
	auth, err := secureboot.SignVariable("dbx", payload, year, keys.KEK.Key, keys.KEK.Cert, true)
	if err != nil {
		panic(err)
	}
	update, err := secureboot.VerifyAuth(auth, "dbx", true, []*x509.Certificate{keys.KEK.Cert})
	if err != nil {
		panic(err)
	}
	fmt.Println(update.Time.Format(time.DateOnly), update.Signer.Subject, len(update.Payload))
	// Output: 2026-01-01 CN=Acme OS Key Exchange Key 76
}

func ExampleParseSignatureLists() {
	esl, err := secureboot.AppendSignatureLists(nil, secureboot.HashList(secureboot.GUID{}, [32]byte{1}, [32]byte{2}))
	if err != nil {
		panic(err)
	}
	lists, err := secureboot.ParseSignatureLists(esl)
	if err != nil {
		panic(err)
	}
	for _, l := range lists {
		for _, s := range l.Signatures {
			fmt.Println(l.Type == secureboot.TypeSHA256, s.Owner, len(s.Data))
		}
	}
	// Output:
	// true 00000000-0000-0000-0000-000000000000 32
	// true 00000000-0000-0000-0000-000000000000 32
}
