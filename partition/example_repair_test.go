package partition_test

import (
	"fmt"

	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/partition"
)

// An image was written to a larger disk: the backup table is brought to the end of it, and the last
// partition may grow.
func ExampleRepair() {
	image := faultio.NewDisk(64 << 20)
	table := &partition.Table{DiskID: id("5a3b1c44-0f0e-4d6e-9d39-000000000001"), SectorSize: 512, Size: image.Size(), Partitions: []partition.Partition{
		{Type: partition.Var, ID: id("5a3b1c44-0f0e-4d6e-9d39-000000000002"), Name: "var", FirstLBA: 2048, LastLBA: 65535},
	}}
	if err := table.Write(image); err != nil {
		fmt.Println(err)
		return
	}
	disk := faultio.NewDisk(256 << 20)
	b := make([]byte, image.Size())
	image.ReadAt(b, 0)
	disk.WriteAt(b, 0)

	done, err := partition.Repair(disk, partition.RepairOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(done)
	table, err = partition.Read(disk, partition.ReadOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("usable up to sector", table.LastUsableLBA)
	// Output:
	// backup table moved from sector 131071 to 524287, the end of the disk
	// protective MBR written
	// usable up to sector 524254
}
