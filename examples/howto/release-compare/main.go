// release-compare says what a machine goes through from one release to the next: sections of the
// kernel image, blocks of the root file system, PCR 11, and whether secrets that were sealed for
// the old one open for the new one. No other tool says that; diffoscope shows bytes.
//
//	release-compare OLD-LAYOUT NEW-LAYOUT
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: release-compare OLD-LAYOUT NEW-LAYOUT")
		os.Exit(2)
	}
	if err := compare(os.Args[1], os.Args[2]); err != nil {
		log.Fatal("release-compare: ", err)
	}
}

func compare(before, next string) error {
	ctx := context.Background()
	var releases [2]*release.Release
	for i, dir := range []string{before, next} {
		layout, err := cosign.OpenLayout(os.DirFS(dir))
		if err != nil {
			return err
		}
		artifact, err := layout.Resolve("")
		if err != nil {
			return err
		}
		if releases[i], err = release.Open(ctx, os.DirFS(dir), artifact); err != nil {
			return err
		}
		defer releases[i].Close()
	}
	comparison, err := build.Compare(ctx, releases[0], releases[1])
	if err != nil {
		return err
	}
	fmt.Print(comparison) // for a person; as JSON it is osmith.comparison/1
	return nil
}
