package partition_test

import (
	"fmt"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/layouts"
)

// A disk of 64 GiB laid out as that of IncusOS, and what it takes to give its data partition the
// space of a larger disk.
func ExamplePlanOnto() {
	l := layouts.IncusOS()
	l.Seed = osmith.GUID{1, 2, 3}
	l.Size = 64 << 30
	im, err := partition.Plan(l)
	if err != nil {
		fmt.Println(err)
		return
	}
	table := im.Table // or partition.Read of the disk
	if err := table.Resize(128 << 30); err != nil {
		fmt.Println(err)
		return
	}
	next, err := partition.PlanOnto(table, l)
	if err != nil {
		fmt.Println(err)
		return
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
		fmt.Println(err)
		return
	}
	im, err := partition.Plan(l)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(im.Operations())
	// Output:
	// +   1  esp     esp          256 MiB at 1 MiB
	// +   2  _empty  root-x86-64  256 MiB at 257 MiB
	// +   3  var     var          510 MiB at 513 MiB
}

func ExampleFindSlots() {
	l := layouts.GNOMEOS()
	l.Seed = osmith.GUID{1, 2, 3}
	im, err := partition.Plan(l)
	if err != nil {
		fmt.Println(err)
		return
	}
	slots, err := partition.FindSlots(im.Table, partition.SlotOptions{Match: "gnomeos_@v"})
	if err != nil {
		fmt.Println(err)
		return
	}
	target, err := slots.Target(partition.TargetOptions{DataSize: 3 << 30, TreeSize: 25 << 20})
	if err != nil {
		fmt.Println(err)
		return
	}
	hash := []byte("a root hash of dm-verity, 256 bit")[:32]
	if err := slots.Install(target.Slot, partition.Labels{Data: "gnomeos_48"}, hash); err != nil {
		fmt.Println(err)
		return
	}
	for _, s := range slots.Slots {
		fmt.Println(s.Name(), s.State, s.Label, s.Version, slots.Running(hash) == s)
	}
	// Output:
	// A installed gnomeos_48 48 true
	// B empty _empty  false
}
