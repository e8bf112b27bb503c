// keys-generate makes the keys of a product: PK, KEK and db for Secure Boot, PCR and verity, which
// sign PCR policies and root hashes, and release, which signs releases; each as two PEM files such
// as db.key and db.crt. PK.auth, KEK.auth and db.auth enrol the keys on machines in setup mode. It
// takes the place of openssl, cert-to-efi-sig-list, sign-efi-sig-list and cosign generate-key-pair.
//
//	keys-generate DIRECTORY
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
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
	files, err := keys.Files()
	if err != nil {
		return err
	}
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	release, err := secureboot.NewKeyPair(signer, secureboot.CertificateOptions{CommonName: "Acme OS releases", NotBefore: now, NotAfter: now.AddDate(20, 0, 0)})
	if err != nil {
		return err
	}
	if files["release.crt"], files["release.key"], err = release.MarshalPEM(); err != nil {
		return err
	}
	// Option ROMs of graphics and network cards are refused then: say so of virtual machines only.
	enrollment, err := keys.Enroll(secureboot.EnrollOptions{Time: now, NothingMustBoot: true,
		OptionROMs: secureboot.OptionROMs{TrustNoOptionROMsAtTheRiskOfABlackScreen: true}})
	if err != nil {
		return err
	}
	files["PK.auth"], files["KEK.auth"], files["db.auth"] = enrollment.PK, enrollment.KEK, enrollment.DB
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	fmt.Println("enrol in this order: db.auth, KEK.auth, PK.auth")
	return nil
}
