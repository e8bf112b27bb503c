// sign-pe-elsewhere signs a PE image with a key that only another machine or a service can use. The
// first call prints the digest and writes what is to be signed to IMAGE.tosign. The second one
// joins image and answer to IMAGE.signed. It takes the place of systemd-sbsign
// --prepare-offline-signing.
//
//	sign-pe-elsewhere IMAGE CERTIFICATE
//	sign-pe-elsewhere IMAGE CERTIFICATE SIGNATURE
package main

import (
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 && len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: sign-pe-elsewhere IMAGE CERTIFICATE [SIGNATURE]")
		os.Exit(2)
	}
	if err := sign(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		log.Fatal("sign-pe-elsewhere: ", err)
	}
}

func sign(image, certificate string, signature []string) error {
	text, err := os.ReadFile(certificate)
	if err != nil {
		return err
	}
	pair, err := secureboot.ParseKeyPair(text, nil) // the private key is elsewhere
	if err != nil {
		return err
	}
	src, err := osmith.OpenFile(image)
	if err != nil {
		return err
	}
	defer src.Close()
	prepared, err := authenticode.Prepare(src, pair.Cert, authenticode.SignOptions{})
	if err != nil {
		return err
	}
	if len(signature) == 0 {
		fmt.Printf("%v of what is to be signed: %x\n", prepared.Hash, prepared.Digest)
		return os.WriteFile(image+".tosign", prepared.SignedAttributes, 0o644)
	}
	answer, err := os.ReadFile(signature[0])
	if err != nil {
		return err
	}
	out, err := os.Create(image + ".signed")
	if err != nil {
		return err
	}
	defer out.Close()
	return errors.Join(prepared.Join(out, src, answer), out.Close())
}
