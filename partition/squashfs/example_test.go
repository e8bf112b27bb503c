package squashfs_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"testing/fstest"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/partition/squashfs"
)

// Files belong to root and date from 1970, unless the options say otherwise.
func ExampleWrite() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	image, err := os.Create(filepath.Join(dir, "usr.squashfs"))
	if err != nil {
		log.Fatal(err)
	}
	defer image.Close()
	tree := fstest.MapFS{
		"share/acme/log": {Data: make([]byte, 5_000_000), Mode: 0o640, ModTime: time.Unix(1_700_000_000, 0), Sys: &osmith.Node{UID: 100, GID: 100}},
	}
	size, err := squashfs.Write(context.Background(), image, tree, squashfs.Options{
		TreeOptions: osmith.TreeOptions{Time: time.Unix(1_750_000_000, 0)}, // the latest time of a file
		Compression: squashfs.Gzip,
		BlockSize:   1 << 20,
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(size, "bytes: zeros take no room")
	// Output: 4096 bytes: zeros take no room
}

func ExampleParseCompression() {
	c, err := squashfs.ParseCompression("gzip")
	fmt.Println(c == squashfs.Gzip, err)
	_, err = squashfs.ParseCompression("xz")
	fmt.Println(err)
	// Output:
	// true <nil>
	// squashfs: compression "xz": want zstd, gzip or none
}
