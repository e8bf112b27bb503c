// root-hash-elsewhere signs a root hash with a key that only a service can use, and that returns a
// bare signature. The first call writes NAME.digest for the service. The second one takes the
// service's answer and writes NAME.roothash.p7s, the PKCS #7 message that kernel and systemd want.
// It takes the place of openssl smime -sign.
//
//	root-hash-elsewhere NAME.roothash CERTIFICATE
//	root-hash-elsewhere NAME.roothash CERTIFICATE SIGNATURE
package main

import (
	"encoding/hex"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/verity"
)

func main() {
	log.SetFlags(0)
	if n := len(os.Args); n != 3 && n != 4 || !strings.HasSuffix(os.Args[1], ".roothash") {
		fmt.Fprintln(os.Stderr, "usage: root-hash-elsewhere NAME.roothash CERTIFICATE [SIGNATURE]")
		os.Exit(2)
	}
	if err := sign(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		log.Fatal("root-hash-elsewhere: ", err)
	}
}

func sign(rootHash, certificate string, signature []string) error {
	text, err := os.ReadFile(rootHash)
	if err != nil {
		return err
	}
	root, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		return err
	}
	if text, err = os.ReadFile(certificate); err != nil {
		return err
	}
	pair, err := secureboot.ParseKeyPair(text, nil) // the private key is elsewhere
	if err != nil {
		return err
	}
	request, err := verity.PrepareSignature(root, pair.Cert)
	if err != nil {
		return err
	}
	if len(signature) == 0 {
		fmt.Printf("to be signed, %v, PKCS #1 v1.5 if the key is RSA: %x\n", request.Hash, request.Digest)
		return os.WriteFile(strings.TrimSuffix(rootHash, ".roothash")+".digest", request.Digest, 0o644)
	}
	answer, err := os.ReadFile(signature[0])
	if err != nil {
		return err
	}
	signed, err := request.Join(answer) // which checks it against the certificate
	if err != nil {
		return err
	}
	return os.WriteFile(rootHash+".p7s", signed.PKCS7, 0o644)
}
