package extension_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log"
	"math/big"
	"os"
	"testing/fstest"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade/extension"
)

// tools is an extension as a vendor makes it. Its file system is not one that can be mounted.
func tools() *bytes.Reader {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		log.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Acme extensions"},
		NotBefore: time.Unix(1_767_225_600, 0), NotAfter: time.Unix(2_082_758_400, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		log.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		log.Fatal(err)
	}
	file, err := os.CreateTemp("", "tools.sysext.raw")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if _, err := build.WriteExtension(context.Background(), file, build.Extension{
		FileSystem:   bytes.NewReader(bytes.Repeat([]byte("tools..."), 1024)), // build.WriteEROFS
		Architecture: "amd64", Seed: osmith.MustParseGUID("11111111-2222-3333-4444-555555555555"),
		Key: key, Certificate: certificate,
	}); err != nil {
		log.Fatal(err)
	}
	image, err := os.ReadFile(file.Name())
	if err != nil {
		log.Fatal(err)
	}
	return bytes.NewReader(image)
}

// An image says who has signed it. A machine trusts the certificates that it has.
func ExampleRead() {
	im, err := extension.Read(tools())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(im.Architecture, im.Protection, "by", im.Signer.Subject)
	fmt.Println("verified:", im.Verify(context.Background()))
	other := &x509.Certificate{PublicKey: ed25519.PublicKey{}}
	for _, trusted := range []*x509.Certificate{other, im.Signer} {
		_, err = im.Trusted([]*x509.Certificate{trusted})
		fmt.Println("trusted:", err == nil)
	}
	// Output:
	// amd64 signed by CN=Acme extensions
	// verified: <nil>
	// trusted: false
	// trusted: true
}

// An extension for version 2 does not go with version 3.
func ExampleFile_Judge() {
	f := extension.File{Name: "tools.sysext.raw", Content: tools(), Release: []byte("ID=acme\nVERSION_ID=2\n")}
	for _, version := range []string{"2", "3"} {
		os := extension.OS{Release: uki.OSRelease{"ID": "acme", "VERSION_ID": version}, Architecture: "amd64"}
		j, err := f.Judge(context.Background(), os, extension.JudgeOptions{})
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(j.Kind, j.Image.Protection, "read from the file system:", j.Compared)
	}
	// Output:
	// sysext signed read from the file system: false
	// extension: the extension is not for this OS: VERSION_ID: want "3", got "2"
}

func ExampleReadRelease() {
	// of the image, by any reader of file systems
	fsys := fstest.MapFS{"etc/extension-release.d/extension-release.proxy": {Data: []byte("ID=_any\nCONFEXT_SCOPE=initrd\n")}}
	r, err := extension.ReadRelease(fsys, extension.KindConfext, "proxy", false)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.ID, r.For("initrd"), r.For("system"))
	// Output: _any true false
}

func ExampleReleasePath() {
	fmt.Println(extension.ReleasePath(extension.KindConfext, "proxy", false))
	fmt.Println(extension.ReleasePath(extension.KindSysext, "tools", true))
	// Output:
	// etc/extension-release.d/extension-release.proxy
	// lib/extension-release.d/extension-release.tools
}

func ExampleParseRelease() {
	r, err := extension.ParseRelease(extension.KindSysext, []byte("ID=acme\nSYSEXT_LEVEL=3\n"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.Matches(extension.OS{Release: uki.OSRelease{"ID": "acme", "VERSION_ID": "9", "SYSEXT_LEVEL": "4"}}))
	// Output: extension: the extension is not for this OS: SYSEXT_LEVEL: want "4", got "3"
}

// The OS of a release is that of its UKI.
func ExampleOSOf() {
	parts := acmeos.StandIns() // or acmeos.FindParts
	im := uki.Image{Stub: parts.Stub, Linux: parts.Linux, OSRelease: []byte("ID=acme\nVERSION_ID=2\n")}
	assembled, err := im.Assemble()
	if err != nil {
		log.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := assembled.WriteTo(&b); err != nil {
		log.Fatal(err)
	}
	f, err := uki.Open(bytes.NewReader(b.Bytes()))
	if err != nil {
		log.Fatal(err)
	}
	system, err := extension.OSOf(f)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(system.Release["ID"], system.Release["VERSION_ID"], system.Architecture)
	// Output: acme 2 amd64
}

func ExampleParseName() {
	fmt.Println(extension.ParseName("debug-tools.sysext.raw"))
	_, _, err := extension.ParseName("debug-tools.raw")
	fmt.Println(err)
	// Output:
	// debug-tools sysext <nil>
	// extension: file name "debug-tools.raw": want NAME.sysext.raw or NAME.confext.raw
}
