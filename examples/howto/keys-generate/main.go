// keys-generate makes the keys of a product: PK, KEK and db for Secure Boot, and those that sign
// PCR policies and root hashes. Each becomes two PEM files, such as db.key and db.crt; PK.auth,
// KEK.auth and db.auth enrol them in machines in setup mode. It takes the place of openssl req,
// cert-to-efi-sig-list and sign-efi-sig-list.
//
//	keys-generate DIRECTORY
package main

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/osmith-dev/osmith/signing/secureboot"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: keys-generate DIRECTORY")
		os.Exit(2)
	}
	if err := generate(os.Args[1]); err != nil {
		log.Fatal("keys-generate: ", err)
	}
}

func generate(dir string) error {
	now := time.Now().UTC().Truncate(time.Second)
	keys, err := secureboot.Generate(rand.Reader, secureboot.GenerateOptions{CommonName: "Acme OS", NotBefore: now, NotAfter: now.AddDate(20, 0, 0)})
	if err != nil {
		return err
	}
	for name, pair := range map[string]secureboot.KeyPair{"PK": keys.PK, "KEK": keys.KEK, "db": keys.DB, "pcr": keys.PCR, "verity": keys.Verity} {
		der, err := x509.MarshalPKCS8PrivateKey(pair.Key)
		if err != nil {
			return err
		}
		key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
		cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Cert.Raw})
		if err := os.WriteFile(filepath.Join(dir, name+".key"), key, 0o600); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name+".crt"), cert, 0o644); err != nil {
			return err
		}
	}
	// Without Microsoft's certificates, option ROMs of graphics and network cards are refused: say
	// so only of virtual machines.
	enrollment, err := keys.Enroll(secureboot.EnrollOptions{Time: now, NothingMustBoot: true,
		OptionROMs: secureboot.OptionROMs{TrustNoOptionROMsAtTheRiskOfABlackScreen: true}})
	if err != nil {
		return err
	}
	for name, auth := range map[string][]byte{"PK.auth": enrollment.PK, "KEK.auth": enrollment.KEK, "db.auth": enrollment.DB} {
		if err := os.WriteFile(filepath.Join(dir, name), auth, 0o644); err != nil {
			return err
		}
	}
	fmt.Println("enrol in this order: db.auth, KEK.auth, PK.auth")
	return nil
}
