// release-pack makes a release of a unified kernel image: an OCI artifact in a directory, signed as
// cosign signs, that any registry or web server can hand out. It takes the place of oras push and
// cosign sign.
//
//	release-pack UKI KEY LAYOUT
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/upgrade/release"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: release-pack UKI KEY LAYOUT")
		os.Exit(2)
	}
	if err := pack(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		log.Fatal("release-pack: ", err)
	}
}

func pack(image, keyFile, layout string) error {
	text, err := os.ReadFile(keyFile)
	if err != nil {
		return err
	}
	key, err := secureboot.ParsePrivateKey(text)
	if err != nil {
		return err
	}
	kernel, err := osmith.OpenFile(image)
	if err != nil {
		return err
	}
	defer kernel.Close()
	ctx := context.Background()
	// the UKI says name and version
	artifact, err := build.Release(ctx, layout, &release.Release{UKI: kernel}, build.ReleaseOptions{})
	if err != nil {
		return err
	}
	store, err := cosign.OpenDir(layout)
	if err != nil {
		return err
	}
	fmt.Println(artifact.Digest)
	return cosign.Sign(ctx, store, artifact, key, cosign.SignOptions{})
}
