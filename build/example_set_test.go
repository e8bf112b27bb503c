package build_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"testing/fstest"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/build"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/uki"
)

// From parts and keys to what is shipped. Here, the parts are stand-ins, and the keys are made on
// the spot.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "build")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	keys, err := secureboot.Generate(rand.Reader, secureboot.GenerateOptions{CommonName: "Acme OS", NotBefore: time.Unix(1_767_225_600, 0), NotAfter: time.Unix(2_082_758_400, 0)})
	if err != nil {
		log.Fatal(err)
	}
	parts := acmeos.StandIns() // or acmeos.FindParts
	set, err := build.System(ctx, dir, build.Parts{
		Root: bytes.NewReader(make([]byte, 1<<20)), // an EROFS image: WriteEROFS
		Seed: osmith.MustParseGUID("11111111-2222-3333-4444-555555555555"),
		UKI: build.UKIParts{Image: uki.Image{
			Stub: parts.Stub, Linux: parts.Linux, Initrd: []osmith.Source{parts.Initrd},
			OSRelease: []byte("ID=acme\nIMAGE_VERSION=1\n"),
		}},
		Loader: parts.Loader,
	}, build.Keys{SecureBoot: keys.DB, PCR: []build.PCRKey{{Signer: keys.PCR.Key}}, Verity: keys.Verity})
	if err != nil {
		log.Fatal(err)
	}
	defer set.Close()

	disk, err := build.Disk(ctx, &set.Release, build.DiskOptions{Seed: osmith.MustParseGUID("11111111-2222-3333-4444-555555555555"), Enroll: keys,
		EnrollOptions: secureboot.EnrollOptions{Time: time.Unix(1_767_225_600, 0), OptionROMs: secureboot.OptionROMs{TrustNoOptionROMsAtTheRiskOfABlackScreen: true}}})
	if err != nil {
		log.Fatal(err)
	}
	image, err := os.Create(filepath.Join(dir, "disk.img"))
	if err != nil {
		log.Fatal(err)
	}
	defer image.Close()
	if err := partition.WriteImage(image, disk.Image, partition.WriteOptions{TargetIsZero: true}); err != nil {
		log.Fatal(err)
	}
	if _, err := build.Release(ctx, filepath.Join(dir, "oci"), &set.Release, build.ReleaseOptions{}); err != nil {
		log.Fatal(err)
	}

	ways, err := build.Boot(ctx, disk, build.BootOptions{Variables: &disk.Enrollment.Variables, NoShim: true})
	if err != nil {
		log.Fatal(err)
	}
	for _, p := range disk.Table.Partitions {
		fmt.Println(p.Name)
	}
	for _, c := range ways[0].Coverage[:12] {
		fmt.Println(c.PCR, c.Prediction)
	}
	// Output:
	// esp
	// acme_1
	// acme_1_verity
	// acme_1_verity_sig
	// _empty
	// _empty
	// _empty
	// 0 not predicted
	// 1 not predicted
	// 2 not predicted
	// 3 not predicted
	// 4 exact
	// 5 exact
	// 6 not predicted
	// 7 exact
	// 8 exact
	// 9 not predicted
	// 10 not predicted
	// 11 exact
}

