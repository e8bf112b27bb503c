package upgrade_test

import (
	"bytes"
	"context"
	"fmt"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/upgrade"
)

// exampleESP is the first partition of a disk.
func exampleESP(disk osmith.Disk) *fat.FS {
	table := must(partition.Read(disk, partition.ReadOptions{}))
	return must(fat.Open(table.Window(disk, 0)))
}

// A newer systemd-boot that nothing has signed is planned, judged and refused: the firmware of this
// machine verifies what it starts.
func ExampleNewLoaderPlan() {
	disk, machine, _, remove := exampleDisk()
	defer remove()

	unsigned := bytes.NewReader(petest.Loader("262.9"))
	plan, err := upgrade.NewLoaderPlan(context.Background(), disk, &bootloader.Installation{Loader: unsigned}, machine, upgrade.LoaderOptions{})
	if err != nil {
		panic(err)
	}
	for _, c := range plan.Changes {
		fmt.Println(c.Kind, c.Path)
	}
	for _, v := range plan.Verdicts {
		fmt.Println(v.Proof, v.Outcome)
	}
	fmt.Println("refused:", plan.Apply(context.Background(), nil) != nil)
	// Output:
	// create EFI/systemd/systemd-boot-fallbackx64.efi
	// replace EFI/systemd/systemd-bootx64.efi
	// replace EFI/BOOT/BOOTX64.EFI
	// fits pass
	// boots fail
	// unlocks warn
	// returns pass
	// refused: true
}

// An upgrade that was cut off has left half a UKI.
func ExampleCollect() {
	disk, machine, _, remove := exampleDisk()
	defer remove()
	check(exampleESP(disk).WriteFile("EFI/Linux/acme_2.osmith-staged", bytes.NewReader(make([]byte, 5000))))

	gone, err := upgrade.Collect(disk, machine)
	if err != nil {
		panic(err)
	}
	for _, g := range gone {
		fmt.Printf("%s, %d bytes: %s\n", g.Path, g.Size, g.Reason)
	}
	// Output: EFI/Linux/acme_2.osmith-staged, 5000 bytes: left by an interrupted upgrade
}

// A machine with two disks has an ESP on each.
func ExampleMirror() {
	first, machine, set, remove := exampleDisk()
	defer remove()
	second, _, _, removeToo := exampleDisk()
	defer removeToo()
	table := must(partition.Read(second, partition.ReadOptions{}))
	table.Partitions[0].ID = osmith.MustParseGUID("5e9d1e52-0000-4000-8000-000000000002")
	check(table.Write(second))

	plan := must(upgrade.NewPlan(context.Background(), first, set.Release(), machine, upgrade.PlanOptions{}))
	check(plan.Apply(context.Background(), nil))
	changes, err := upgrade.Mirror(context.Background(), first, second, machine, upgrade.MirrorOptions{})
	if err != nil {
		panic(err)
	}
	for _, c := range changes {
		fmt.Println(c)
	}
	// Output: add EFI/Linux/acme_2+3.efi
}

// A program changes a file of its own on the ESP.
func ExampleOpenBootVolume() {
	disk, machine, _, remove := exampleDisk()
	defer remove()

	esp, err := upgrade.OpenBootVolume(disk, osmith.GUID{}, machine)
	if err != nil {
		panic(err)
	}
	defer esp.Close()
	check(esp.MkdirAll("EFI/acme"))
	check(esp.WriteFile("EFI/acme/note.txt", bytes.NewReader([]byte("hello"))))
	check(esp.ReplaceFile("EFI/acme/note.txt", bytes.NewReader([]byte("hello again"))))
	info := must(esp.Stat("EFI/acme/note.txt"))
	fmt.Println(info.Name(), info.Size())
	// Output: note.txt 11
}
