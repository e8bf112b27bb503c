package partition_test

import (
	"encoding/hex"
	"fmt"
	"testing/fstest"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/partition"
)

// The two partitions of a root file system find each other by the halves of its root hash.
func ExampleVerityIDs() {
	root, err := hex.DecodeString("855dbba5d611145e870a35fad02e6c229e173c0559c67bc1d3050cac845aca0f")
	if err != nil {
		panic(err)
	}
	data, tree, err := partition.VerityIDs(root)
	if err != nil {
		panic(err)
	}
	fmt.Println(data)
	fmt.Println(tree)
	// Output:
	// 855dbba5-d611-145e-870a-35fad02e6c22
	// 9e173c05-59c6-7bc1-d305-0cac845aca0f
}

// A table whose primary copy is gone is read from its backup.
func ExampleRead() {
	image, err := partition.Plan(partition.Layout{DiskID: osmith.GUID{2}, Size: 8 << 20, Partitions: []partition.Spec{
		{Type: partition.ESP, ID: osmith.GUID{1}, Name: "esp", Size: 4 << 20},
	}})
	if err != nil {
		panic(err)
	}
	disk := faultio.NewDisk(image.Size)
	if err := partition.WriteImage(disk, image, partition.WriteOptions{TargetIsZero: true}); err != nil {
		panic(err)
	}
	if _, err := disk.WriteAt(make([]byte, 512), 512); err != nil {
		panic(err)
	}
	table, err := partition.Read(disk, partition.ReadOptions{})
	if err != nil {
		panic(err)
	}
	fmt.Println(table.UsedBackup, table.Partitions[0].Name, partition.TypeName(table.Partitions[0].Type))
	// Output: true esp esp
}

func ExampleReadRepart() {
	repart, err := partition.ReadRepart(fstest.MapFS{
		"10-esp.conf":  {Data: []byte("[Partition]\nType=esp\nSizeMinBytes=64M\nSizeMaxBytes=64M\n")},
		"20-root.conf": {Data: []byte("[Partition]\nType=root-x86-64\nSizeMinBytes=1G\n")},
	}, partition.RepartOptions{})
	if err != nil {
		panic(err)
	}
	for _, p := range repart.Layout.Partitions {
		fmt.Println(partition.TypeName(p.Type), partition.Bytes(p.MinSize))
	}
	// Output:
	// esp 64 MiB
	// root-x86-64 1 GiB
}

// What MatchPartitionType=root of a definition means on a machine.
func ExampleLocalTypeByName() {
	for _, architecture := range []string{"x86-64", "arm64"} {
		id, err := partition.LocalTypeByName("root", architecture)
		if err != nil {
			panic(err)
		}
		fmt.Println(partition.TypeName(id))
	}
	// Output:
	// root-x86-64
	// root-arm64
}
