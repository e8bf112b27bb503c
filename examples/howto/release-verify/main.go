// release-verify takes a release out of a directory only if one of the keys has signed it, in place
// of cosign verify. Every byte that is read afterwards belongs to what was signed.
//
//	release-verify LAYOUT KEYS.pem
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: release-verify LAYOUT KEYS.pem")
		os.Exit(2)
	}
	if err := verify(os.Args[1], os.Args[2]); err != nil {
		log.Fatal("release-verify: ", err)
	}
}

func verify(dir, keyFile string) error {
	text, err := os.ReadFile(keyFile)
	if err != nil {
		return err
	}
	keys, err := cosign.ParseKeys(text) // public keys or certificates, one or several
	if err != nil {
		return err
	}
	files := os.DirFS(dir)
	layout, err := cosign.OpenLayout(files)
	if err != nil {
		return err
	}
	artifact, err := layout.Resolve("") // the only one; else its version or digest
	if err != nil {
		return err
	}
	ctx := context.Background()
	verified, err := cosign.Verify(ctx, layout, artifact, cosign.Policy{Keys: keys})
	if err != nil {
		return err
	}
	// what was verified, not what the name said
	r, err := release.Open(ctx, files, verified.Subject)
	if err != nil {
		return err
	}
	defer r.Close()
	fmt.Println(r.ID, r.Version, r.Architecture, r.UKI.Size(), "bytes")
	return nil
}
