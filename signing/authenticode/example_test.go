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
	"log"
	"math/big"
	"os"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/signing/authenticode"
)

// vendorKey stands for a key and a certificate of files, or for an HSM.
func vendorKey(name string) (crypto.Signer, *x509.Certificate) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		log.Fatal(err)
	}
	year := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: year, NotAfter: year.AddDate(1, 0, 0)}
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

// A program is signed for Secure Boot, and its signature verified. A program without a signature is
// an error of its own.
func Example() {
	key, cert := vendorKey("Acme OS db")
	image, err := osmith.OpenFile("testdata/plain.efi") // any EFI program
	if err != nil {
		log.Fatal(err)
	}
	defer image.Close()

	var signed bytes.Buffer
	at := cert.NotBefore.AddDate(0, 2, 0) // U-Boot wants a time in the validity of the certificate
	if err := authenticode.Sign(&signed, image, key, cert, authenticode.SignOptions{Time: at}); err != nil {
		log.Fatal(err)
	}
	sig, err := authenticode.Verify(bytes.NewReader(signed.Bytes()), []*x509.Certificate{cert})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(sig.Signer.Subject, sig.Hash, sig.SigningTime.Format(time.DateOnly))

	_, err = authenticode.Verify(image, []*x509.Certificate{cert})
	fmt.Println(errors.Is(err, authenticode.ErrUnsigned))
	// Output:
	// CN=Acme OS db SHA-256 2026-03-01
	// true
}

// The key is somewhere else: what has to be signed goes there, the signature comes back.
func ExamplePrepare() {
	key, cert := vendorKey("Acme OS db")
	image, err := osmith.OpenFile("testdata/plain.efi")
	if err != nil {
		log.Fatal(err)
	}
	defer image.Close()
	p, err := authenticode.Prepare(image, cert, authenticode.SignOptions{})
	if err != nil {
		log.Fatal(err)
	}
	signature, err := key.Sign(rand.Reader, p.Digest, p.Hash) // over there
	if err != nil {
		log.Fatal(err)
	}
	var signed bytes.Buffer
	if err := p.Join(&signed, image, signature); err != nil {
		log.Fatal(err)
	}
	sigs, err := authenticode.Signatures(bytes.NewReader(signed.Bytes()))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(sigs), sigs[0].Signer.Subject)
	// Output: 1 CN=Acme OS db
}

func ExampleDigest() {
	image, err := osmith.OpenFile("testdata/plain.efi")
	if err != nil {
		log.Fatal(err)
	}
	defer image.Close()
	sum, err := authenticode.Digest(image, crypto.SHA256)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(sum), "bytes that firmware measures into PCR 4")
	// Output: 32 bytes that firmware measures into PCR 4
}

// Digests for two banks of a TPM while an image is on its way to somewhere else.
func ExampleDigester() {
	d, err := authenticode.NewDigester(crypto.SHA1, crypto.SHA256)
	if err != nil {
		log.Fatal(err)
	}
	image, err := os.ReadFile("testdata/plain.efi") // what a download returns
	if err != nil {
		log.Fatal(err)
	}
	var file bytes.Buffer
	if _, err := io.MultiWriter(&file, d).Write(image); err != nil {
		log.Fatal(err)
	}
	sums, err := d.Sums()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(sums[crypto.SHA1]), len(sums[crypto.SHA256]))
	// Output: 20 32
}

// An image is signed while it is written, in one pass.
func ExampleStreamSigner() {
	key, cert := vendorKey("Acme OS db")
	file, err := os.CreateTemp("", "linux-*.efi")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(file.Name())
	defer file.Close()

	s, err := authenticode.NewStreamSigner(file, key, cert, authenticode.SignOptions{})
	if err != nil {
		log.Fatal(err)
	}
	image, err := os.ReadFile("testdata/plain.efi") // what a build writes, piece by piece
	if err != nil {
		log.Fatal(err)
	}
	if _, err := s.Write(image); err != nil {
		log.Fatal(err)
	}
	if err := s.Close(); err != nil {
		log.Fatal(err)
	}
	info, err := file.Stat()
	if err != nil {
		log.Fatal(err)
	}
	sig, err := authenticode.Verify(io.NewSectionReader(file, 0, info.Size()), []*x509.Certificate{cert})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(sig.Signer.Subject)
	// Output: CN=Acme OS db
}

