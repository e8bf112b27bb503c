// image-from-repart makes a disk image from definition files of systemd-repart and a tree of files,
// in place of systemd-repart --empty=create. Identifiers, places and sizes are those that it gives.
// No root is needed.
//
//	image-from-repart REPART.D TREE DISK
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/partition"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: image-from-repart REPART.D TREE DISK")
		os.Exit(2)
	}
	if err := write(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		log.Fatal("image-from-repart: ", err)
	}
}

func write(definitions, tree, to string) error {
	repart, err := partition.ReadRepart(os.DirFS(definitions), partition.RepartOptions{Architecture: "x86-64"})
	if err != nil {
		return err
	}
	for _, w := range repart.Warnings {
		fmt.Println(w)
	}
	repart.Layout.FileSystemSectorSize = 4096 // what systemd-repart takes for an image file
	disk, err := build.Disk(context.Background(), nil, build.DiskOptions{
		// yours: uuidgen, once per product
		Seed:    osmith.MustParseGUID("d5f0a0c2-7a3c-4f0e-9d54-8d3a0f6f2b11"),
		Layout:  &repart.Layout,
		Host:    os.DirFS(tree), // where the paths of CopyFiles= begin
		TempDir: os.TempDir(),
	})
	if err != nil {
		return err
	}
	fmt.Print(disk) // the plan; nothing has been written yet
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := out.Truncate(disk.Size); err != nil {
		return err
	}
	if err := partition.WriteImage(out, disk.Image, partition.WriteOptions{TargetIsZero: true}); err != nil {
		return err
	}
	return out.Close()
}
