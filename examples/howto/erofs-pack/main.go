// erofs-pack makes a read-only file system of a directory, in place of mkfs.erofs. The same files
// give the same bytes.
//
//	erofs-pack DIRECTORY IMAGE
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/build"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: erofs-pack DIRECTORY IMAGE")
		os.Exit(2)
	}
	if err := pack(os.Args[1], os.Args[2]); err != nil {
		log.Fatal("erofs-pack: ", err)
	}
}

func pack(dir, to string) error {
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	err = build.WriteEROFS(context.Background(), out, os.DirFS(dir), build.EROFSOptions{
		// yours: nothing here is random
		UUID:    osmith.MustParseGUID("6c2e6f5a-1f6e-4d7c-8a80-1d2b3c4d5e6f"),
		Label:   "acme",
		TempDir: filepath.Dir(to), // for a second file as large as the contents
	})
	if err != nil {
		return err
	}
	return out.Close()
}
