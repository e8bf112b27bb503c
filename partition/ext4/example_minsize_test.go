package ext4_test

import (
	"context"
	"fmt"
	"log"
	"testing/fstest"

	"github.com/osmith-dev/osmith/partition/ext4"
)

// A file system that is never written, such as one under dm-verity, needs no journal.
func ExampleMinSize() {
	files := fstest.MapFS{"usr/lib/modules/all": {Data: make([]byte, 20<<20)}}
	for _, noJournal := range []bool{false, true} {
		size, err := ext4.MinSize(context.Background(), files, ext4.Options{NoJournal: noJournal})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(size>>10, "KiB")
	}
	// Output:
	// 25032 KiB
	// 20868 KiB
}
