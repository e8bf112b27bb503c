// boot-menu says what systemd-boot will list when it starts from a disk, what it boots by default,
// and which file it renames to count the try. It takes the place of bootctl list, and needs no
// mounted file system.
//
//	boot-menu DISK
package main

import (
	"errors"
	"fmt"
	"log"
	"os"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: boot-menu DISK")
		os.Exit(2)
	}
	if err := list(os.Args[1]); err != nil {
		log.Fatal("boot-menu: ", err)
	}
}

func list(name string) error {
	disk, err := osmith.OpenFile(name)
	if err != nil {
		return err
	}
	defer disk.Close()
	table, err := partition.Read(disk, partition.ReadOptions{})
	if err != nil {
		return err
	}
	at := slices.IndexFunc(table.Partitions, func(p partition.Partition) bool { return p.Type == partition.ESP })
	if at < 0 {
		return errors.New("no EFI system partition on " + name)
	}
	esp, err := fat.OpenReader(table.Section(disk, at))
	if err != nil {
		return err
	}
	menu, err := bootloader.ReadMenu(esp, bootloader.MenuOptions{})
	if err != nil {
		return err
	}
	for _, e := range menu.Entries {
		fmt.Printf("%s: %s, bad: %v\n", e.ID, e.Title, e.Bad())
	}
	// A machine may have variables that say otherwise, such as LoaderEntryDefault.
	if next, reason := menu.Default(bootloader.Variables{}); next != nil {
		fmt.Printf("boots %s, %s\n", next.ID, reason)
		if from, to := next.Boot(); from != to {
			fmt.Println("and renames", from, "to", to)
		}
	}
	return nil
}
