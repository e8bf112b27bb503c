package partition_test

import (
	"fmt"

	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/partition"
)

// used is a disk with one partition, which was read.
func used() (*faultio.Disk, *partition.Table, error) {
	disk := faultio.NewDisk(64 << 20)
	table := &partition.Table{DiskID: id("5a3b1c44-0f0e-4d6e-9d39-000000000001"), SectorSize: 512, Size: disk.Size(), Partitions: []partition.Partition{
		{Type: partition.Var, ID: id("5a3b1c44-0f0e-4d6e-9d39-000000000002"), Name: "var", FirstLBA: 2048, LastLBA: 65535},
	}}
	if err := table.Write(disk); err != nil {
		return nil, nil, err
	}
	table, err := partition.Read(disk, partition.ReadOptions{})
	return disk, table, err
}

// What a change of a name will be on the disk, before anything is written.
func ExampleTable_PlanWrite() {
	disk, table, err := used()
	if err != nil {
		panic(err)
	}
	table.Partitions[0].Name = "state"
	plan, err := table.PlanWrite()
	if err != nil {
		panic(err)
	}
	fmt.Println(plan.Writes(), plan.InPlace)
	// Header and Entries of tpm.PartitionTable: what firmware measures afterwards, and what it
	// would if it ever restored the table.
	fmt.Println(len(plan.Primary.Header), len(plan.Primary.Entries), string(plan.Primary.Header) == string(plan.Restored.Header))
	if err := table.Write(disk); err != nil {
		panic(err)
	}
	fmt.Println("usable from sector", table.FirstUsableLBA)
	// Output:
	// true <nil>
	// 92 16384 false
	// usable from sector 104
}

// A disk whose protective record says "ESP".
func ExampleTable_Findings() {
	disk, _, err := used()
	if err != nil {
		panic(err)
	}
	if _, err := disk.WriteAt([]byte{0xef}, 446+4); err != nil {
		panic(err)
	}
	table, err := partition.Read(disk, partition.ReadOptions{})
	if err != nil {
		panic(err)
	}
	for _, f := range table.Findings() {
		fmt.Println(f)
	}
	// Output:
	// the protective record is of type EF, that of an ESP, instead of EE: firmware and kernels take the disk for one large ESP (mbr-wins)
}
