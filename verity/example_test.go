package verity_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/osmith-dev/osmith/verity"
)

// A device is what the examples format: a file would do as well.
type device []byte

func (d device) Size() int64 { return int64(len(d)) }

func (d device) ReadAt(b []byte, off int64) (int, error) {
	return bytes.NewReader(d).ReadAt(b, off)
}

func (d device) WriteAt(b []byte, off int64) (int, error) {
	return copy(d[off:], b), nil
}

func image() device {
	return bytes.Repeat([]byte("0123456789abcdef"), 300*4096/16)
}

func ExampleFormat() {
	data := image()
	params := verity.Params{Salt: []byte("any salt, but given"), UUID: [16]byte{0x00, 0x11, 0x22, 0x33}}
	size, err := verity.TreeSize(data.Size(), params)
	if err != nil {
		log.Fatal(err)
	}
	tree := make(device, size)
	root, err := verity.Format(context.Background(), tree, data, params)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d bytes of data, %d of tree\nroothash=%x\n", len(data), len(tree), root)
	// Output:
	// 1228800 bytes of data, 20480 of tree
	// roothash=d597e92b2d50d798474f56d4f14c3f36418d396871ba5feb784ce2dc69af74d2
}

func ExampleVerify() {
	ctx := context.Background()
	data, tree := image(), make(device, 20480)
	root, err := verity.Format(ctx, tree, data, verity.Params{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("as made:", verity.Verify(ctx, data, tree, root))

	data[123*4096+5] ^= 1
	err = verity.Verify(ctx, data, tree, root)
	var mismatch *verity.MismatchError
	if errors.As(err, &mismatch) {
		for _, r := range mismatch.Ranges {
			fmt.Println("damaged:", r)
		}
	}
	// Output:
	// as made: <nil>
	// damaged: data block 123
}

func ExampleTreeSize() {
	size, err := verity.TreeSize(1<<30, verity.Params{})
	fmt.Println(size, err)
	_, err = verity.TreeSize(1<<30+1000, verity.Params{})
	fmt.Println(err)
	// Output:
	// 8462336 <nil>
	// verity: data: 1073742824 bytes: not a multiple of the block size 4096: 1000 bytes too many, or pad with 3096
}

func ExampleSuperblock_Table() {
	data, tree := image(), make(device, 20480)
	root, err := verity.Format(context.Background(), tree, data, verity.Params{})
	if err != nil {
		log.Fatal(err)
	}
	sb, err := verity.ReadSuperblock(tree, 0)
	if err != nil {
		log.Fatal(err)
	}
	table := sb.Table("/dev/vda2", "/dev/vda3", root)
	table.Options.Corruption = verity.RestartOnCorruption
	fmt.Printf("0 %d verity %v\n", table.Sectors(), table)
	// Output:
	// 0 2400 verity 1 /dev/vda2 /dev/vda3 4096 4096 300 1 sha256 c2c0537189317b02662f681f015f6051d1c945f8c41103e75d230ca6fd3afc43 - 1 restart_on_corruption
}
