package upgrade_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"

	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/upgradetest"
)

// A plan that does not pass writes nothing, unless the verdict is overridden by name.
func ExamplePlan_Apply_refused() {
	ctx := context.Background()
	demo, err := acmeos.NewDemo(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer demo.Close()
	machine := demo.Machine
	// a person pressed "d" in the boot menu
	machine.Loader = &bootloader.Variables{EntryDefault: "acme_1.efi"}

	plan, err := upgrade.NewPlan(ctx, demo.Disk, demo.New.Release(), machine, upgrade.PlanOptions{})
	if err != nil {
		log.Fatal(err)
	}
	err = plan.Apply(ctx, nil)
	fmt.Println(errors.Is(err, upgrade.ErrPinned))
	fmt.Println(err)
	// Output:
	// true
	// upgrade: refused, nothing was written: boots: the loader's default is pinned: LoaderEntryDefault, so the loader boots EFI/Linux/acme_1.efi and not the new version; clear it
}

// Before anything is written it is known what a boot will measure: these values can be sealed to,
// or published.
func ExamplePredictBoot() {
	demo, err := acmeos.NewDemo(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer demo.Close()
	predicted, err := upgrade.PredictBoot(demo.Machine, nil, demo.New.UKI)
	if err != nil {
		log.Fatal(err)
	}
	for _, c := range predicted.Coverage {
		if c.PCR == 4 || c.PCR == 7 || c.PCR == 11 {
			fmt.Println(c.PCR, c.Prediction)
		}
	}
	// Output:
	// 4 exact
	// 7 exact
	// 11 exact
}

// Files beside a UKI have a part in what is measured.
func ExamplePredictImages() {
	demo, err := acmeos.NewDemo(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer demo.Close()
	predicted, err := upgrade.PredictImages(demo.Machine, upgrade.BootImages{
		UKI: demo.New.UKI,
		Companions: &uki.Companions{GlobalCredentials: []uki.CompanionFile{
			{Name: "name.cred", Content: strings.NewReader("acme")},
		}},
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range predicted.Events {
		if e.PCR == 12 {
			fmt.Println(e.Type)
		}
	}
	// Output: EV_IPL
}

// A set that came up by kexec was not started by firmware, so whether firmware starts it is not
// known: it is not committed.
func ExampleCommit_kexec() {
	ctx := context.Background()
	demo, err := acmeos.NewDemo(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer demo.Close()
	machine := demo.Machine
	one, err := (&upgradetest.Machine{Disk: demo.Disk, Machine: machine}).Boot(ctx)
	if err != nil {
		log.Fatal(err)
	}
	machine.Offline, machine.Running = false, one.Running
	plan, err := upgrade.NewPlan(ctx, demo.Disk, demo.New.Release(), machine, upgrade.PlanOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(plan.Chain)
	if err := plan.Apply(ctx, nil); err != nil {
		log.Fatal(err)
	}

	running := *one.Running              // StubImageIdentifier is that of version 1,
	running.RootHash = demo.New.RootHash // and version 2 is mounted
	machine.Running = &running
	_, err = upgrade.Commit(demo.Disk, machine, plan.Entry)
	fmt.Println(err)
	fmt.Println(upgrade.Rollback(demo.Disk, machine, plan.Entry))
	// Output:
	// [EFI/Linux/acme_2+3.efi 3 times EFI/Linux/acme_1.efi returns]
	// upgrade: commit EFI/Linux/acme_2+3.efi: firmware has not started EFI/Linux/acme_2+3.efi: the firmware started EFI/Linux/acme_1.efi, and the running system came up from it by kexec or a soft reboot; reboot into it first
	// EFI/Linux/acme_2+0.efi <nil>
}
