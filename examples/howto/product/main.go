// product makes what a vendor ships, in three calls: a system with a signed kernel image, a disk
// that boots it, and a release that machines upgrade to. It takes the place of ukify, veritysetup,
// systemd-repart and oras in a script. PARTS has the files stub, loader, kernel, initrd, os-release
// and root; KEYS has db.key and db.crt.
//
//	product PARTS KEYS OUTPUT
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/uki"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: product PARTS KEYS OUTPUT")
		os.Exit(2)
	}
	keys, err := secureboot.ReadHierarchy(os.DirFS(os.Args[2]))
	fatal(err)
	part := map[string]osmith.Source{}
	for _, name := range []string{"stub", "loader", "kernel", "initrd", "root"} {
		part[name], err = osmith.OpenFile(filepath.Join(os.Args[1], name))
		fatal(err)
	}
	osRelease, err := os.ReadFile(filepath.Join(os.Args[1], "os-release"))
	fatal(err)
	ctx, out := context.Background(), os.Args[3]
	// yours: uuidgen, once per product
	seed := osmith.MustParseGUID("2f8d6a1e-0f3b-4c57-9a36-7c1d5e9b4a20")

	set, err := build.System(ctx, out, build.Parts{Root: part["root"], Seed: seed, Loader: part["loader"], UKI: build.UKIParts{Image: uki.Image{
		Stub: part["stub"], Linux: part["kernel"], Initrd: []osmith.Source{part["initrd"]}, OSRelease: osRelease,
	}}}, build.Keys{SecureBoot: keys.DB})
	fatal(err)
	defer set.Close()

	disk, err := build.Disk(ctx, &set.Release, build.DiskOptions{Seed: seed})
	fatal(err)
	image, err := os.Create(filepath.Join(out, "disk.img"))
	fatal(err)
	fatal(partition.WriteImage(image, disk.Image, partition.WriteOptions{TargetIsZero: true}))
	fatal(image.Close())

	// then cosign.Sign
	artifact, err := build.Release(ctx, filepath.Join(out, "oci"), &set.Release, build.ReleaseOptions{})
	fatal(err)
	fmt.Printf("%s %s: roothash=%x, %s\n", set.ID, set.Version, set.RootHash, artifact.Digest)
}

func fatal(err error) {
	if err != nil {
		log.Fatal("product: ", err)
	}
}
