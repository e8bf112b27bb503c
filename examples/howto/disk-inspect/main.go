// disk-inspect draws the partitions of a disk image and says what is wrong with its table: sgdisk
// --print and --verify. Nothing is mounted, and a block device will do as well as a file.
//
//	disk-inspect DISK
package main

import (
	"fmt"
	"log"
	"os"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/partition"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: disk-inspect DISK")
		os.Exit(2)
	}
	if err := inspect(os.Args[1]); err != nil {
		log.Fatal("disk-inspect: ", err)
	}
}

func inspect(name string) error {
	disk, err := osmith.OpenFile(name)
	if err != nil {
		return err
	}
	defer disk.Close()
	table, err := partition.Read(disk, partition.ReadOptions{})
	if err != nil {
		return err
	}
	fmt.Print(partition.Diagram(table, disk.Size(), 0))
	for i, p := range table.Partitions {
		off, size := table.Extent(i)
		fmt.Printf("%d: PARTUUID=%s, %d bytes at %d\n", p.Number, p.ID, size, off)
	}
	for _, finding := range table.Findings() {
		fmt.Println(finding)
	}
	return nil
}
