package verity_test

import (
	"bytes"
	"context"
	"fmt"
	"log"

	"github.com/osmith-dev/osmith/verity"
)

// build returns an image with a block for each letter, and its tree.
func build(text string) (device, verity.Tree) {
	var image device
	for _, letter := range []byte(text) {
		image = append(image, bytes.Repeat([]byte{letter}, 4096)...)
	}
	params := verity.Params{Salt: []byte("the same for every version")}
	size, err := verity.TreeSize(image.Size(), params)
	if err != nil {
		log.Fatal(err)
	}
	tree := make(device, size)
	root, err := verity.Format(context.Background(), tree, image, params)
	if err != nil {
		log.Fatal(err)
	}
	return image, verity.Tree{Source: tree, RootHash: root}
}

func ExampleDiff() {
	_, oldTree := build("the quick brown fox")
	_, newTree := build("the quick red brown fox")
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

func ExamplePatch() {
	ctx := context.Background()
	oldImage, oldTree := build("the quick brown fox")
	newImage, newTree := build("the quick red brown fox") // this one is elsewhere
	delta, err := verity.Diff(ctx, oldTree, newTree, verity.DiffOptions{})
	if err != nil {
		log.Fatal(err)
	}
	slot := make(device, newImage.Size())
	result, err := verity.Patch(ctx, slot, oldImage, newImage, newTree, delta, verity.PatchOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("copied:", result.Copied, "fetched:", result.Fetched, "bytes:", result.RequestedBytes)
	fmt.Println("complete:", bytes.Equal(slot, newImage))
	// Output:
	// copied: 22 fetched: 1 bytes: 4096
	// complete: true
}

func ExampleDiff_target() {
	ctx := context.Background()
	_, running := build("the quick brown fox")
	_, unused := build("the black red fox") // what the other slot holds
	_, next := build("the quick red fox")
	delta, err := verity.Diff(ctx, running, next, verity.DiffOptions{Target: unused})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(delta)
	// Output:
	// 17 blocks of 4096 bytes, kept 14 (82.4 %), same 3 (17.6 %)
}
