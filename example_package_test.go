package osmith_test

import (
	"fmt"
	"log"
	"strings"

	"github.com/osmith-dev/osmith"
)

// The root package has the values that pass from one package to the next: sources of bytes,
// identifiers, files of an ESP.
func Example() {
	// An *os.File in a Device, a section of a disk or a reader of memory.
	var kernel osmith.Source = strings.NewReader("a unified kernel image")
	file := osmith.ESPFile{Path: "EFI/Linux/acme_1.efi", Content: kernel}
	partition, err := osmith.ParseGUID("C12A7328-F81F-11D2-BA4B-00A0C93EC93B")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(file.Path, file.Content.Size(), "bytes on", partition)
	// Output:
	// EFI/Linux/acme_1.efi 22 bytes on c12a7328-f81f-11d2-ba4b-00a0c93ec93b
}
