package upgrade_test

import (
	"context"
	"fmt"
	"log"

	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/upgradetest"
)

// The whole of an upgrade: plan, look at the verdicts, apply, boot, commit.
func Example() {
	ctx := context.Background()
	demo, err := acmeos.NewDemo(ctx) // a disk with version 1, and a release of version 2
	if err != nil {
		log.Fatal(err)
	}
	defer demo.Close()

	plan, err := upgrade.NewPlan(ctx, demo.Disk, demo.New.Release(), demo.Machine, upgrade.PlanOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for _, j := range plan.Verdicts {
		fmt.Printf("%-7s %s\n", j.Proof, j.Outcome)
	}
	if err := plan.Apply(ctx, nil); err != nil {
		log.Fatal(err)
	}

	// A simulation takes the place of the reboot. On a real machine, upgrade.ReadMachine tells what
	// runs.
	boot, err := (&upgradetest.Machine{Disk: demo.Disk, Machine: demo.Machine}).Boot(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(boot)
	machine := demo.Machine
	machine.Offline, machine.Running = false, boot.Running

	name, err := upgrade.Commit(demo.Disk, machine, plan.Entry)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("committed:", name)
	state, err := upgrade.Inspect(demo.Disk, machine)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("next:", state.Next.Path)
	// Output:
	// fits    pass
	// boots   pass
	// unlocks pass
	// returns pass
	// follows pass
	// up: version 2 (EFI/Linux/acme_2+2-1.efi)
	// committed: EFI/Linux/acme_2.efi
	// next: EFI/Linux/acme_2.efi
}
