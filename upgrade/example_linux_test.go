package upgrade_test

import (
	"fmt"

	"github.com/osmith-dev/osmith/upgrade"
)

// A boot partition that is mounted, as on /efi, is written through the kernel.
func ExampleFindMounted() {
	disk, err := upgrade.OpenDiskOf("/efi")
	if err != nil {
		fmt.Println(err) // *MountError: nothing of a disk is mounted there
		return
	}
	defer disk.Close()
	var m upgrade.Machine // of ReadMachine
	if m.Mounted, err = upgrade.FindMounted(disk); err != nil {
		fmt.Println(err)
		return
	}
	defer upgrade.CloseMounted(m.Mounted)
}
