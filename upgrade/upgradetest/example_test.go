package upgradetest_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/upgrade/upgradetest"
)

// emptyDisk is the image of a disk in a directory.
func emptyDisk(dir string) *acmeos.ImageFile {
	disk, err := acmeos.CreateImage(filepath.Join(dir, "disk.img"), 1<<20)
	if err != nil {
		log.Fatal(err)
	}
	return disk
}

// A disk that holds nothing leaves the machine stuck: that is an outcome, not an error.
func ExampleMachine_Boot() {
	dir, err := os.MkdirTemp("", "boot")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	disk := emptyDisk(dir)
	defer disk.Close()
	m := upgradetest.Machine{Disk: disk}
	boot, err := m.Boot(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(boot.Outcome)
	// Output: stuck
}

// The power fails before and after the only write of a program that writes to the table of a disk
// in place. The machine of this example boots in neither case.
func ExampleMachine_Cuts() {
	dir, err := os.MkdirTemp("", "cuts")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	disk := emptyDisk(dir)
	defer disk.Close()
	m := upgradetest.Machine{Disk: disk}
	erase := func(disk osmith.Disk) error {
		_, err := disk.WriteAt(make([]byte, 512), 512)
		return err
	}
	for cut, err := range m.Cuts(context.Background(), erase, upgradetest.Faults{}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(cut.Fault, cut.Last().Outcome)
	}
	// Output:
	// power cut behind write 0 of 1 stuck
	// power cut behind write 1 of 1 stuck
}