// A key was exchanged: the signature of the old one goes, that of the new one takes its place.
// Without the last one the image is unsigned again.
func ExampleRemove() {
	oldKey, oldCert := vendorKey("Acme OS 2025")
	key, cert := vendorKey("Acme OS 2026")
	image, err := osmith.OpenFile("testdata/plain.efi")
	if err != nil {
		log.Fatal(err)
	}
	defer image.Close()
	var signed, renewed, plain bytes.Buffer
	if err := authenticode.Sign(&signed, image, oldKey, oldCert, authenticode.SignOptions{}); err != nil {
		log.Fatal(err)
	}
	o := authenticode.SignOptions{Replace: authenticode.SignedBy(oldCert)}
	if err := authenticode.Sign(&renewed, bytes.NewReader(signed.Bytes()), key, cert, o); err != nil {
		log.Fatal(err)
	}
	err = authenticode.Remove(&plain, bytes.NewReader(renewed.Bytes()), authenticode.SignedBy(oldCert))
	fmt.Println(errors.Is(err, authenticode.ErrNoMatch))
	if err := authenticode.Remove(&plain, bytes.NewReader(renewed.Bytes()), authenticode.SignedBy(cert)); err != nil {
		log.Fatal(err)
	}
	_, err = authenticode.Verify(bytes.NewReader(plain.Bytes()), []*x509.Certificate{cert})
	fmt.Println(errors.Is(err, authenticode.ErrUnsigned))
	// Output:
	// true
	// true
}

func ExampleRemoveAll() {
	key, cert := vendorKey("Acme OS db")
	image, err := osmith.OpenFile("testdata/plain.efi")
	if err != nil {
		log.Fatal(err)
	}
	defer image.Close()
	var signed, plain bytes.Buffer
	if err := authenticode.Sign(&signed, image, key, cert, authenticode.SignOptions{}); err != nil {
		log.Fatal(err)
	}
	if err := authenticode.RemoveAll(&plain, bytes.NewReader(signed.Bytes())); err != nil {
		log.Fatal(err)
	}
	_, err = authenticode.Verify(bytes.NewReader(plain.Bytes()), []*x509.Certificate{cert})
	fmt.Println(err)
	// Output: authenticode: the image is not signed
}

// A signature is carried from one copy of an image to another.
func ExampleAttach() {
	key, cert := vendorKey("Acme OS db")
	image, err := osmith.OpenFile("testdata/plain.efi")
	if err != nil {
		log.Fatal(err)
	}
	defer image.Close()
	var signed, again bytes.Buffer
	if err := authenticode.Sign(&signed, image, key, cert, authenticode.SignOptions{}); err != nil {
		log.Fatal(err)
	}
	entries, err := authenticode.Signatures(bytes.NewReader(signed.Bytes()))
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range entries {
		fmt.Println(e.Signer.Subject, len(e.Timestamps()), "timestamps")
	}
	if err := authenticode.Attach(&again, image, entries[0].Message); err != nil {
		log.Fatal(err)
	}
	fmt.Println(bytes.Equal(signed.Bytes(), again.Bytes()))
	// Output:
	// CN=Acme OS db 0 timestamps
	// true
}

// Another tool prepared the attributes (systemd-sbsign sign --prepare-offline-signing), a key
// elsewhere signed them.
func ExamplePrepared_JoinAttributes() {
	key, cert := vendorKey("Acme OS db")
	image, err := osmith.OpenFile("testdata/plain.efi")
	if err != nil {
		log.Fatal(err)
	}
	defer image.Close()
	// stands for that tool
	theirs, err := authenticode.Prepare(image, cert, authenticode.SignOptions{Time: cert.NotBefore})
	if err != nil {
		log.Fatal(err)
	}
	digest := sha256.Sum256(theirs.SignedAttributes)
	signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		log.Fatal(err)
	}

	p, err := authenticode.Prepare(image, cert, authenticode.SignOptions{})
	if err != nil {
		log.Fatal(err)
	}
	var signed bytes.Buffer
	if err := p.JoinAttributes(&signed, image, theirs.SignedAttributes, signature); err != nil {
		log.Fatal(err)
	}
	sig, err := authenticode.Verify(bytes.NewReader(signed.Bytes()), []*x509.Certificate{cert})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(sig.SigningTime.Format(time.DateOnly))
	// Output: 2026-01-01
}

func ExampleSignatures() {
	key, cert := vendorKey("Acme OS db")
	image, err := osmith.OpenFile("testdata/plain.efi")
	if err != nil {
		log.Fatal(err)
	}
	defer image.Close()
	var signed bytes.Buffer
	if err := authenticode.Sign(&signed, image, key, cert, authenticode.SignOptions{Hash: crypto.SHA512}); err != nil {
		log.Fatal(err)
	}
	sigs, err := authenticode.Signatures(bytes.NewReader(signed.Bytes()))
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range sigs {
		fmt.Println(s.Signer.Subject, s.Hash, s.Err)
	}
	// Output: CN=Acme OS db SHA-512 <nil>
}
