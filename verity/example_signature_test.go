package verity_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log"
	"math/big"
	"time"

	"github.com/osmith-dev/osmith/verity"
)

// exampleRoot is any root hash.
var exampleRoot = bytes.Repeat([]byte{0xab}, sha256.Size)

func exampleKey() (*ecdsa.PrivateKey, *x509.Certificate) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Acme root hashes"}, NotAfter: time.Unix(1<<32, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		log.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		log.Fatal(err)
	}
	return key, cert
}

func ExampleSignRootHash() {
	key, cert := exampleKey()
	signature, err := verity.SignRootHash(exampleRoot, key, cert)
	if err != nil {
		log.Fatal(err)
	}
	content, err := signature.Partition(16 << 10) // as large as systemd-repart makes it
	if err != nil {
		log.Fatal(err)
	}
	read, err := verity.ReadSignature(bytes.NewReader(content))
	if err != nil {
		log.Fatal(err)
	}
	signer, err := read.Verify([]*x509.Certificate{cert})
	fmt.Println(signer.Subject, err)
	// Output:
	// CN=Acme root hashes <nil>
}

// The key is elsewhere: all that it gets to see is a digest.
func ExamplePrepareSignature() {
	key, cert := exampleKey()
	request, err := verity.PrepareSignature(exampleRoot, cert)
	if err != nil {
		log.Fatal(err)
	}
	raw, err := key.Sign(rand.Reader, request.Digest, request.Hash)
	if err != nil {
		log.Fatal(err)
	}
	signature, err := request.Join(raw)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%v %x\n", request.Hash, signature.RootHash[:4])
	// Output:
	// SHA-256 abababab
}

func ExampleVerifySignature() {
	key, cert := exampleKey()
	signature, err := verity.SignRootHash(exampleRoot, key, cert)
	if err != nil {
		log.Fatal(err)
	}
	_, err = verity.VerifySignature(signature.PKCS7, exampleRoot, nil)
	fmt.Println(err)
	// Output:
	// verity: signature: certificate "CN=Acme root hashes": the signer is not trusted
}
