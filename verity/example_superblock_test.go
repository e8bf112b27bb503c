package verity_test

import (
	"bytes"
	"context"
	"fmt"
	"os"

	"github.com/osmith-dev/osmith/verity"
)

func ExampleReadSuperblock() {
	tree, err := os.CreateTemp("", "tree")
	if err != nil {
		panic(err)
	}
	defer os.Remove(tree.Name())
	defer tree.Close()
	data := bytes.NewReader(make([]byte, 300*4096))
	if _, err := verity.Format(context.Background(), tree, data, verity.Params{Salt: []byte{1, 2, 3}}); err != nil {
		panic(err)
	}
	sb, err := verity.ReadSuperblock(tree, 0)
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s, %d blocks of %d bytes, salt %x\n", sb.Algorithm, sb.DataBlocks, sb.DataBlockSize, sb.Salt)
	// Output: sha256, 300 blocks of 4096 bytes, salt 010203
}
