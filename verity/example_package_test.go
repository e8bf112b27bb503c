package verity_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/verity"
)

// A root file system gets a hash tree: a program that trusts the root hash learns which block is
// damaged.
func Example() {
	ctx := context.Background()
	image := bytes.Repeat([]byte("a root file system"), 2048) // 9 blocks of 4096 bytes
	file, err := os.CreateTemp("", "tree")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(file.Name())
	root, err := verity.Format(ctx, file, bytes.NewReader(image), verity.Params{Salt: []byte("from a seed")})
	if err != nil {
		log.Fatal(err)
	}
	tree, err := osmith.NewDevice(file)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("roothash=%x\n", root[:8])
	fmt.Println(verity.Verify(ctx, bytes.NewReader(image), tree, root))

	image[5*4096] ^= 1
	err = verity.Verify(ctx, bytes.NewReader(image), tree, root)
	if damage, ok := errors.AsType[*verity.MismatchError](err); ok {
		fmt.Println(damage.Ranges)
	}
	// Output:
	// roothash=431834fe95970d0e
	// <nil>
	// [data block 5]
}
