// verity-format makes the hash tree of a read-only file system, so that the kernel verifies every
// block that it reads. It writes NAME.verity and NAME.roothash beside NAME.raw, where systemd looks
// for them, in place of veritysetup format.
//
//	verity-format NAME.raw
package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/verity"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 || !strings.HasSuffix(os.Args[1], ".raw") {
		fmt.Fprintln(os.Stderr, "usage: verity-format NAME.raw")
		os.Exit(2)
	}
	if err := format(os.Args[1]); err != nil {
		log.Fatal("verity-format: ", err)
	}
}

func format(image string) error {
	beside := verity.SidecarsOf(image, false)
	data, err := osmith.OpenFile(image)
	if err != nil {
		return err
	}
	defer data.Close()
	tree, err := os.Create(beside.Tree)
	if err != nil {
		return err
	}
	defer tree.Close()
	// The package chooses nothing, so that a build can be repeated: derive salt and UUID from a
	// seed to get the same tree every time.
	params := verity.Params{Salt: make([]byte, 32)}
	rand.Read(params.Salt)
	rand.Read(params.UUID[:])
	root, err := verity.Format(context.Background(), tree, data, params)
	if err != nil {
		return err
	}
	if err := os.WriteFile(beside.RootHash, verity.RootHashText(root), 0o644); err != nil {
		return err
	}
	fmt.Printf("roothash=%x\n", root)
	return tree.Close()
}
