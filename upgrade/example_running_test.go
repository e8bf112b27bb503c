package upgrade_test

import (
	"bytes"
	"context"
	"fmt"
	"log"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/upgrade"
)

// A systemd-boot that is not signed is planned, judged and refused: the firmware of this machine
// verifies what it starts.
func ExampleNewLoaderPlan() {
	ctx := context.Background()
	demo, err := acmeos.NewDemo(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer demo.Close()

	unsigned := demo.Builder.Parts.Loader // Builder.SignedLoader signs it
	plan, err := upgrade.NewLoaderPlan(ctx, demo.Disk, &bootloader.Installation{Loader: unsigned}, demo.Machine, upgrade.LoaderOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for _, c := range plan.Changes {
		fmt.Println(c.Kind, c.Path)
	}
	for _, v := range plan.Verdicts {
		fmt.Println(v.Proof, v.Outcome)
	}
	fmt.Println("refused:", plan.Apply(ctx, nil) != nil)
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
	demo, err := acmeos.NewDemo(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer demo.Close()
	table, err := partition.Read(demo.Disk, partition.ReadOptions{})
	if err != nil {
		log.Fatal(err)
	}
	esp, err := fat.Open(table.Window(demo.Disk, 0))
	if err != nil {
		log.Fatal(err)
	}
	if err := esp.WriteFile("EFI/Linux/acme_2.osmith-staged", bytes.NewReader(make([]byte, 5000))); err != nil {
		log.Fatal(err)
	}

	gone, err := upgrade.Collect(demo.Disk, demo.Machine)
	if err != nil {
		log.Fatal(err)
	}
	for _, g := range gone {
		fmt.Printf("%s, %d bytes: %s\n", g.Path, g.Size, g.Reason)
	}
	// Output: EFI/Linux/acme_2.osmith-staged, 5000 bytes: left by an interrupted upgrade
}

// A machine with two disks has an ESP on each. After an upgrade of the first disk, the second one
// gets what the first one boots.
func ExampleMirror() {
	ctx := context.Background()
	demo, err := acmeos.NewDemo(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer demo.Close()
	second, err := acmeos.NewDemo(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer second.Close()
	table, err := partition.Read(second.Disk, partition.ReadOptions{})
	if err != nil {
		log.Fatal(err)
	}
	table.Partitions[0].ID = osmith.MustParseGUID("5e9d1e52-0000-4000-8000-000000000002")
	if err := table.Write(second.Disk); err != nil {
		log.Fatal(err)
	}

	plan, err := upgrade.NewPlan(ctx, demo.Disk, demo.New.Release(), demo.Machine, upgrade.PlanOptions{})
	if err != nil {
		log.Fatal(err)
	}
	if err := plan.Apply(ctx, nil); err != nil {
		log.Fatal(err)
	}
	changes, err := upgrade.Mirror(ctx, demo.Disk, second.Disk, demo.Machine, upgrade.MirrorOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for _, c := range changes {
		fmt.Println(c)
	}
	// Output: add EFI/Linux/acme_2+3.efi
}

// A program changes a file of its own on the ESP.
func ExampleOpenBootVolume() {
	demo, err := acmeos.NewDemo(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer demo.Close()

	esp, err := upgrade.OpenBootVolume(demo.Disk, osmith.GUID{}, demo.Machine)
	if err != nil {
		log.Fatal(err)
	}
	defer esp.Close()
	if err := esp.MkdirAll("EFI/acme"); err != nil {
		log.Fatal(err)
	}
	if err := esp.WriteFile("EFI/acme/note.txt", bytes.NewReader([]byte("hello"))); err != nil {
		log.Fatal(err)
	}
	if err := esp.ReplaceFile("EFI/acme/note.txt", bytes.NewReader([]byte("hello again"))); err != nil {
		log.Fatal(err)
	}
	info, err := esp.Stat("EFI/acme/note.txt")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(info.Name(), info.Size())
	// Output: note.txt 11
}
