package ext4_test

import (
	"context"
	"fmt"
	"io/fs"
	"log"
	"os"
	"testing/fstest"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/partition/ext4"
)

// A state partition gets an ext4 file system with the first files in it. MinSize says how small the
// partition could be.
func Example() {
	files := fstest.MapFS{
		"lib/acme/settings.json": {Mode: 0o644, Data: []byte("{}\n")},
		"log":                    {Mode: fs.ModeDir | 0o755},
		"run":                    {Mode: fs.ModeSymlink | 0o777, Data: []byte("/run")},
	}
	options := ext4.Options{
		TreeOptions: osmith.TreeOptions{Time: time.Unix(1_700_000_000, 0)},
		UUID:        osmith.MustParseGUID("5ea5d8b6-4a3c-4f0a-8ae4-1a5e1b7d4c02"),
		Label:       "var",
	}
	least, err := ext4.MinSize(context.Background(), files, options)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("at least", least, "bytes")

	to, err := os.CreateTemp("", "var")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(to.Name())
	defer to.Close()
	options.Size = 64 << 20
	size, err := ext4.Write(context.Background(), to, files, options)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("made", size, "bytes")
	// Output:
	// at least 57344 bytes
	// made 67108864 bytes
}
