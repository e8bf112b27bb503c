// ext4-pack makes the file system of a state partition, in place of mkfs.ext4 -d. Without a size
// it says how small the partition can be.
//
//	ext4-pack DIRECTORY [IMAGE MIB]
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strconv"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/partition/ext4"
)

func main() {
	log.SetFlags(0)
	options := ext4.Options{
		TreeOptions: osmith.TreeOptions{KeepOwners: true}, // as on this machine
		// yours, one for each image
		UUID:  osmith.MustParseGUID("0f1d9a4e-7c55-4bb1-8a6d-63f1f7a3c0de"),
		Label: "var",
	}
	var err error
	switch len(os.Args) {
	case 2:
		var size int64
		if size, err = ext4.MinSize(context.Background(), os.DirFS(os.Args[1]), options); err == nil {
			fmt.Println("at least", size, "bytes")
		}
	case 4:
		err = pack(os.Args[1], os.Args[2], os.Args[3], options)
	default:
		fmt.Fprintln(os.Stderr, "usage: ext4-pack DIRECTORY [IMAGE MIB]")
		os.Exit(2)
	}
	if err != nil {
		log.Fatal("ext4-pack: ", err)
	}
}

func pack(dir, to, mib string, options ext4.Options) error {
	n, err := strconv.ParseInt(mib, 10, 32)
	if err != nil {
		return err
	}
	options.Size = n << 20
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := ext4.Write(context.Background(), out, os.DirFS(dir), options); err != nil {
		return err // too small a size says how large it has to be
	}
	return out.Close()
}
