package release_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// assembled is a UKI with an initrd of 4 MiB that all versions have.
func assembled(cmdline string) *bytes.Reader {
	initrd := make([]byte, 4<<20)
	if _, err := rand.NewChaCha8([32]byte{}).Read(initrd); err != nil {
		log.Fatal(err)
	}
	parts := acmeos.StandIns() // or acmeos.FindParts
	image := uki.Image{
		Stub: parts.Stub, Linux: parts.Linux, Initrd: []osmith.Source{bytes.NewReader(initrd)},
		OSRelease: []byte("ID=acme\nIMAGE_VERSION=2\n"), Cmdline: cmdline,
	}
	made, err := image.Assemble()
	if err != nil {
		log.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := made.WriteTo(&b); err != nil {
		log.Fatal(err)
	}
	return bytes.NewReader(b.Bytes())
}

// publishedUKI is a release that consists of a UKI, in the layout in a directory.
func publishedUKI(dir, cmdline string) (*cosign.Layout, *release.Artifact) {
	packed, err := release.Pack(dir, "v2", &release.Release{ID: "acme", Version: "2", UKI: assembled(cmdline)})
	if err != nil {
		log.Fatal(err)
	}
	src, err := cosign.OpenLayout(os.DirFS(dir)) // or weblayout.Open
	if err != nil {
		log.Fatal(err)
	}
	found, err := release.Read(context.Background(), src, packed) // after cosign.Verify
	if err != nil {
		log.Fatal(err)
	}
	return src, found
}

// A machine has an older UKI with the same kernel and initrd, so only the rest of the new one is
// fetched.
func ExamplePatchUKI() {
	dir, err := os.MkdirTemp("", "patchuki")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx, fetched := context.Background(), filepath.Join(dir, "fetched")
	src, found := publishedUKI(filepath.Join(dir, "published"), "quiet splash")

	running := assembled("quiet") // upgrade.State.OpenUKI
	patched, err := release.PatchUKI(ctx, src, found, fetched, running)
	if err != nil {
		log.Fatal(err)
	}
	if err := release.Pull(ctx, src, found, fetched, release.PullOptions{Ref: "v2"}); err != nil {
		log.Fatal(err)
	}
	fmt.Println("from the old UKI:", patched.Reused>>20, "MiB, fetched: less than", patched.Fetched>>10+1, "KiB")
	// Output:
	// from the old UKI: 4 MiB, fetched: less than 12 KiB
}

// The new UKI goes to the ESP without a copy on another disk: Stream reads what the old UKI has
// from there, and the rest from the server.
func ExampleStream_oldUKI() {
	dir, err := os.MkdirTemp("", "stream")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	src, found := publishedUKI(filepath.Join(dir, "published"), "quiet splash")

	r, err := release.Stream(context.Background(), src, found, filepath.Join(dir, "fetched"), release.PullOptions{
		OldUKI: assembled("quiet"), // upgrade.State.OpenUKI
	})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	opened, err := uki.Open(r.UKI)
	if err != nil {
		log.Fatal(err)
	}
	cmdline, _ := opened.Cmdline()
	fmt.Println("command line:", cmdline)
	fmt.Println("from the old UKI:", r.UKIPatch.Reused>>20, "MiB")
	// Output:
	// command line: quiet splash
	// from the old UKI: 4 MiB
}
