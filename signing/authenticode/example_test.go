package authenticode_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"time"

	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/signing/authenticode"
)

// exampleKey stands for a key and a certificate read from files, or for an HSM.
func exampleKey() (crypto.Signer, *x509.Certificate) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Acme OS db"}, NotBefore: when, NotAfter: when.AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return key, cert
}

func Example() {
	key, cert := exampleKey()
	image := bytes.NewReader(petest.Stub("262-1")) // any PE file

	var signed bytes.Buffer
	at := when.AddDate(0, 0, 1) // inside the validity of the certificate: U-Boot wants that
	if err := authenticode.Sign(&signed, image, key, cert, authenticode.SignOptions{Time: at}); err != nil {
		panic(err)
	}
	sig, err := authenticode.Verify(bytes.NewReader(signed.Bytes()), []*x509.Certificate{cert})
	if err != nil {
		panic(err)
	}
	fmt.Println(sig.Signer.Subject, sig.Hash, sig.SigningTime.Format(time.DateOnly))

	_, err = authenticode.Verify(image, []*x509.Certificate{cert})
	fmt.Println(errors.Is(err, authenticode.ErrUnsigned))
	// Output:
	// CN=Acme OS db SHA-256 2026-03-05
	// true
}

// The key is somewhere else: what has to be signed goes there, the signature comes back.
func ExamplePrepare() {
	key, cert := exampleKey()
	image := bytes.NewReader(petest.Stub("262-1"))
	p, err := authenticode.Prepare(image, cert, authenticode.SignOptions{})
	if err != nil {
		panic(err)
	}
	signature, err := key.Sign(rand.Reader, p.Digest, p.Hash) // over there
	if err != nil {
		panic(err)
	}
	var signed bytes.Buffer
	if err := p.Join(&signed, image, signature); err != nil {
		panic(err)
	}
	sigs, err := authenticode.Signatures(bytes.NewReader(signed.Bytes()))
	if err != nil {
		panic(err)
	}
	fmt.Println(len(sigs), sigs[0].Signer.Subject)
	// Output: 1 CN=Acme OS db
}

func ExampleDigest() {
	sum, err := authenticode.Digest(bytes.NewReader(petest.Kernel("6.12.0")), crypto.SHA256)
	if err != nil {
		panic(err)
	}
	fmt.Println(len(sum), "bytes that firmware measures into PCR 4")
	// Output: 32 bytes that firmware measures into PCR 4
}

// Digests for two banks of a TPM while an image is on its way to somewhere else.
func ExampleDigester() {
	d, err := authenticode.NewDigester(crypto.SHA1, crypto.SHA256)
	if err != nil {
		panic(err)
	}
	var file bytes.Buffer
	if _, err := bytes.NewReader(petest.Stub("262-1")).WriteTo(io.MultiWriter(&file, d)); err != nil {
		panic(err)
	}
	sums, err := d.Sums()
	if err != nil {
		panic(err)
	}
	fmt.Println(len(sums[crypto.SHA1]), len(sums[crypto.SHA256]))
	// Output: 20 32
}

// An image is signed while it is written, in one pass.
func ExampleStreamSigner() {
	key, cert := exampleKey()
	file, err := os.CreateTemp("", "linux-*.efi")
	if err != nil {
		panic(err)
	}
	defer os.Remove(file.Name())
	defer file.Close()

	s, err := authenticode.NewStreamSigner(file, key, cert, authenticode.SignOptions{})
	if err != nil {
		panic(err)
	}
	if _, err := bytes.NewReader(petest.Stub("262-1")).WriteTo(s); err != nil {
		panic(err)
	}
	if err := s.Close(); err != nil {
		panic(err)
	}
	info, err := file.Stat()
	if err != nil {
		panic(err)
	}
	sig, err := authenticode.Verify(io.NewSectionReader(file, 0, info.Size()), []*x509.Certificate{cert})
	if err != nil {
		panic(err)
	}
	fmt.Println(sig.Signer.Subject)
	// Output: CN=Acme OS db
}

