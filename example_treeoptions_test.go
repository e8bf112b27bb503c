package osmith_test

import (
	"context"
	"fmt"
	"io/fs"
	"log"
	"os"
	"strings"
	"testing/fstest"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/partition/squashfs"
)

// A tree that is made in memory says by a Node who owns its files, and which extended attributes
// they have. No file gets a later time than that of the build.
func ExampleTreeOptions() {
	capability := []byte("\x01\x00\x00\x02\x00\x20" + strings.Repeat("\x00", 14)) // cap_net_raw+ep
	files := fstest.MapFS{
		"bin/ping":    {Mode: 0o755, Data: []byte("program"), Sys: &osmith.Node{Xattrs: map[string][]byte{"security.capability": capability}}},
		"dev/console": {Mode: fs.ModeDevice | fs.ModeCharDevice | 0o600, Sys: &osmith.Node{Major: 5, Minor: 1}},
		"srv/data":    {Mode: 0o640, Data: []byte("data\n"), ModTime: time.Now(), Sys: &osmith.Node{UID: 1000, GID: 1000}},
	}
	image, err := os.CreateTemp("", "srv")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(image.Name())
	defer image.Close()
	size, err := squashfs.Write(context.Background(), image, files, squashfs.Options{
		TreeOptions: osmith.TreeOptions{Time: time.Unix(1_700_000_000, 0)},
		Compression: squashfs.Gzip,
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(size, "bytes")
	// Output:
	// 4096 bytes
}
