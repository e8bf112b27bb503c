package uki_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/osmith-dev/osmith/uki"
)

// An image is measured while it is downloaded, and its digest as a file is computed in the same
// pass.
func ExampleFile_NewMeasurer() {
	stub, err1 := os.ReadFile("testdata/linuxx64.efi.stub")
	kernel, err2 := os.ReadFile("testdata/vmlinuz")
	if err := errors.Join(err1, err2); err != nil {
		log.Fatal(err)
	}
	image := &uki.Image{Stub: bytes.NewReader(stub), Linux: bytes.NewReader(kernel), Cmdline: "ro quiet", OSRelease: []byte("ID=acme\n")}
	image.Profiles = []uki.Profile{{Profile: []byte("ID=debug\n"), Cmdline: "ro debug"}}
	published, err := image.Assemble()
	if err != nil {
		log.Fatal(err)
	}

	f, err := uki.Open(published) // reads the headers alone
	if err != nil {
		log.Fatal(err)
	}
	m, err := f.NewMeasurer(crypto.SHA256)
	if err != nil {
		log.Fatal(err)
	}
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(sum, m), io.NewSectionReader(published, 0, published.Size())); err != nil {
		log.Fatal(err)
	}
	variants, err := m.Variants()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("sha256:%x…\n", sum.Sum(nil)[:8])
	for _, v := range variants {
		fmt.Println("profile", v.Profile, "measures", len(v.Sections), "sections")
	}
	// Output:
	// sha256:454875c1a2369211…
	// profile 0 measures 6 sections
	// profile 1 measures 6 sections
}
