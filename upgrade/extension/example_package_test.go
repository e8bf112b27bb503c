package extension_test

import (
	"fmt"
	"log"

	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade/extension"
)

// Whether systemd merges an extension follows from its extension-release and the os-release of the
// system.
func Example() {
	r, err := extension.ParseRelease(extension.KindSysext, []byte("ID=acme\nVERSION_ID=9\n"))
	if err != nil {
		log.Fatal(err)
	}
	for _, version := range []string{"9", "10"} {
		fmt.Println(r.Matches(extension.OS{Release: uki.OSRelease{"ID": "acme", "VERSION_ID": version}}))
	}
	// Output:
	// <nil>
	// extension: the extension is not for this OS: VERSION_ID: want "10", got "9"
}
