package partition_test

import (
	"fmt"
	"log"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/partition"
)

// A disk with two slots is planned, looked at, written and read back.
func Example() {
	root, _ := partition.TypeByName("root-x86-64")
	verity, _ := partition.TypeByName("root-x86-64-verity")
	tree := partition.Spec{Type: verity, Name: "acme_1_verity", Size: 8 << 20}
	data := partition.Spec{Type: root, Name: "acme_1", Size: 64 << 20, Content: strings.NewReader("a file system")}
	free, freeTree := data, tree
	free.Name, free.Content, freeTree.Name = partition.EmptyName, nil, partition.EmptyName
	plan, err := partition.Plan(partition.Layout{
		Seed:       osmith.MustParseGUID("2f8d6a1e-0f3b-4c57-9a36-7c1d5e9b4a20"),
		Partitions: []partition.Spec{{Type: partition.ESP, Name: "esp", Size: 64 << 20}, data, tree, free, freeTree},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(plan)
	// Output:
	// GPT disk e816fafd-7d61-4d15-a140-6a3847a0c4e0, 210 MiB, 512-byte sectors
	// ┌───────────────────┬───────────────────┬─────────┬───────────────────┬────────┐
	// │         1         │         2         │    3    │········ 4 ········│·· 5 ···│
	// │        esp        │      acme_1       │acme_1_v…│····· _empty ······│ _empty │
	// │      64 MiB       │      64 MiB       │  8 MiB  │····· 64 MiB ······│ 8 MiB ·│
	// └───────────────────┴───────────────────┴─────────┴───────────────────┴────────┘
	//   1  esp            esp                 64 MiB at   1 MiB
	//   2  acme_1         root-x86-64         64 MiB at  65 MiB
	//   3  acme_1_verity  root-x86-64-verity   8 MiB at 129 MiB
	//   4  _empty         root-x86-64         64 MiB at 137 MiB  ○ free slot
	//   5  _empty         root-x86-64-verity   8 MiB at 201 MiB  ○ free slot
}
