package upgrade_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/upgradetest"
)

// exampleLayout is an ESP, two slots and state.
func exampleLayout() partition.Layout {
	return partition.Layout{Partitions: []partition.Spec{
		{Type: partition.ESP, Name: "esp", Size: 12 << 20},
		{Type: partition.RootX8664, Name: partition.EmptyName, Size: 2 << 20},
		{Type: partition.RootX8664Verity, Name: partition.EmptyName, Size: 1 << 20},
		{Type: partition.RootX8664, Name: partition.EmptyName, Size: 2 << 20},
		{Type: partition.RootX8664Verity, Name: partition.EmptyName, Size: 1 << 20},
		{Type: partition.Var, Name: "state", MinSize: 1 << 20, Weight: 1000},
	}}
}

func exampleLoader() osmith.Source {
	b := &acmeos.Builder{Keys: must(keys()), Parts: acmeos.StandIns(), Seed: osmith.GUID{1}, Time: when}
	return must(b.SignedLoader())
}

// An empty disk is installed, and boots.
func ExamplePlanInstall() {
	_, machine, set, remove := exampleDisk()
	defer remove()
	disk := faultio.NewDisk(80 << 20)

	plan, err := upgrade.PlanInstall(context.Background(), disk, set.Release(), machine, upgrade.InstallOptions{
		Layout: exampleLayout(),
		// 16 random bytes, of this disk alone
		Seed:   osmith.MustParseGUID("c5b9d3e0-6c2f-4f0e-9c61-3c9ae5f1a0d7"),
		Loader: &bootloader.Installation{Loader: exampleLoader(), Config: &bootloader.Config{Timeout: "0"}},
	})
	if err != nil {
		// *upgrade.OccupiedError: what is on the disk, and the digest by which it may be lost
		panic(err)
	}
	for _, j := range plan.Verdicts {
		fmt.Printf("%-7s %s\n", j.Proof, j.Outcome)
	}
	for _, s := range plan.Steps {
		fmt.Println(s.Kind)
	}
	if _, err := plan.Apply(context.Background(), nil); err != nil {
		panic(err)
	}
	boot, err := (&upgradetest.Machine{Disk: disk, Machine: machine}).Boot(context.Background())
	if err != nil {
		panic(err)
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
	disk, machine, set, remove := exampleDisk()
	defer remove()

	options := upgrade.InstallOptions{
		Layout: exampleLayout(), Seed: osmith.GUID{1}, Loader: &bootloader.Installation{Loader: exampleLoader()},
		Variables: &bootloader.MemoryVariables{}, // of a real machine: bootloader.OpenEFIVarFS
	}
	_, err := upgrade.PlanInstall(context.Background(), disk, set.Release(), machine, options)
	var occupied *upgrade.OccupiedError
	if !errors.As(err, &occupied) {
		panic(err)
	}
	for _, f := range occupied.Contents.Found {
		fmt.Println(f.Name, "has", f.What)
	}
	// after a person has read that
	options.EraseForEverTheDiskWithThisDigest = occupied.Contents.Digest
	plan, err := upgrade.PlanInstall(context.Background(), disk, set.Release(), machine, options)
	if err != nil {
		panic(err)
	}
	result, err := plan.Apply(context.Background(), nil)
	if err != nil {
		panic(err) // the same call, with the same seed, goes on
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
	disk := faultio.NewDisk(16 << 20)
	c, err := upgrade.ReadContents(disk)
	if err != nil {
		panic(err)
	}
	fmt.Println(c.Empty())
	if _, err := disk.WriteAt([]byte("LUKS\xba\xbe"), 0); err != nil {
		panic(err)
	}
	if c, err = upgrade.ReadContents(disk); err != nil {
		panic(err)
	}
	fmt.Println(c.Empty(), c.Found[0])
	// Output:
	// true
	// false a LUKS volume at byte 0
}

// The state of a machine is taken away; what boots stays.
func ExampleFactoryReset() {
	_, machine, set, remove := exampleDisk()
	defer remove()
	disk := faultio.NewDisk(80 << 20)
	plan := must(upgrade.PlanInstall(context.Background(), disk, set.Release(), machine, upgrade.InstallOptions{
		Layout: exampleLayout(), Seed: osmith.GUID{2}, Loader: &bootloader.Installation{Loader: exampleLoader()},
	}))
	must(plan.Apply(context.Background(), nil))

	reset, err := upgrade.FactoryReset(disk, machine, []upgrade.StatePartition{{Type: partition.Var, Name: "state"}})
	if err != nil {
		panic(err)
	}
	fmt.Println("reset:", reset[0].Name)
	_, err = upgrade.FactoryReset(disk, machine, []upgrade.StatePartition{{Type: partition.ESP, Name: "esp"}})
	fmt.Println(err)
	// Output:
	// reset: state
	// upgrade: factory reset: the partition "esp" of type esp cannot be reset, so nothing is reset: it is of the type esp, from which a system boots
}

// One boot asks for a factory reset, and the next one does it.
func ExampleReadResetRequest() {
	osRelease, err := uki.ParseOSRelease([]byte("ID=acme\nVERSION_ID=7\n"))
	if err != nil {
		panic(err)
	}
	// /proc/sys/kernel/random/boot_id
	asking := osmith.MustParseGUID("6f1c0f1e-5a0c-4d0e-9f5e-111111111111")
	next := osmith.MustParseGUID("6f1c0f1e-5a0c-4d0e-9f5e-222222222222")
	store := &bootloader.MemoryVariables{} // of a real machine: bootloader.OpenEFIVarFS
	if err := (&upgrade.ResetRequest{OS: "acme", OSVersion: "7", Boot: asking}).Ask(store); err != nil {
		panic(err)
	}
	r, err := upgrade.ReadResetRequest(store)
	if err != nil {
		panic(err)
	}
	fmt.Println("in this boot:", r.Mode(osRelease, asking))
	fmt.Println("in the next:", r.Mode(osRelease, next))
	// Output:
	// in this boot: pending
	// in the next: on
}

// A request is taken away once the reset is done, or to cancel it.
func ExampleCompleteReset() {
	store := &bootloader.MemoryVariables{}
	check((&upgrade.ResetRequest{OS: "acme", Boot: osmith.GUID{1}}).Ask(store))
	if err := upgrade.CompleteReset(store); err != nil {
		panic(err)
	}
	_, err := upgrade.ReadResetRequest(store)
	fmt.Println(errors.Is(err, fs.ErrNotExist))
	// Output: true
}
