// verity-verify checks a file system against its hash tree and root hash, and says which blocks are
// damaged. It reads NAME.verity and NAME.roothash beside NAME.raw, in place of veritysetup verify.
//
//	verity-verify NAME.raw
package main

import (
	"context"
	"encoding/hex"
	"errors"
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
		fmt.Fprintln(os.Stderr, "usage: verity-verify NAME.raw")
		os.Exit(2)
	}
	err := verify(os.Args[1])
	if damage, ok := errors.AsType[*verity.MismatchError](err); ok {
		for _, blocks := range damage.Ranges {
			fmt.Println("damaged:", blocks)
		}
	}
	if err != nil {
		log.Fatal("verity-verify: ", err)
	}
	fmt.Println("verified")
}

func verify(image string) error {
	beside := verity.SidecarsOf(image, false)
	// In earnest the root hash comes from a place that is trusted, such as the command line in a
	// signed UKI.
	text, err := os.ReadFile(beside.RootHash)
	if err != nil {
		return err
	}
	root, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		return err
	}
	data, err := osmith.OpenFile(image)
	if err != nil {
		return err
	}
	defer data.Close()
	tree, err := osmith.OpenFile(beside.Tree)
	if err != nil {
		return err
	}
	defer tree.Close()
	return verity.Verify(context.Background(), data, tree, root)
}
