package verity_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/osmith-dev/osmith/verity"
)

// versionOf is a version of an image that has a block for each letter, and its hash tree.
func versionOf(letters string) (*bytes.Reader, verity.Tree) {
	var image []byte
	for _, letter := range []byte(letters) {
		image = append(image, bytes.Repeat([]byte{letter}, 4096)...)
	}
	file, err := os.CreateTemp("", "tree")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	params := verity.Params{Salt: []byte("the same for every version")}
	root, err := verity.Format(context.Background(), file, bytes.NewReader(image), params)
	if err != nil {
		log.Fatal(err)
	}
	tree, err := os.ReadFile(file.Name())
	if err != nil {
		log.Fatal(err)
	}
	return bytes.NewReader(image), verity.Tree{Source: bytes.NewReader(tree), RootHash: root}
}

// The trees alone tell which blocks of a new version a machine has.
func ExampleDiff() {
	_, oldTree := versionOf("the quick brown fox")
	_, newTree := versionOf("the quick red brown fox")
	delta, err := verity.Diff(context.Background(), oldTree, newTree, verity.DiffOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(delta)
	for _, span := range delta.Spans {
		fmt.Println(span)
	}
	// Output:
	// 23 blocks of 4096 bytes, same 10 (43.5 %), moved 12 (52.2 %), fetch 1 (4.3 %)
	// 0-9 same
	// 10 moved from 11
	// 11 moved from 2
	// 12 fetch
	// 13 moved from 3
	// 14-22 moved from 10
}

// The new version is put together from the old one and the blocks that it lacks.
func ExamplePatch() {
	ctx := context.Background()
	oldImage, oldTree := versionOf("the quick brown fox")
	remote, newTree := versionOf("the quick red brown fox") // on a server: release.NewBlobReader
	delta, err := verity.Diff(ctx, oldTree, newTree, verity.DiffOptions{})
	if err != nil {
		log.Fatal(err)
	}
	slot, err := os.CreateTemp("", "slot")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(slot.Name())
	defer slot.Close()
	result, err := verity.Patch(ctx, slot, oldImage, remote, newTree, delta, verity.PatchOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("copied:", result.Copied, "fetched:", result.Fetched, "bytes:", result.RequestedBytes)
	info, err := slot.Stat()
	if err != nil {
		log.Fatal(err)
	}
	written := io.NewSectionReader(slot, 0, info.Size())
	fmt.Println("verified:", verity.Verify(ctx, written, newTree.Source, newTree.RootHash))
	// Output:
	// copied: 22 fetched: 1 bytes: 4096
	// verified: <nil>
}

// Blocks that the slot has already need not be written.
func ExampleDiff_target() {
	ctx := context.Background()
	_, running := versionOf("the quick brown fox")
	_, unused := versionOf("the black red fox") // what the other slot holds
	_, next := versionOf("the quick red fox")
	delta, err := verity.Diff(ctx, running, next, verity.DiffOptions{Target: unused})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(delta)
	// Output:
	// 17 blocks of 4096 bytes, kept 14 (82.4 %), same 3 (17.6 %)
}
