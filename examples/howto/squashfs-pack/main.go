// squashfs-pack makes a compressed read-only file system of a directory, in place of mksquashfs.
//
//	squashfs-pack DIRECTORY IMAGE zstd|gzip|none
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/osmith-dev/osmith/partition/squashfs"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: squashfs-pack DIRECTORY IMAGE zstd|gzip|none")
		os.Exit(2)
	}
	if err := pack(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		log.Fatal("squashfs-pack: ", err)
	}
}

func pack(dir, to, compression string) error {
	c, err := squashfs.ParseCompression(compression)
	if err != nil {
		return err
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	size, err := squashfs.Write(context.Background(), out, os.DirFS(dir), squashfs.Options{Compression: c})
	if err != nil {
		return err
	}
	fmt.Println(size, "bytes")
	return out.Close()
}
