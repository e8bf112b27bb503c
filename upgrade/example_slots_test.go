package upgrade_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader/slots"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/upgrade"
)

// A machine keeps its slots in attributes of the partitions, as Flatcar does: the new version is
// tried once, and committed when it is good.
func ExampleNewSlotPlan() {
	dir, err := os.MkdirTemp("", "slots")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	disk, err := acmeos.CreateImage(filepath.Join(dir, "disk.img"), 4<<20)
	if err != nil {
		log.Fatal(err)
	}
	defer disk.Close()
	usr := osmith.MustParseGUID("5dfbf5f4-2848-4bac-aa5e-0d9a20b745a6")
	table := &partition.Table{DiskID: osmith.GUID{9}, SectorSize: 512, Size: disk.Size(), Partitions: []partition.Partition{
		// priority 1, and was good
		{Number: 1, Name: "A", Type: usr, ID: osmith.GUID{1}, FirstLBA: 2048, LastLBA: 4095, Attributes: 1<<48 | 1<<56},
		{Number: 2, Name: "B", Type: usr, ID: osmith.GUID{2}, FirstLBA: 4096, LastLBA: 6143},
	}}
	if err := table.Write(disk); err != nil {
		log.Fatal(err)
	}

	// Other stores: VariableSlots for boot options of firmware, CopySlots for environment blocks.
	store := upgrade.GPTSlots{Disk: disk, Profile: slots.GPTFlatcar}
	layout := upgrade.SlotLayout{"1": {"usr": {1}}, "2": {"usr": {2}}}
	version2 := &upgrade.SlotSet{Version: "2", Images: []upgrade.SlotImage{{Name: "usr", Content: strings.NewReader("a file system")}}}
	plan, err := upgrade.NewSlotPlan(context.Background(), disk, store, layout, version2, upgrade.SlotPlanOptions{Running: "1", Tries: 1})
	if err != nil {
		log.Fatal(err)
	}
	if err := plan.Apply(context.Background(), nil); err != nil {
		log.Fatal(err)
	}
	for _, start := range plan.Chain.Starts[:2] { // if the new version fails
		fmt.Println("slot", start.Slot)
	}

	// The machine has started slot 2, and it is good.
	if err := upgrade.CommitSlot(store, "2"); err != nil {
		log.Fatal(err)
	}
	now, err := store.Slots()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("from now on slot", slots.Predict(now).Starts[0].Slot)
	// Output:
	// slot 2
	// slot 1
	// from now on slot 2
}
