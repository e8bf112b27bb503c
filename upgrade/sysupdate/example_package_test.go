package sysupdate_test

import (
	"fmt"
	"log"
	"testing/fstest"

	"github.com/osmith-dev/osmith/upgrade/sysupdate"
)

// Patterns of systemd-sysupdate say what files of which version are called, and how a boot counter
// is in their names.
func Example() {
	pattern, err := sysupdate.ParsePattern("acme_@v+@l-@d.efi")
	if err != nil {
		log.Fatal(err)
	}
	esp := fstest.MapFS{"acme_1.efi": {}, "acme_2+3-0.efi": {}, "acme_3+1-2.efi": {}}
	entries, err := esp.ReadDir(".")
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range entries {
		if fields, ok := pattern.Match(e.Name()); ok {
			fmt.Println("version", fields.Version, "has", *fields.TriesLeft, "tries left")
		}
	}
	// Output:
	// version 2 has 3 tries left
	// version 3 has 1 tries left
}
