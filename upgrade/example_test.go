package upgrade_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/upgradetest"
)

// exampleDisk is a disk with version 1 of an imaginary system, the machine it is for, and the set
// of version 2.
func exampleDisk() (disk osmith.Disk, machine upgrade.Machine, set *acmeos.Set, remove func()) {
	dir := must(os.MkdirTemp("", "upgrade"))
	b := &acmeos.Builder{Keys: must(keys()), Parts: acmeos.StandIns(), Seed: osmith.GUID{1}, Time: when}
	var sets []*acmeos.Set
	for _, version := range []string{"1", "2"} {
		root := filepath.Join(dir, version+".raw")
		check(acmeos.WriteRoot(root, version, nil))
		sets = append(sets, must(b.Build(context.Background(), dir, version, root)))
	}
	image := must(b.Disk(sets[0], acmeos.DiskOptions{}))
	d := faultio.NewDisk(image.Size)
	check(partition.WriteImage(d, image, partition.WriteOptions{TargetIsZero: true}))
	return d, must(b.Machine()), sets[1], func() {
		check(errors.Join(sets[0].Close(), sets[1].Close(), os.RemoveAll(dir)))
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func must[T any](v T, err error) T {
	check(err)
	return v
}

// The whole of an upgrade: plan, look at the verdicts, apply, boot, commit.
func Example() {
	disk, machine, set, remove := exampleDisk()
	defer remove()

	ctx := context.Background()
	plan, err := upgrade.NewPlan(ctx, disk, set.Release(), machine, upgrade.PlanOptions{})
	if err != nil {
		panic(err)
	}
	for _, j := range plan.Verdicts {
		fmt.Printf("%-7s %s\n", j.Proof, j.Outcome)
	}
	if err := plan.Apply(ctx, nil); err != nil {
		panic(err)
	}

	boot, err := (&upgradetest.Machine{Disk: disk, Machine: machine}).Boot(ctx)
	if err != nil {
		panic(err)
	}
	fmt.Println(boot)
	// of a real machine: StubImageIdentifier, the root hash that is mounted...
	machine.Offline, machine.Running = false, boot.Running
	name, err := upgrade.Commit(disk, machine, plan.Entry)
	if err != nil {
		panic(err)
	}
	fmt.Println("committed:", name)
	state, err := upgrade.Inspect(disk, machine)
	if err != nil {
		panic(err)
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

// A plan that does not pass writes nothing, unless the verdict is overridden by name.
func ExamplePlan_Apply_refused() {
	disk, machine, set, remove := exampleDisk()
	defer remove()
	// a person pressed "d" in the boot menu
	machine.Loader = &bootloader.Variables{EntryDefault: "acme_1.efi"}

	ctx := context.Background()
	plan, err := upgrade.NewPlan(ctx, disk, set.Release(), machine, upgrade.PlanOptions{})
	if err != nil {
		panic(err)
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
	_, machine, set, remove := exampleDisk()
	defer remove()
	log := must(upgrade.PredictBoot(machine, nil, set.Release().UKI))
	for _, c := range log.Coverage {
		if c.PCR == 4 || c.PCR == 7 || c.PCR == 11 {
			fmt.Println(c.PCR, c.Prediction)
		}
	}
	// Output:
	// 4 exact
	// 7 exact
	// 11 exact
}

// A set that came up by kexec was not started by firmware: it is not committed, and no way back.
func ExampleCommit_kexec() {
	disk, machine, set, remove := exampleDisk()
	defer remove()

	ctx := context.Background()
	one := must((&upgradetest.Machine{Disk: disk, Machine: machine}).Boot(ctx))
	machine.Offline, machine.Running = false, one.Running
	plan := must(upgrade.NewPlan(ctx, disk, set.Release(), machine, upgrade.PlanOptions{}))
	fmt.Println(plan.Chain)
	check(plan.Apply(ctx, nil))

	running := *one.Running         // StubImageIdentifier is that of version 1,
	running.RootHash = set.RootHash // and version 2 is mounted
	machine.Running = &running
	_, err := upgrade.Commit(disk, machine, plan.Entry)
	fmt.Println(err)
	fmt.Println(upgrade.Rollback(disk, machine, plan.Entry))
	// Output:
	// [EFI/Linux/acme_2+3.efi 3 times EFI/Linux/acme_1.efi returns]
	// upgrade: commit EFI/Linux/acme_2+3.efi: firmware has not started EFI/Linux/acme_2+3.efi: the firmware started EFI/Linux/acme_1.efi, and the running system came up from it by kexec or a soft reboot; reboot into it first
	// EFI/Linux/acme_2+0.efi <nil>
}

// Files beside a UKI have a part in what is measured.
func ExamplePredictImages() {
	_, machine, set, remove := exampleDisk()
	defer remove()
	beside := &uki.Companions{GlobalCredentials: []uki.CompanionFile{{Name: "name.cred", Content: strings.NewReader("acme")}}}
	log := must(upgrade.PredictImages(machine, upgrade.BootImages{UKI: set.Release().UKI, Companions: beside}))
	for _, e := range log.Events {
		if e.PCR == 12 {
			fmt.Println(e.Type)
		}
	}
	// Output:
	// EV_IPL
}
