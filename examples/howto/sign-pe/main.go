// sign-pe signs a boot loader, kernel or unified kernel image for Secure Boot, in place of sbsign
// and systemd-sbsign. Any crypto.Signer will do as the key, so a token or a service needs no other
// code.
//
//	sign-pe IMAGE KEY CERTIFICATE SIGNED
package main

import (
	"crypto/x509"
	"fmt"
	"log"
	"os"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: sign-pe IMAGE KEY CERTIFICATE SIGNED")
		os.Exit(2)
	}
	if err := sign(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		log.Fatal("sign-pe: ", err)
	}
}

func sign(image, key, certificate, to string) error {
	certText, err := os.ReadFile(certificate)
	if err != nil {
		return err
	}
	keyText, err := os.ReadFile(key)
	if err != nil {
		return err
	}
	pair, err := secureboot.ParseKeyPair(certText, keyText)
	if err != nil {
		return err
	}
	src, err := osmith.OpenFile(image)
	if err != nil {
		return err
	}
	defer src.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := authenticode.Sign(out, src, pair.Key, pair.Cert, authenticode.SignOptions{}); err != nil {
		return err
	}
	signed, err := osmith.NewDevice(out)
	if err != nil {
		return err
	}
	signature, err := authenticode.Verify(signed, []*x509.Certificate{pair.Cert})
	if err != nil {
		return err
	}
	fmt.Println("signed by", signature.Signer.Subject)
	return out.Close()
}
