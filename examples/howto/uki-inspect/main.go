// uki-inspect says what is in a unified kernel image, and what firmware, boot loader or stub would
// dislike about it. It takes the place of ukify inspect and of objdump -h.
//
//	uki-inspect UKI
package main

import (
	"fmt"
	"log"
	"os"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/uki"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: uki-inspect UKI")
		os.Exit(2)
	}
	if err := inspect(os.Args[1]); err != nil {
		log.Fatal("uki-inspect: ", err)
	}
}

func inspect(name string) error {
	src, err := osmith.OpenFile(name)
	if err != nil {
		return err
	}
	defer src.Close()
	image, err := uki.Open(src) // reads headers and small sections, whatever the size of the file
	if err != nil {
		return err
	}
	release, err := image.OSRelease()
	if err != nil {
		return err
	}
	stub, err := image.StubVersion()
	if err != nil {
		return err
	}
	cmdline, _ := image.Cmdline()
	fmt.Printf("%s %s: stub %s, kernel %s, command line %q, signed: %v\n",
		release["ID"], release["IMAGE_VERSION"], stub, image.Uname(), cmdline, image.Signed())
	for _, s := range image.Sections() {
		fmt.Printf("%-9s %10d bytes\n", s.Name, s.Size)
	}
	for _, finding := range image.Check() {
		fmt.Println(finding)
	}
	return nil
}