// A key was exchanged: the signature of the old one goes, that of the new one takes its place.
// Without any signature the image is what it was.
func ExampleRemove() {
	oldKey, oldCert := exampleKey()
	newKey, newCert := exampleKey()
	image := bytes.NewReader(petest.Stub("262-1"))
	var signed, renewed, plain bytes.Buffer
	if err := authenticode.Sign(&signed, image, oldKey, oldCert, authenticode.SignOptions{}); err != nil {
		panic(err)
	}
	o := authenticode.SignOptions{Replace: authenticode.SignedBy(oldCert)}
	if err := authenticode.Sign(&renewed, bytes.NewReader(signed.Bytes()), newKey, newCert, o); err != nil {
		panic(err)
	}
	err := authenticode.Remove(&plain, bytes.NewReader(renewed.Bytes()), authenticode.SignedBy(oldCert))
	fmt.Println(errors.Is(err, authenticode.ErrNoMatch))
	if err := authenticode.Remove(&plain, bytes.NewReader(renewed.Bytes()), authenticode.SignedBy(newCert)); err != nil {
		panic(err)
	}
	fmt.Println(int64(plain.Len()) == image.Size())
	// Output:
	// true
	// true
}

func ExampleRemoveAll() {
	key, cert := exampleKey()
	var signed, plain bytes.Buffer
	if err := authenticode.Sign(&signed, bytes.NewReader(petest.Stub("262-1")), key, cert, authenticode.SignOptions{}); err != nil {
		panic(err)
	}
	if err := authenticode.RemoveAll(&plain, bytes.NewReader(signed.Bytes())); err != nil {
		panic(err)
	}
	_, err := authenticode.Verify(bytes.NewReader(plain.Bytes()), []*x509.Certificate{cert})
	fmt.Println(err)
	// Output: authenticode: the image is not signed
}

// A signature is carried from one copy of an image to another.
func ExampleAttach() {
	key, cert := exampleKey()
	image := bytes.NewReader(petest.Stub("262-1"))
	var signed, again bytes.Buffer
	if err := authenticode.Sign(&signed, image, key, cert, authenticode.SignOptions{}); err != nil {
		panic(err)
	}
	entries, err := authenticode.Signatures(bytes.NewReader(signed.Bytes()))
	if err != nil {
		panic(err)
	}
	for _, e := range entries {
		fmt.Println(e.Signer.Subject, len(e.Timestamps()), "timestamps")
	}
	if err := authenticode.Attach(&again, image, entries[0].Message); err != nil {
		panic(err)
	}
	fmt.Println(bytes.Equal(signed.Bytes(), again.Bytes()))
	// Output:
	// CN=Acme OS db 0 timestamps
	// true
}

// Another tool prepared the attributes (systemd-sbsign sign --prepare-offline-signing), a key
// elsewhere signed them.
func ExamplePrepared_JoinAttributes() {
	key, cert := exampleKey()
	image := bytes.NewReader(petest.Stub("262-1"))
	// stands for that tool
	theirs, err := authenticode.Prepare(image, cert, authenticode.SignOptions{Time: when})
	if err != nil {
		panic(err)
	}
	digest := sha256.Sum256(theirs.SignedAttributes)
	signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		panic(err)
	}

	p, err := authenticode.Prepare(image, cert, authenticode.SignOptions{})
	if err != nil {
		panic(err)
	}
	var signed bytes.Buffer
	if err := p.JoinAttributes(&signed, image, theirs.SignedAttributes, signature); err != nil {
		panic(err)
	}
	sig, err := authenticode.Verify(bytes.NewReader(signed.Bytes()), []*x509.Certificate{cert})
	if err != nil {
		panic(err)
	}
	fmt.Println(sig.SigningTime.Format(time.DateOnly))
	// Output: 2026-03-04
}

func ExampleSignatures() {
	key, cert := exampleKey()
	var signed bytes.Buffer
	if err := authenticode.Sign(&signed, bytes.NewReader(petest.Stub("262-1")), key, cert, authenticode.SignOptions{Hash: crypto.SHA512}); err != nil {
		panic(err)
	}
	sigs, err := authenticode.Signatures(bytes.NewReader(signed.Bytes()))
	if err != nil {
		panic(err)
	}
	for _, s := range sigs {
		fmt.Println(s.Signer.Subject, s.Hash, s.Err)
	}
	// Output: CN=Acme OS db SHA-512 <nil>
}
