package layouts_test

import (
	"fmt"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/layouts"
)

// A disk like that of Talos Linux, with a larger state partition.
func Example() {
	l := layouts.Talos()
	l.Seed = osmith.GUID{1, 2, 3} // of IDs
	l.Size = 16 << 30
	l.Partitions[2].Size = 512 << 20
	im, err := partition.Plan(l)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(im.Operations())
	// Output:
	// +   1  EFI        esp            2.1 GiB at 1 MiB
	// +   2  META       linux-generic  1 MiB at 2.1 GiB
	// +   3  STATE      linux-generic  512 MiB at 2.1 GiB
	// +   4  EPHEMERAL  linux-generic  13.4 GiB at 2.6 GiB
}
