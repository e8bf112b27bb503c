package upgrade_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/verity/dm"
)

// An agent reads the machine that it runs on, and the disk that this came from.
func ExampleReadMachine() {
	read, err := upgrade.ReadMachine(os.DirFS("/"), upgrade.ReadMachineOptions{Verity: dm.Active})
	if errors.Is(err, fs.ErrNotExist) {
		return // it was not started by EFI firmware
	}
	if err != nil {
		log.Fatal(err)
	}
	for _, err := range read.Unread {
		log.Print(err)
	}
	machine := read.Machine
	machine.NoShim = true // the vendor knows
	fmt.Println(machine.Running.Image, machine.Running.ESP)
}

// The ESP that firmware has started the machine from tells the disk. Two disks with one partition
// ID, such as after a copy of the whole disk, are an error.
func ExampleFindDisk() {
	demo, err := acmeos.NewDemo(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer demo.Close()
	table, err := partition.Read(demo.Disk, partition.ReadOptions{})
	if err != nil {
		log.Fatal(err)
	}
	esp := table.Partitions[0].ID // Machine.Running.ESP, of ReadMachine
	data, err := demo.EmptyDisk(8 << 20)
	if err != nil {
		log.Fatal(err)
	}
	defer data.Close()

	disks := map[string]osmith.Source{"/dev/sda": demo.Disk, "/dev/sdb": data}
	fmt.Println(upgrade.FindDisk(disks, esp))
	disks["/dev/sdc"] = demo.Disk // as a copy
	_, err = upgrade.FindDisk(disks, esp)
	fmt.Println(err)
	// Output:
	// /dev/sda <nil>
	// upgrade: /dev/sda and /dev/sdc all have a partition with the ID 0552eaef-69ce-4ab4-93eb-d71ba35b1f4c, from which the machine was booted: remove or change all but one of these disks
}
