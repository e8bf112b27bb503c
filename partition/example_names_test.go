package partition_test

import (
	"fmt"

	"github.com/osmith-dev/osmith/partition"
)

// The label of a file system is often the name of its partition, and has to be known before there
// is a disk.
func ExampleLayout_Names() {
	layout := partition.Layout{Partitions: []partition.Spec{
		{Type: partition.ESP, Name: "boot"},
		{Type: partition.Var, DefaultName: true},
		{Type: partition.Var, DefaultName: true},
	}}
	fmt.Println(layout.Names())
	// Output:
	// [boot var var-2]
}
