package upgradetest_test

import (
	"context"
	"fmt"
	"log"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/upgradetest"
)

// A power failure cuts an upgrade off after some of its writes. Whichever write that was, the
// machine comes up, with the old version or the new one.
func Example() {
	ctx := context.Background()
	demo, err := acmeos.NewDemo(ctx) // a disk with version 1, and a release of version 2
	if err != nil {
		log.Fatal(err)
	}
	defer demo.Close()

	update := func(disk osmith.Disk) error { // Cuts calls it with copies of the disk
		plan, err := upgrade.NewPlan(ctx, disk, demo.New.Release(), demo.Machine, upgrade.PlanOptions{})
		if err != nil {
			return err
		}
		return plan.Apply(ctx, nil)
	}
	machine := upgradetest.Machine{Disk: demo.Disk, Machine: demo.Machine}
	for cut, err := range machine.Cuts(ctx, update, upgradetest.Faults{MaxCuts: 4}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(cut.Last().Outcome, "with version", cut.Last().Version)
	}
	// Output:
	// up with version 1
	// up with version 1
	// up with version 1
	// up with version 2
}
