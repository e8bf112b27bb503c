package ext4_test

import (
	"context"
	"errors"
	"fmt"
	"testing/fstest"

	"github.com/osmith-dev/osmith/partition/ext4"
)

// discarded is a writer of an image that is not kept.
type discarded struct{}

func (discarded) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }

// A tree that does not fit is refused before anything is written, with the size that it needs.
func ExampleWrite() {
	files := fstest.MapFS{"database": {Data: make([]byte, 20<<20)}}
	_, err := ext4.Write(context.Background(), discarded{}, files, ext4.Options{Size: 16 << 20})
	if e, ok := errors.AsType[*ext4.SizeError](err); ok {
		fmt.Println("make it", e.Want>>20, "MiB")
	}
	// Output:
	// make it 24 MiB
}
