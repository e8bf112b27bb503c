// initrd-pack makes an initrd of a directory, compressed by gzip, in place of find | cpio -H newc |
// gzip. All files belong to root and date from 1970, so that the same files give the same bytes on
// every machine.
//
//	initrd-pack DIRECTORY INITRD
package main

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/build"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: initrd-pack DIRECTORY INITRD")
		os.Exit(2)
	}
	if err := pack(os.Args[1], os.Args[2]); err != nil {
		log.Fatal("initrd-pack: ", err)
	}
}

func pack(dir, to string) error {
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	// The archive is written front to back, so that any compressor that the kernel knows can stand
	// behind it.
	compressed, err := gzip.NewWriterLevel(out, gzip.BestCompression)
	if err != nil {
		return err
	}
	if err := build.WriteInitrd(context.Background(), compressed, os.DirFS(dir), osmith.TreeOptions{}); err != nil {
		return err
	}
	return errors.Join(compressed.Close(), out.Close())
}
