package squashfs_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log"
	"os"
	"testing/fstest"

	"github.com/osmith-dev/osmith/partition/squashfs"
)

// A tree of files becomes an image for a partition: here one in memory, otherwise os.DirFS("root").
// The image is the same each time it is written.
func Example() {
	tree := fstest.MapFS{
		"etc/os-release": {Data: []byte("ID=acme\nVERSION_ID=1\n"), Mode: 0o644},
		"usr/bin/agent":  {Data: bytes.Repeat([]byte("program "), 100_000), Mode: 0o755},
		"bin":            {Data: []byte("usr/bin"), Mode: fs.ModeSymlink | 0o777},
	}
	var images [2][]byte
	for i := range images {
		file, err := os.CreateTemp("", "root.squashfs")
		if err != nil {
			log.Fatal(err)
		}
		defer os.Remove(file.Name())
		size, err := squashfs.Write(context.Background(), file, tree, squashfs.Options{})
		if err != nil {
			log.Fatal(err)
		}
		if err := file.Close(); err != nil {
			log.Fatal(err)
		}
		fmt.Println(size, "bytes")
		if images[i], err = os.ReadFile(file.Name()); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println("the same:", bytes.Equal(images[0], images[1]))
	// Output:
	// 4096 bytes
	// 4096 bytes
	// the same: true
}
