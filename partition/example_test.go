package partition_test

import (
	"bytes"
	"fmt"
	"log"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/partition"
)

func id(s string) osmith.GUID {
	g, err := osmith.ParseGUID(s)
	if err != nil {
		log.Fatal(err)
	}
	return g
}

func layout() partition.Layout {
	rootHash := bytes.Repeat([]byte{0x4a, 0x1b, 0x2c, 0x3d}, 4)
	rootHash = append(rootHash, bytes.Repeat([]byte{0x5e, 0x6f}, 8)...)
	data, tree, err := partition.VerityIDs(rootHash)
	if err != nil {
		log.Fatal(err)
	}
	return partition.Layout{
		DiskID: id("9c6ea2a5-3d3c-4c3a-9a55-0d1f8f3a6b01"),
		Partitions: []partition.Spec{
			{Type: partition.ESP, ID: id("9c6ea2a5-3d3c-4c3a-9a55-0d1f8f3a6b02"), Name: "esp", Size: 256 << 20},
			{Type: partition.RootX8664, ID: data, Name: "root_1.0", Size: 512 << 20, Content: strings.NewReader("a file system"), Attributes: partition.AttrReadOnly},
			{Type: partition.RootX8664Verity, ID: tree, Name: "root_1.0", Size: 32 << 20, Content: strings.NewReader("its hash tree"), Attributes: partition.AttrReadOnly},
			{Type: partition.RootX8664, ID: id("9c6ea2a5-3d3c-4c3a-9a55-0d1f8f3a6b03"), Name: partition.EmptyName, Size: 512 << 20},
			{Type: partition.RootX8664Verity, ID: id("9c6ea2a5-3d3c-4c3a-9a55-0d1f8f3a6b04"), Name: partition.EmptyName, Size: 32 << 20},
		},
	}
}

func ExamplePlan() {
	im, err := partition.Plan(layout())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(im)

	small := layout()
	small.Size = 1 << 30
	_, err = partition.Plan(small)
	fmt.Println(err)
	// Output:
	// GPT disk 9c6ea2a5-3d3c-4c3a-9a55-0d1f8f3a6b01, 1.3 GiB, 512-byte sectors
	// ┌──────────────┬──────────────────────┬────────┬──────────────────────┬────────┐
	// │      1       │          2           │   3    │········· 4 ··········│·· 5 ···│
	// │     esp      │       root_1.0       │root_1.0│······· _empty ·······│ _empty │
	// │   256 MiB    │       512 MiB        │ 32 MiB │······ 512 MiB ·······│ 32 MiB │
	// └──────────────┴──────────────────────┴────────┴──────────────────────┴────────┘
	//   1  esp       esp                 256 MiB at   1 MiB
	//   2  root_1.0  root-x86-64         512 MiB at 257 MiB  read-only
	//   3  root_1.0  root-x86-64-verity   32 MiB at 769 MiB  read-only
	//   4  _empty    root-x86-64         512 MiB at 801 MiB  ○ free slot
	//   5  _empty    root-x86-64-verity   32 MiB at 1.3 GiB  ○ free slot
	// partition: "_empty" does not fit: needs 1410351616 bytes, has 1073741824: 336609792 bytes are missing
}

func ExampleWriteImage() {
	im, err := partition.Plan(layout())
	if err != nil {
		log.Fatal(err)
	}
	disk := faultio.NewDisk(im.Size) // an *os.File just as well
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

// A slot gets a new version: nothing finds it while it is being written, and its name, type and ID
// appear in one step.
func ExampleTable_Write() {
	im, err := partition.Plan(layout())
	if err != nil {
		log.Fatal(err)
	}
	disk := faultio.NewDisk(im.Size)
	if err := partition.WriteImage(disk, im, partition.WriteOptions{TargetIsZero: true}); err != nil {
		log.Fatal(err)
	}
	table, err := partition.Read(disk, partition.ReadOptions{})
	if err != nil {
		log.Fatal(err)
	}
	slot := &table.Partitions[3]
	slot.Type = partition.PartialType(partition.RootX8664)
	if err := table.Write(disk); err != nil {
		log.Fatal(err)
	}
	if _, err := table.Window(disk, 3).WriteAt([]byte("new file system"), 0); err != nil {
		log.Fatal(err)
	}
	slot.Type, slot.Name = partition.RootX8664, "root_1.1"
	if err := table.Write(disk); err != nil {
		log.Fatal(err)
	}
	table, err = partition.Read(disk, partition.ReadOptions{})
	fmt.Println(table.Partitions[3].Name, err)
	// Output: root_1.1 <nil>
}
