package dm_test

import (
	"fmt"
	"log"

	"github.com/osmith-dev/osmith/verity/dm"
)

// The kernel command line of a UKI says which root the initrd sets up, and whether the system can
// boot without its being verified.
func Example() {
	c, err := dm.ParseCmdline("quiet roothash=00112233445566778899aabbccddeeffffeeddccbbaa99887766554433221100")
	if err != nil {
		log.Fatal(err)
	}
	data, tree := c.Root.Devices()
	fmt.Println(data)
	fmt.Println(tree)
	volumes, err := c.Verified()
	fmt.Println(len(volumes), "verified volume", err)
	// Output:
	// /dev/disk/by-partuuid/00112233-4455-6677-8899-aabbccddeeff
	// /dev/disk/by-partuuid/ffeeddcc-bbaa-9988-7766-554433221100
	// 1 verified volume <nil>
}
