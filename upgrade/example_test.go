package upgrade_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/upgradetest"
)

// exampleDisk is a disk with version 1 of an imaginary system, and the set of version 2.
func exampleDisk(dir string) (upgrade.Disk, *acmeos.Builder, *acmeos.Set, error) {
	k, err := keys()
	if err != nil {
		return nil, nil, nil, err
	}
	b := &acmeos.Builder{Keys: k, Parts: acmeos.StandIns(), Time: when}
	var sets []*acmeos.Set
	for _, version := range []string{"1", "2"} {
		root := dir + "/" + version + ".raw"
		if err := acmeos.WriteRoot(root, version, nil); err != nil {
			return nil, nil, nil, err
		}
		set, err := b.Build(context.Background(), dir, version, root)
		if err != nil {
			return nil, nil, nil, err
		}
		sets = append(sets, set)
	}
	image, err := b.Disk(sets[0], acmeos.DiskOptions{})
	if err != nil {
		return nil, nil, nil, err
	}
	disk := faultio.NewDisk(image.Size)
	err = partition.WriteImage(disk, image, partition.WriteOptions{TargetIsZero: true})
	return disk, b, sets[1], errors.Join(err, sets[0].Close())
}

// The whole of an upgrade: plan, look at the verdicts, apply, boot, commit.
func Example() {
	dir, err := os.MkdirTemp("", "upgrade")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	disk, builder, set, err := exampleDisk(dir)
	if err != nil {
		panic(err)
	}
	defer set.Close()
	machine, err := builder.Machine()
	if err != nil {
		panic(err)
	}

	ctx := context.Background()
	plan, err := upgrade.NewPlan(ctx, disk, set.Upgrade(), machine, upgrade.Options{})
	if err != nil {
		panic(err)
	}
	for _, j := range plan.Judgements {
		fmt.Printf("%-7s %s\n", j.Verdict, j.Outcome)
	}
	if err := plan.Apply(ctx, nil); err != nil {
		panic(err)
	}

	boot, err := (&upgradetest.Machine{Disk: disk, Machine: machine}).Boot(ctx)
	if err != nil {
		panic(err)
	}
	fmt.Println(boot)
	if err := upgrade.Commit(disk, plan.Entry); err != nil {
		panic(err)
	}
	state, err := upgrade.Inspect(disk, machine)
	if err != nil {
		panic(err)
	}
	fmt.Println("next:", state.Running.Path)
	// Output:
	// fits    pass
	// boots   pass
	// unlocks pass
	// returns pass
	// up: version 2 (EFI/Linux/acme_2+2-1.efi)
	// next: EFI/Linux/acme_2.efi
}

// A plan that does not pass writes nothing, unless the verdict is overridden by name.
func ExamplePlan_Apply_refused() {
	dir, err := os.MkdirTemp("", "upgrade")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	disk, builder, set, err := exampleDisk(dir)
	if err != nil {
		panic(err)
	}
	defer set.Close()
	machine, err := builder.Machine()
	if err != nil {
		panic(err)
	}
	machine.Loader.EntryDefault = "acme_1.efi" // somebody pressed "d" in the boot menu

	ctx := context.Background()
	plan, err := upgrade.NewPlan(ctx, disk, set.Upgrade(), machine, upgrade.Options{})
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
