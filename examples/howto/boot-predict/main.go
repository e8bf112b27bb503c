// boot-predict says what a machine will have in its PCRs when it boots a new disk, before the disk
// is written: what systemd-pcrlock predict says on a machine. What it cannot know, it does not
// claim.
//
//	boot-predict UKI SYSTEMD-BOOT
package main

import (
	"context"
	"crypto"
	"fmt"
	"log"
	"os"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/upgrade/release"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: boot-predict UKI SYSTEMD-BOOT")
		os.Exit(2)
	}
	if err := predict(os.Args[1], os.Args[2]); err != nil {
		log.Fatal("boot-predict: ", err)
	}
}

func predict(image, systemdBoot string) error {
	kernel, err := osmith.OpenFile(image)
	if err != nil {
		return err
	}
	defer kernel.Close()
	loader, err := osmith.OpenFile(systemdBoot)
	if err != nil {
		return err
	}
	defer loader.Close()
	system := &release.Release{UKI: kernel, Loader: loader}
	if err := system.Identify(); err != nil { // name and version are in the UKI
		return err
	}
	ctx := context.Background()
	disk, err := build.Disk(ctx, system, build.DiskOptions{Seed: osmith.MustParseGUID("0e4b7f35-52c3-4b8e-a4a0-3f1f2a5c6d7e")})
	if err != nil {
		return err
	}
	// With Secure Boot variables (BootOptions.Variables) it also judges the signatures and predicts
	// PCR 7.
	ways, err := build.Boot(ctx, disk, build.BootOptions{NoShim: true})
	if err != nil {
		return err
	}
	values, err := ways[0].Values(crypto.SHA256)
	if err != nil {
		return err
	}
	for _, c := range ways[0].Coverage[:16] {
		fmt.Printf("%v %x\n", c, values[c.PCR])
	}
	return nil
}
