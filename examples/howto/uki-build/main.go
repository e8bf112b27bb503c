// uki-build joins stub, kernel, initrd and os-release into a unified kernel image, in place of
// ukify build. build.Keys would sign it, and the values of PCR 11, in the same pass.
//
//	uki-build STUB KERNEL INITRD OS-RELEASE UKI
package main

import (
	"context"
	"crypto"
	"fmt"
	"log"
	"os"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/uki"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 6 {
		fmt.Fprintln(os.Stderr, "usage: uki-build STUB KERNEL INITRD OS-RELEASE UKI")
		os.Exit(2)
	}
	if err := assemble([3]string(os.Args[1:4]), os.Args[4], os.Args[5]); err != nil {
		log.Fatal("uki-build: ", err)
	}
}

func assemble(names [3]string, osRelease, to string) error {
	var parts [3]osmith.Source
	for i, name := range names {
		f, err := osmith.OpenFile(name)
		if err != nil {
			return err
		}
		defer f.Close()
		parts[i] = f
	}
	about, err := os.ReadFile(osRelease)
	if err != nil {
		return err
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	made, err := build.UKI(context.Background(), out, build.UKIParts{Image: uki.Image{
		Stub: parts[0], Linux: parts[1], Initrd: []osmith.Source{parts[2]},
		OSRelease: about, Cmdline: "quiet",
	}}, build.Keys{})
	if err != nil {
		return err
	}
	fmt.Printf("%d bytes, Authenticode digest %x\n", made.Size, made.Digests[crypto.SHA256])
	return out.Close()
}