// A UKI alone, for a system that runs from its initrd.
func ExampleUKI() {
	dir, err := os.MkdirTemp("", "uki")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	out, err := os.Create(filepath.Join(dir, "acme.efi"))
	if err != nil {
		log.Fatal(err)
	}
	defer out.Close()
	parts := acmeos.StandIns() // or acmeos.FindParts
	made, err := build.UKI(context.Background(), out, build.UKIParts{Image: uki.Image{
		Stub: parts.Stub, Linux: parts.Linux, Initrd: []osmith.Source{parts.Initrd},
		OSRelease: []byte("ID=acme\nIMAGE_VERSION=1\n"), Cmdline: "quiet",
	}}, build.Keys{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(made.Signed, len(made.Variants[0].Sections), "sections measured")
	// Output: false 6 sections measured
}

// An initrd of files that a program has in memory, or of os.DirFS or embed.FS.
func ExampleWriteInitrd() {
	var b bytes.Buffer
	files := fstest.MapFS{
		"init":        {Data: []byte("#!/bin/sh\n"), Mode: 0o755},
		"dev/console": {Mode: os.ModeDevice | os.ModeCharDevice | 0o600, Sys: &osmith.Node{Major: 5, Minor: 1}},
	}
	if err := build.WriteInitrd(context.Background(), &b, files, osmith.TreeOptions{}); err != nil {
		log.Fatal(err)
	}
	fmt.Println(b.Len(), "bytes")
	// Output: 492 bytes
}

// A root file system of a tree of files.
func ExampleWriteEROFS() {
	dir, err := os.MkdirTemp("", "erofs")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	out, err := os.Create(filepath.Join(dir, "root.erofs"))
	if err != nil {
		log.Fatal(err)
	}
	defer out.Close()
	files := fstest.MapFS{"etc/os-release": {Data: []byte("ID=acme\n"), Mode: 0o644}}
	if err := build.WriteEROFS(context.Background(), out, files, build.EROFSOptions{TempDir: dir}); err != nil {
		log.Fatal(err)
	}
	info, err := out.Stat()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(info.Size()%4096 == 0)
	// Output: true
}

// exampleSet is a version of an imaginary system that runs from its initrd.
func exampleSet(dir, version, cmdline string) *build.Set {
	parts := acmeos.StandIns()
	set, err := build.System(context.Background(), dir, build.Parts{UKI: build.UKIParts{Image: uki.Image{
		Stub: parts.Stub, Linux: parts.Linux, Initrd: []osmith.Source{parts.Initrd},
		OSRelease: []byte("ID=acme\nIMAGE_VERSION=" + version + "\n"), Cmdline: cmdline,
	}}}, build.Keys{})
	if err != nil {
		log.Fatal(err)
	}
	return set
}

// What a machine goes through from one version to the next.
func ExampleCompare() {
	dir, err := os.MkdirTemp("", "compare")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	one, two := exampleSet(dir, "1", "quiet"), exampleSet(dir, "2", "quiet debug")
	defer one.Close()
	defer two.Close()
	c, err := build.Compare(context.Background(), &one.Release, &two.Release)
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range c.Sections {
		if s.Kind != build.ChangeSame {
			fmt.Println(s.Name, s.Kind, s.Lines)
		}
	}
	fmt.Println("PCR 11 as the kernel starts:", c.PCR11[0].Kind)
	// Output:
	// .osrel changed [- IMAGE_VERSION=1 + IMAGE_VERSION=2]
	// .cmdline changed [+ debug]
	// PCR 11 as the kernel starts: changed
}

// A disk of definition files of systemd-repart, with a file system that is made of a tree of files.
func ExampleDisk() {
	definitions, err := partition.ReadRepart(fstest.MapFS{
		"10-root.conf": {Data: []byte("[Partition]\nType=root\nFormat=erofs\nCopyFiles=/usr:/usr\nVerity=data\nVerityMatchKey=root\nMinimize=best\n")},
		"20-tree.conf": {Data: []byte("[Partition]\nType=root-verity\nVerity=hash\nVerityMatchKey=root\nMinimize=best\n")},
	}, partition.RepartOptions{})
	if err != nil {
		log.Fatal(err)
	}
	definitions.Layout.FileSystemSectorSize = 4096
	dir, err := os.MkdirTemp("", "disk")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	disk, err := build.Disk(context.Background(), nil, build.DiskOptions{
		Seed: osmith.MustParseGUID("11111111-2222-3333-4444-555555555555"), Layout: &definitions.Layout, TempDir: dir,
		Host: fstest.MapFS{"usr/bin/tool": {Data: []byte("tool"), Mode: 0o755}}, // or os.DirFS
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(disk.Table.Partitions), "partitions, root hash of", len(disk.RootHashes["root"]), "bytes")
	// Output: 2 partitions, root hash of 32 bytes
}

// What a UKI will leave in PCR 11, for a release or a server that attests machines.
func ExamplePCRsOf() {
	dir, err := os.MkdirTemp("", "pcrs")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	set := exampleSet(dir, "1", "quiet")
	defer set.Close()
	values, err := build.PCRsOf(context.Background(), &set.Release)
	if err != nil {
		log.Fatal(err)
	}
	for _, v := range values.PCR11[:2] {
		fmt.Printf("%q %.16s...\n", v.Phase, v.Banks["sha256"])
	}
	// Output:
	// "" d6b7b70740cd7b93...
	// "enter-initrd" 449d04793d51ea7c...
}

// systemd-boot with a signature by the key of db.
func ExampleSignLoader() {
	keys, err := secureboot.Generate(rand.Reader, secureboot.GenerateOptions{CommonName: "Acme OS", NotBefore: time.Unix(1_767_225_600, 0), NotAfter: time.Unix(2_082_758_400, 0)})
	if err != nil {
		log.Fatal(err)
	}
	unsigned := acmeos.StandIns().Loader // or acmeos.FindParts
	signed, err := build.SignLoader(unsigned, build.Keys{SecureBoot: keys.DB})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(signed.Size() > unsigned.Size())
	// Output: true
}
