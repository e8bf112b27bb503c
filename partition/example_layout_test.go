package partition_test

import (
	"encoding/hex"
	"fmt"
	"log"
	"strings"
	"testing/fstest"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/layouts"
)

// A disk for two slots, of which the second one is free, and one on which they do not fit.
func ExamplePlan() {
	rootHash, err := hex.DecodeString("4a1b2c3d4a1b2c3d4a1b2c3d4a1b2c3d5e6f5e6f5e6f5e6f5e6f5e6f5e6f5e6f")
	if err != nil {
		log.Fatal(err)
	}
	data, tree, err := partition.VerityIDs(rootHash)
	if err != nil {
		log.Fatal(err)
	}
	layout := partition.Layout{
		// the IDs that are not given are derived from it
		Seed: osmith.MustParseGUID("9c6ea2a5-3d3c-4c3a-9a55-0d1f8f3a6b01"),
		Partitions: []partition.Spec{
			{Type: partition.ESP, Name: "esp", Size: 256 << 20},
			{Type: partition.RootX8664, ID: data, Name: "root_1.0", Size: 512 << 20, Content: strings.NewReader("a file system"), Attributes: partition.AttrReadOnly},
			{Type: partition.RootX8664Verity, ID: tree, Name: "root_1.0", Size: 32 << 20, Content: strings.NewReader("its hash tree"), Attributes: partition.AttrReadOnly},
			{Type: partition.RootX8664, Name: partition.EmptyName, Size: 512 << 20},
			{Type: partition.RootX8664Verity, Name: partition.EmptyName, Size: 32 << 20},
		},
	}
	im, err := partition.Plan(layout)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(im)

	layout.Size = 1 << 30
	_, err = partition.Plan(layout)
	fmt.Println(err)
	// Output:
	// GPT disk 11b64177-c39c-4074-a213-8fe312f83a28, 1.3 GiB, 512-byte sectors
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

// A disk of 64 GiB laid out as that of IncusOS, and what it takes to give its data partition the
// space of a larger disk.
func ExamplePlanOnto() {
	l := layouts.IncusOS()
	l.Seed = osmith.GUID{1, 2, 3}
	l.Size = 64 << 30
	im, err := partition.Plan(l)
	if err != nil {
		log.Fatal(err)
	}
	table := im.Table // or partition.Read of the disk
	if err := table.Resize(128 << 30); err != nil {
		log.Fatal(err)
	}
	next, err := partition.PlanOnto(table, l)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(next.Operations())
	// Output:
	//     1  esp          esp                    2 GiB at 1 MiB
	//     2  seed-data    linux-generic          100 MiB at 2.0 GiB
	//     3  _empty       usr-x86-64-verity-sig  16 KiB at 2.1 GiB
	//     4  _empty       usr-x86-64-verity      100 MiB at 2.1 GiB
	//     5  _empty       usr-x86-64             1 GiB at 2.2 GiB
	//     6  _empty       usr-x86-64-verity-sig  16 KiB at 3.2 GiB
	//     7  _empty       usr-x86-64-verity      100 MiB at 3.2 GiB
	//     8  _empty       usr-x86-64             1 GiB at 3.3 GiB
	//     9  swap         swap                   4 GiB at 4.3 GiB
	//    10  root-x86-64  root-x86-64            25 GiB at 8.3 GiB
	// ~  11  local-data   linux-generic          94.7 GiB at 33.3 GiB, was 30.7 GiB
}

func ExampleReadLayout() {
	l, err := partition.ReadLayout(strings.NewReader(`{"schema": "osmith.layout/1", "seed": "11111111-2222-3333-4444-555555555555",
	 "size": 1073741824, "partitions": [
	  {"type": "esp", "name": "esp", "size": 268435456},
	  {"type": "root-x86-64", "name": "_empty", "size": 268435456, "flags": ["read-only"]},
	  {"type": "var", "name": "var", "minSize": 67108864, "weight": 1000, "flags": ["grow-file-system"]}]}`))
	if err != nil {
		log.Fatal(err)
	}
	im, err := partition.Plan(l)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(im.Operations())
	// Output:
	// +   1  esp     esp          256 MiB at 1 MiB
	// +   2  _empty  root-x86-64  256 MiB at 257 MiB
	// +   3  var     var          510 MiB at 513 MiB
}

func ExampleReadRepart() {
	repart, err := partition.ReadRepart(fstest.MapFS{
		"10-esp.conf":  {Data: []byte("[Partition]\nType=esp\nSizeMinBytes=64M\nSizeMaxBytes=64M\n")},
		"20-root.conf": {Data: []byte("[Partition]\nType=root-x86-64\nSizeMinBytes=1G\n")},
	}, partition.RepartOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for _, p := range repart.Layout.Partitions {
		fmt.Println(partition.TypeName(p.Type), partition.Bytes(p.MinSize))
	}
	// Output:
	// esp 64 MiB
	// root-x86-64 1 GiB
}

func ExampleFindSlots() {
	l := layouts.GNOMEOS()
	l.Seed = osmith.GUID{1, 2, 3}
	im, err := partition.Plan(l)
	if err != nil {
		log.Fatal(err)
	}
	slots, err := partition.FindSlots(im.Table, partition.SlotOptions{Match: "gnomeos_@v"})
	if err != nil {
		log.Fatal(err)
	}
	target, err := slots.Target(partition.TargetOptions{DataSize: 3 << 30, TreeSize: 25 << 20})
	if err != nil {
		log.Fatal(err)
	}
	hash := []byte("a root hash of dm-verity, 256 bit")[:32]
	if err := slots.Install(target.Slot, partition.Labels{Data: "gnomeos_48"}, hash); err != nil {
		log.Fatal(err)
	}
	for _, s := range slots.Slots {
		fmt.Println(s.Name(), s.State, s.Label, s.Version, slots.Running(hash) == s)
	}
	// Output:
	// A installed gnomeos_48 48 true
	// B empty _empty  false
}

// The two partitions of a root file system find each other by the halves of its root hash.
func ExampleVerityIDs() {
	root, err := hex.DecodeString("855dbba5d611145e870a35fad02e6c229e173c0559c67bc1d3050cac845aca0f")
	if err != nil {
		log.Fatal(err)
	}
	data, tree, err := partition.VerityIDs(root)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(data)
	fmt.Println(tree)
	// Output:
	// 855dbba5-d611-145e-870a-35fad02e6c22
	// 9e173c05-59c6-7bc1-d305-0cac845aca0f
}

// What MatchPartitionType=root of a definition means on a machine.
func ExampleLocalTypeByName() {
	for _, architecture := range []string{"x86-64", "arm64"} {
		id, err := partition.LocalTypeByName("root", architecture)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(partition.TypeName(id))
	}
	// Output:
	// root-x86-64
	// root-arm64
}
