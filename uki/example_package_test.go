package uki_test

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/uki"
)

// An image is made of its parts. What its boot measures into PCR 11 is known before it is written,
// and the written image tells the same.
func Example() {
	stub, err1 := os.ReadFile("testdata/linuxx64.efi.stub") // in /usr/lib/systemd/boot/efi
	kernel, err2 := os.ReadFile("testdata/vmlinuz")
	if err := errors.Join(err1, err2); err != nil {
		log.Fatal(err)
	}
	image := &uki.Image{
		Stub:      bytes.NewReader(stub),
		Linux:     bytes.NewReader(kernel),
		Initrd:    []osmith.Source{strings.NewReader("070701...")},
		Cmdline:   "ro roothash=431834fe95970d0e9a0fd85d4bb4c8a8a3f6f4a8a3c9a0f5c4ac2b7b6a1d5e0f",
		OSRelease: []byte("ID=acme\nVERSION_ID=7\n"),
	}
	measured, err := image.Measurements(crypto.SHA256)
	if err != nil {
		log.Fatal(err)
	}
	for _, m := range measured {
		fmt.Printf("%-8s %4d bytes %x…\n", m.Section, m.Size, m.Digests[crypto.SHA256][:8])
	}

	assembled, err := image.Assemble()
	if err != nil {
		log.Fatal(err)
	}
	var file bytes.Buffer // EFI/Linux/acme_7.efi
	if _, err := assembled.WriteTo(&file); err != nil {
		log.Fatal(err)
	}
	written, err := uki.Open(bytes.NewReader(file.Bytes()))
	if err != nil {
		log.Fatal(err)
	}
	again, err := written.Measurements(crypto.SHA256)
	if err != nil {
		log.Fatal(err)
	}
	last := len(again) - 1
	fmt.Println("kernel", written.Uname(), "measures the same:",
		bytes.Equal(again[last].Digests[crypto.SHA256], measured[last].Digests[crypto.SHA256]))
	// Output:
	// .linux   5120 bytes b4e01ed887f6af74…
	// .osrel     21 bytes 29eae27d814085c0…
	// .cmdline   76 bytes b8c3deb845c093e3…
	// .initrd     9 bytes 356c7142296863d8…
	// .uname      6 bytes fea4e26faa4a4353…
	// .sbat     223 bytes abb433db90474b84…
	// kernel 6.12.0 measures the same: true
}
