// esp-files lists the files on the EFI system partition of a disk, or prints one of them, in place
// of mdir and mtype. The volume is an fs.FS, so that everything in Go that reads files works on it.
//
//	esp-files DISK
//	esp-files DISK loader/loader.conf
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 && len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: esp-files DISK [FILE]")
		os.Exit(2)
	}
	if err := show(os.Args[1], os.Args[2:]); err != nil {
		log.Fatal("esp-files: ", err)
	}
}

func show(name string, files []string) error {
	disk, err := osmith.OpenFile(name)
	if err != nil {
		return err
	}
	defer disk.Close()
	table, err := partition.Read(disk, partition.ReadOptions{})
	if err != nil {
		return err
	}
	for i, p := range table.Partitions {
		if p.Type != partition.ESP {
			continue
		}
		esp, err := fat.OpenReader(table.Section(disk, i))
		if err != nil {
			return err
		}
		if len(files) == 1 {
			content, err := esp.ReadFile(files[0])
			os.Stdout.Write(content)
			return err
		}
		return fs.WalkDir(esp, ".", func(file string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				fmt.Println(file)
			}
			return err
		})
	}
	return errors.New(name + " has no EFI system partition")
}
