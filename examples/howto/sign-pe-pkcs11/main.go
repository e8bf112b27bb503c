// sign-pe-pkcs11 signs a PE image with a key in an HSM or on a smart card, by pkcs11-tool of
// OpenSC, so that nothing here links C. The PIN is in the environment variable PIN. All that signs
// in osmith takes such a crypto.Signer. It takes the place of sbsign --engine pkcs11.
//
//	sign-pe-pkcs11 MODULE TOKEN KEY CERTIFICATE IMAGE SIGNED
package main

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// A token is an RSA key that signs where it is.
type token struct {
	module, label, key string
	public             crypto.PublicKey
}

func (t token) Public() crypto.PublicKey { return t.public }

func (t token) Sign(_ io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	if _, pss := o.(*rsa.PSSOptions); pss || o.HashFunc() != crypto.SHA256 {
		return nil, errors.New("this signs PKCS #1 v1.5 with SHA-256 only")
	}
	// the DigestInfo of PKCS #1 for SHA-256
	info := append([]byte("\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"), digest...)
	cmd := exec.Command("pkcs11-tool", "--module", t.module, "--token-label", t.label, "--login", "--pin", "env:PIN",
		"--sign", "--mechanism", "RSA-PKCS", "--label", t.key)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(info), os.Stderr
	return cmd.Output()
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 7 {
		fmt.Fprintln(os.Stderr, "usage: sign-pe-pkcs11 MODULE TOKEN KEY CERTIFICATE IMAGE SIGNED")
		os.Exit(2)
	}
	text, err := os.ReadFile(os.Args[4])
	fatal(err)
	pair, err := secureboot.ParseKeyPair(text, nil)
	fatal(err)
	pair.Key = token{os.Args[1], os.Args[2], os.Args[3], pair.Cert.PublicKey}
	image, err := osmith.OpenFile(os.Args[5])
	fatal(err)
	signed, err := os.Create(os.Args[6])
	fatal(err)
	fatal(authenticode.Sign(signed, image, pair.Key, pair.Cert, authenticode.SignOptions{}))
	fatal(signed.Close())
}

func fatal(err error) {
	if err != nil {
		log.Fatal("sign-pe-pkcs11: ", err)
	}
}
