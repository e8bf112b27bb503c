package upgradetest_test

import (
	"context"
	"fmt"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/upgrade/upgradetest"
)

// A disk that holds nothing leaves the machine stuck: that is an outcome, not an error.
func ExampleMachine_Boot() {
	m := upgradetest.Machine{Disk: faultio.NewDisk(1 << 20)}
	boot, err := m.Boot(context.Background())
	if err != nil {
		panic(err)
	}
	fmt.Println(boot.Outcome)
	// Output: stuck
}

// A program that writes to the table of a disk in place is cut behind its only write.
func ExampleMachine_Cuts() {
	m := upgradetest.Machine{Disk: faultio.NewDisk(1 << 20)}
	erase := func(disk osmith.Disk) error {
		_, err := disk.WriteAt(make([]byte, 512), 512)
		return err
	}
	for cut, err := range m.Cuts(context.Background(), erase, upgradetest.Faults{}) {
		if err != nil {
			panic(err)
		}
		fmt.Println(cut.Fault, cut.Last().Outcome)
	}
	// Output:
	// power cut behind write 0 of 1 stuck
	// power cut behind write 1 of 1 stuck
}
