package hwid_test

import (
	"fmt"
	"log"

	"github.com/osmith-dev/osmith/uki/hwid"
)

// A UKI for several boards has a table of hardware IDs, by which the stub picks the device tree.
func Example() {
	board := &hwid.SMBIOS{Manufacturer: "Acme", ProductName: "Board 2"}
	table, err := hwid.Encode([]hwid.Record{
		{CHID: board.CHIDs("")[9], Type: hwid.TypeDeviceTree, Name: "Board 2", Match: "acme,board-2"},
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, product := range []string{"Board 2", "Board 3"} {
		tree, ok := hwid.Match(table, hwid.TypeDeviceTree, &hwid.SMBIOS{Manufacturer: "Acme", ProductName: product}, "", 262)
		fmt.Printf("%s: %q %v\n", product, tree, ok)
	}
	// Output:
	// Board 2: "acme,board-2" true
	// Board 3: "" false
}
