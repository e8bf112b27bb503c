package partition_test

import (
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/partition"
)

// newDisk is a disk of zeros: a sparse file. Of a real one, pass the os.File of its device.
func newDisk(size int64) (disk *osmith.Device, remove func()) {
	file, err := os.CreateTemp("", "disk")
	if err != nil {
		log.Fatal(err)
	}
	if err := file.Truncate(size); err != nil {
		log.Fatal(err)
	}
	if disk, err = osmith.NewDevice(file); err != nil {
		log.Fatal(err)
	}
	return disk, func() {
		disk.Close()
		os.Remove(file.Name())
	}
}

// newTable is a table with one partition.
func newTable(size int64) *partition.Table {
	return &partition.Table{
		DiskID: osmith.MustParseGUID("5a3b1c44-0f0e-4d6e-9d39-000000000001"), SectorSize: 512, Size: size,
		Partitions: []partition.Partition{
			{Type: partition.Var, ID: osmith.MustParseGUID("5a3b1c44-0f0e-4d6e-9d39-000000000002"), Name: "var", FirstLBA: 2048, LastLBA: 65535},
		},
	}
}

// newImage is the plan of a disk with a slot that is in use and one that is free.
func newImage() *partition.Image {
	im, err := partition.Plan(partition.Layout{
		Seed: osmith.MustParseGUID("9c6ea2a5-3d3c-4c3a-9a55-0d1f8f3a6b01"),
		Partitions: []partition.Spec{
			{Type: partition.ESP, Name: "esp", Size: 8 << 20},
			{Type: partition.RootX8664, Name: "root_1.0", Size: 16 << 20, Content: strings.NewReader("a file system")},
			{Type: partition.RootX8664, Name: partition.EmptyName, Size: 16 << 20},
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	return im
}

func ExampleWriteImage() {
	im := newImage()
	disk, remove := newDisk(im.Size)
	defer remove()
	if err := partition.WriteImage(disk, im, partition.WriteOptions{TargetIsZero: true}); err != nil {
		log.Fatal(err)
	}
	table, err := partition.Read(disk, partition.ReadOptions{})
	if err != nil {
		log.Fatal(err)
	}
	b := make([]byte, 13)
	if _, err := table.Section(disk, 1).ReadAt(b, 0); err != nil {
		log.Fatal(err)
	}
	fmt.Println(partition.TypeName(table.Partitions[1].Type), string(b))
	// Output: root-x86-64 a file system
}

// A table whose primary copy is gone is read from its backup.
func ExampleRead() {
	image := newImage()
	disk, remove := newDisk(image.Size)
	defer remove()
	if err := partition.WriteImage(disk, image, partition.WriteOptions{TargetIsZero: true}); err != nil {
		log.Fatal(err)
	}
	if _, err := disk.WriteAt(make([]byte, 512), 512); err != nil {
		log.Fatal(err)
	}
	table, err := partition.Read(disk, partition.ReadOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(table.UsedBackup, table.Partitions[0].Name, partition.TypeName(table.Partitions[0].Type))
	// Output: true esp esp
}

// A slot gets a new version: nothing finds it while it is being written, and its name, type and ID
// appear in one step.
func ExampleTable_Write() {
	im := newImage()
	disk, remove := newDisk(im.Size)
	defer remove()
	if err := partition.WriteImage(disk, im, partition.WriteOptions{TargetIsZero: true}); err != nil {
		log.Fatal(err)
	}
	table, err := partition.Read(disk, partition.ReadOptions{})
	if err != nil {
		log.Fatal(err)
	}
	slot := &table.Partitions[2]
	slot.Type = partition.PartialType(partition.RootX8664)
	if err := table.Write(disk); err != nil {
		log.Fatal(err)
	}
	if _, err := table.Window(disk, 2).WriteAt([]byte("new file system"), 0); err != nil {
		log.Fatal(err)
	}
	slot.Type, slot.Name = partition.RootX8664, "root_1.1"
	if err := table.Write(disk); err != nil {
		log.Fatal(err)
	}
	table, err = partition.Read(disk, partition.ReadOptions{})
	fmt.Println(table.Partitions[2].Name, err)
	// Output: root_1.1 <nil>
}

// What a change of a name will be on the disk, before anything is written.
func ExampleTable_PlanWrite() {
	disk, remove := newDisk(64 << 20)
	defer remove()
	if err := newTable(disk.Size()).Write(disk); err != nil {
		log.Fatal(err)
	}
	table, err := partition.Read(disk, partition.ReadOptions{})
	if err != nil {
		log.Fatal(err)
	}
	table.Partitions[0].Name = "state"
	plan, err := table.PlanWrite()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(plan.Writes(), plan.InPlace)
	// Header and Entries of tpm.PartitionTable: what firmware measures afterwards, and what it
	// would if it ever restored the table.
	fmt.Println(len(plan.Primary.Header), len(plan.Primary.Entries), string(plan.Primary.Header) == string(plan.Restored.Header))
	if err := table.Write(disk); err != nil {
		log.Fatal(err)
	}
	fmt.Println("usable from sector", table.FirstUsableLBA)
	// Output:
	// true <nil>
	// 92 16384 false
	// usable from sector 104
}

// A disk whose protective record says "ESP".
func ExampleTable_Findings() {
	disk, remove := newDisk(64 << 20)
	defer remove()
	if err := newTable(disk.Size()).Write(disk); err != nil {
		log.Fatal(err)
	}
	if _, err := disk.WriteAt([]byte{0xef}, 446+4); err != nil {
		log.Fatal(err)
	}
	table, err := partition.Read(disk, partition.ReadOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range table.Findings() {
		fmt.Println(f)
	}
	// Output:
	// the protective record is of type EF, that of an ESP, instead of EE: firmware and kernels take the disk for one large ESP (mbr-wins)
}

// An image was written to a larger disk: the backup table is brought to the end of it, and the last
// partition may grow.
func ExampleRepair() {
	disk, remove := newDisk(256 << 20)
	defer remove()
	if err := newTable(64 << 20).Write(disk); err != nil { // of the image
		log.Fatal(err)
	}

	done, err := partition.Repair(disk, partition.RepairOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(done)
	table, err := partition.Read(disk, partition.ReadOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("usable up to sector", table.LastUsableLBA)
	// Output:
	// backup table moved from sector 131071 to 524287, the end of the disk
	// protective MBR written
	// usable up to sector 524254
}
