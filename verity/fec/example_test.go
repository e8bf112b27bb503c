package fec_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/verity"
	"github.com/osmith-dev/osmith/verity/fec"
)

// A device is what the examples work on: a file would do as well.
type device []byte

func (d device) Size() int64 { return int64(len(d)) }

func (d device) ReadAt(b []byte, off int64) (int, error) {
	return bytes.NewReader(d).ReadAt(b, off)
}

func (d device) WriteAt(b []byte, off int64) (int, error) {
	return copy(d[off:], b), nil
}

// image is data with its hash device and root hash.
func image() (data, tree device, root []byte) {
	data = bytes.Repeat([]byte("0123456789abcdef"), 300*4096/16)
	size, err := verity.TreeSize(data.Size(), verity.Params{})
	if err != nil {
		log.Fatal(err)
	}
	tree = make(device, size)
	root, err = verity.Format(context.Background(), tree, data, verity.Params{})
	if err != nil {
		log.Fatal(err)
	}
	return data, tree, root
}

// encoded is the parity of an image.
func encoded(data, hash osmith.Source, roots int) device {
	p := fec.Params{Roots: roots}
	size, err := fec.Size(data.Size(), hash.Size(), p)
	if err != nil {
		log.Fatal(err)
	}
	parity := make(device, size)
	if err := fec.Encode(context.Background(), parity, data, hash, p); err != nil {
		log.Fatal(err)
	}
	return parity
}

func ExampleEncode() {
	data, tree, _ := image()
	hash, err := fec.HashArea(tree, verity.Params{}) // what lies behind the superblock
	if err != nil {
		log.Fatal(err)
	}
	p := fec.Params{Roots: 2}
	size, err := fec.Size(data.Size(), hash.Size(), p)
	if err != nil {
		log.Fatal(err)
	}
	parity := make(device, size)
	if err := fec.Encode(context.Background(), parity, data, hash, p); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d bytes of data, %d of tree, %d of parity: %x...\n", len(data), len(tree), len(parity), parity[:8])
	// Output:
	// 1228800 bytes of data, 20480 of tree, 16384 of parity: 51a86ff0a7d61fae...
}

func ExampleCheck() {
	ctx := context.Background()
	data, tree, _ := image()
	hash := tree[4096:]
	parity := encoded(data, hash, 2)
	fmt.Println("as made:", fec.Check(ctx, data, hash, parity, fec.Params{Roots: 2}))

	data[123*4096+5] ^= 1
	err := fec.Check(ctx, data, hash, parity, fec.Params{Roots: 2})
	fmt.Println(err)
	var e *fec.ParityError
	if errors.As(err, &e) {
		fmt.Println("blocks of the first:", e.Blocks)
	}
	// Output:
	// as made: <nil>
	// fec: parity: does not agree with data and hash area in 1 of 2 rounds, first at 0x200a: round 1
	// blocks of the first: [123]
}

func ExampleRepair() {
	ctx := context.Background()
	data, tree, root := image()
	parity := encoded(data, tree[4096:], 24)

	clear(data[100*4096 : 140*4096]) // 40 blocks in a row
	clear(tree[4096 : 2*4096])       // the top block
	fmt.Println(verity.Verify(ctx, data, tree, root) != nil)

	hash, err := fec.HashArea(tree, verity.Params{})
	if err != nil {
		log.Fatal(err)
	}
	report, err := fec.Repair(ctx, fec.Image{
		Data: data, Hash: hash, Parity: parity,
		RootHash: root, Roots: 24,
	}, data, io.NewOffsetWriter(tree, 4096))
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range report.Repaired {
		fmt.Println("repaired:", r)
	}
	fmt.Println(verity.Verify(ctx, data, tree, root))
	// Output:
	// true
	// repaired: data blocks 100-139
	// repaired: level 2 hash block 0
	// <nil>
}

// Data, tree and parity on one device, as an image file or a partition has them:
// veritysetup format image image --hash-offset=... --fec-device=image --fec-offset=...
func Example_oneDevice() {
	ctx := context.Background()
	const dataSize = 300 * 4096
	tree := verity.Params{HashOffset: dataSize}
	treeSize, err := verity.TreeSize(dataSize, tree)
	if err != nil {
		log.Fatal(err)
	}
	fecOffset := dataSize + treeSize
	paritySize, err := fec.Size(dataSize, treeSize-4096, fec.Params{}) // without superblock
	if err != nil {
		log.Fatal(err)
	}
	image := make(device, fecOffset+paritySize)
	copy(image, bytes.Repeat([]byte("0123456789abcdef"), dataSize/16))

	data := io.NewSectionReader(image, 0, dataSize)
	root, err := verity.Format(ctx, image, data, tree)
	if err != nil {
		log.Fatal(err)
	}
	hash, err := fec.HashArea(io.NewSectionReader(image, 0, fecOffset), tree)
	if err != nil {
		log.Fatal(err)
	}
	if err := fec.Encode(ctx, io.NewOffsetWriter(image, fecOffset), data, hash, fec.Params{}); err != nil {
		log.Fatal(err)
	}

	clear(image[7*4096 : 9*4096])
	report, err := fec.Repair(ctx, fec.Image{
		Data: data, Hash: hash, Parity: io.NewSectionReader(image, fecOffset, paritySize),
		Params: tree, RootHash: root,
	}, image, io.NewOffsetWriter(image, dataSize+4096))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("repaired:", report.Repaired[0])
	// Output:
	// repaired: data blocks 7-8
}

func ExampleSize() {
	const data = 1 << 30
	hash, err := verity.TreeSize(data, verity.Params{NoSuperblock: true})
	if err != nil {
		log.Fatal(err)
	}
	for _, roots := range []int{2, 24} {
		size, err := fec.Size(data, hash, fec.Params{Roots: roots})
		fmt.Println(roots, "roots:", size, err)
	}
	blocks, err := fec.Blocks(data, hash, fec.Params{})
	fmt.Println("fec_blocks:", blocks, err)
	_, err = fec.Size(data, hash, fec.Params{Roots: 25})
	fmt.Println(err)
	// Output:
	// 2 roots: 8560640 <nil>
	// 24 roots: 112459776 <nil>
	// fec_blocks: 264209 <nil>
	// fec: roots: 25: want 2 to 24
}
