package upgrade_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/upgradetest"
)

// installOptions are those of a disk with an ESP, two slots and state.
func installOptions(demo *acmeos.Demo) upgrade.InstallOptions {
	loader, err := demo.Builder.SignedLoader()
	if err != nil {
		log.Fatal(err)
	}
	return upgrade.InstallOptions{
		Layout: partition.Layout{Partitions: []partition.Spec{
			{Type: partition.ESP, Name: "esp", Size: 12 << 20},
			{Type: partition.RootX8664, Name: partition.EmptyName, Size: 2 << 20},
			{Type: partition.RootX8664Verity, Name: partition.EmptyName, Size: 1 << 20},
			{Type: partition.RootX8664, Name: partition.EmptyName, Size: 2 << 20},
			{Type: partition.RootX8664Verity, Name: partition.EmptyName, Size: 1 << 20},
			{Type: partition.Var, Name: "state", MinSize: 1 << 20, Weight: 1000},
		}},
		// 16 random bytes, of this disk alone
		Seed:   osmith.MustParseGUID("c5b9d3e0-6c2f-4f0e-9c61-3c9ae5f1a0d7"),
		Loader: &bootloader.Installation{Loader: loader, Config: &bootloader.Config{Timeout: "0"}},
	}
}

// An empty disk is installed, and boots.
func ExamplePlanInstall() {
	ctx := context.Background()
	demo, err := acmeos.NewDemo(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer demo.Close()
	disk, err := demo.EmptyDisk(80 << 20)
	if err != nil {
		log.Fatal(err)
	}
	defer disk.Close()

	plan, err := upgrade.PlanInstall(ctx, disk, demo.New.Release(), demo.Machine, installOptions(demo))
	if err != nil {
		log.Fatal(err) // of a disk with something on it: ExampleInstallPlan_Apply
	}
	for _, j := range plan.Verdicts {
		fmt.Printf("%-7s %s\n", j.Proof, j.Outcome)
	}
	for _, s := range plan.Steps {
		fmt.Println(s.Kind)
	}
	if _, err := plan.Apply(ctx, nil); err != nil {
		log.Fatal(err)
	}
	boot, err := (&upgradetest.Machine{Disk: disk, Machine: demo.Machine}).Boot(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(boot)
	// Output:
	// fits    pass
	// boots   warn
	// unlocks pass
	// returns warn
	// follows pass
	// claim-disk
	// write-root
	// write-tree
	// verify-slot
	// write-esp
	// activate-disk
	// up: version 2 (EFI/Linux/acme_2.efi)
}

// A disk that has something on it is installed once a person has said that all of that may be lost.
func ExampleInstallPlan_Apply() {
	ctx := context.Background()
	demo, err := acmeos.NewDemo(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer demo.Close()
	options := installOptions(demo)
	options.Variables = &bootloader.MemoryVariables{} // of a real machine: bootloader.OpenEFIVarFS

	_, err = upgrade.PlanInstall(ctx, demo.Disk, demo.New.Release(), demo.Machine, options)
	var occupied *upgrade.OccupiedError
	if !errors.As(err, &occupied) {
		log.Fatal(err)
	}
	for _, f := range occupied.Contents.Found {
		fmt.Println(f.Name, "has", f.What)
	}
	// after a person has read that
	options.EraseForEverTheDiskWithThisDigest = occupied.Contents.Digest
	plan, err := upgrade.PlanInstall(ctx, demo.Disk, demo.New.Release(), demo.Machine, options)
	if err != nil {
		log.Fatal(err)
	}
	result, err := plan.Apply(ctx, nil)
	if err != nil {
		log.Fatal(err) // the same call, with the same seed, goes on
	}
	for _, c := range result.BootOption {
		fmt.Println(c.Change)
	}
	// Output:
	// esp has a FAT file system
	// acme_1 has an EROFS file system
	// acme_1_verity has a dm-verity hash tree
	// _empty has nothing
	// _empty has nothing
	// create Boot0000
	// create BootOrder
}

// What is on a disk, before anything is done to it.
func ExampleReadContents() {
	dir, err := os.MkdirTemp("", "contents")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	// of a real machine: osmith.OpenFile("/dev/sdb")
	disk, err := acmeos.CreateImage(filepath.Join(dir, "disk.img"), 16<<20)
	if err != nil {
		log.Fatal(err)
	}
	defer disk.Close()
	c, err := upgrade.ReadContents(disk)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(c.Empty())
	if _, err := disk.WriteAt([]byte("LUKS\xba\xbe"), 0); err != nil {
		log.Fatal(err)
	}
	if c, err = upgrade.ReadContents(disk); err != nil {
		log.Fatal(err)
	}
	fmt.Println(c.Empty(), c.Found[0])
	// Output:
	// true
	// false a LUKS volume at byte 0
}

// The state of a machine is taken away; what boots stays.
func ExampleFactoryReset() {
	ctx := context.Background()
	demo, err := acmeos.NewDemo(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer demo.Close()
	disk, err := demo.EmptyDisk(80 << 20)
	if err != nil {
		log.Fatal(err)
	}
	defer disk.Close()
	installed, err := upgrade.PlanInstall(ctx, disk, demo.Old.Release(), demo.Machine, installOptions(demo))
	if err != nil {
		log.Fatal(err)
	}
	if _, err := installed.Apply(ctx, nil); err != nil {
		log.Fatal(err)
	}

	reset, err := upgrade.FactoryReset(disk, demo.Machine, []upgrade.StatePartition{{Type: partition.Var, Name: "state"}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("reset:", reset[0].Name)
	_, err = upgrade.FactoryReset(disk, demo.Machine, []upgrade.StatePartition{{Type: partition.ESP, Name: "esp"}})
	fmt.Println(err)
	// Output:
	// reset: state
	// upgrade: factory reset: the partition "esp" of type esp cannot be reset, so nothing is reset: it is of the type esp, from which a system boots
}
