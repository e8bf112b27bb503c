package build_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/verity"
)

func exampleKey() (crypto.Signer, *x509.Certificate) {
	read := func(name string) []byte {
		b, err := os.ReadFile("../verity/testdata/signature/" + name)
		if err != nil {
			log.Fatal(err)
		}
		block, _ := pem.Decode(b)
		return block.Bytes
	}
	key, err := x509.ParsePKCS8PrivateKey(read("key.pem"))
	if err != nil {
		log.Fatal(err)
	}
	cert, err := x509.ParseCertificate(read("cert.pem"))
	if err != nil {
		log.Fatal(err)
	}
	return key.(crypto.Signer), cert
}

// A system extension is made of an EROFS image; here, of what stands for one.
func ExampleWriteExtension() {
	dir, err := os.MkdirTemp("", "extension")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	f, err := os.Create(filepath.Join(dir, "tools.sysext.raw"))
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	key, cert := exampleKey()
	im, err := build.WriteExtension(context.Background(), f, build.Extension{
		FileSystem: bytes.NewReader(bytes.Repeat([]byte("tools..."), 1<<20)), Architecture: "amd64",
		Seed: osmith.MustParseGUID("11111111-2222-3333-4444-555555555555"), Key: key, Certificate: cert,
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d bytes, root hash %x...\n", im.Size, im.RootHash[:4])
	// Output: 9544192 bytes, root hash 767e6239...
}

// The key is in a device or at another site: it gets to see a digest.
func ExampleExtensionRootHash() {
	x := build.Extension{FileSystem: bytes.NewReader(make([]byte, 8192)), Architecture: "arm64", Seed: osmith.MustParseGUID("11111111-2222-3333-4444-555555555555")}
	rootHash, err := build.ExtensionRootHash(context.Background(), x)
	if err != nil {
		log.Fatal(err)
	}
	key, cert := exampleKey()
	request, err := verity.PrepareSignature(rootHash, cert)
	if err != nil {
		log.Fatal(err)
	}
	raw, err := key.Sign(nil, request.Digest, request.Hash) // elsewhere
	if err != nil {
		log.Fatal(err)
	}
	if x.Signature, err = request.Join(raw); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%x...\n", rootHash[:4])
	// Output: b5646afb...
}
