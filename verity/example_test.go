package verity_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"

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
	// verity: data: 1073742824 bytes, want a multiple of the block size 4096: drop 1000 bytes or pad with 3096
}

func ExampleWriter() {
	image := image() // or what is downloaded; its size must be known
	slot, tree := new(bytes.Buffer), make(device, 20480)
	w, err := verity.NewWriter(slot, tree, image.Size(), verity.Params{})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.Copy(w, bytes.NewReader(image)); err != nil {
		log.Fatal(err)
	}
	root, err := w.Finish()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(slot.Len(), verity.Verify(context.Background(), image, tree, root))
	// Output:
	// 1228800 <nil>
}

func ExampleReader() {
	data, tree := image(), make(device, 20480)
	root, err := verity.Format(context.Background(), tree, data, verity.Params{})
	if err != nil {
		log.Fatal(err)
	}
	r, err := verity.NewReader(verity.Image{Data: data, Tree: tree, RootHash: root}, verity.ReaderOptions{})
	if err != nil {
		log.Fatal(err)
	}
	b := make([]byte, 16)
	_, err = r.ReadAt(b, 5000)
	fmt.Printf("%s %v\n", b, err)

	data[5001] ^= 1
	n, err := r.ReadAt(b, 5000)
	fmt.Println(n, errors.Is(err, verity.ErrData))
	// Output:
	// 89abcdef01234567 <nil>
	// 0 true
}

func ExampleImage() {
	// One device: the data first, the tree behind it, no superblock.
	data := image()
	offset, err := verity.SharedHashOffset(data.Size(), verity.Params{})
	if err != nil {
		log.Fatal(err)
	}
	p := verity.Params{Hash: "sha512", HashOffset: offset, NoSuperblock: true}
	size, err := verity.TreeSize(data.Size(), p)
	if err != nil {
		log.Fatal(err)
	}
	both := make(device, offset+size)
	copy(both, data)
	root, err := verity.Format(context.Background(), both, data, p)
	if err != nil {
		log.Fatal(err)
	}
	image := verity.Image{Data: both[:len(data)], Tree: both, RootHash: root, Params: &p}
	fmt.Println(len(root), image.Verify(context.Background()))
	// Output:
	// 64 <nil>
}

func ExampleMaxSharedDataSize() {
	data, offset, err := verity.MaxSharedDataSize(1<<30, verity.Params{})
	fmt.Println(data, offset, err)
	// Output:
	// 1065345024 1065345024 <nil>
}

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
