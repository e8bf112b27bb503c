package release_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith/examples/acmeos"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// pack puts a release for one architecture into the layout in a directory. What a vendor builds is
// in place of the texts.
func pack(dir, ref, architecture string) ocispec.Descriptor {
	d, err := release.Pack(dir, ref, &release.Release{
		ID: "acme", Version: "2", Architecture: architecture,
		UKI:      strings.NewReader("a signed UKI"),
		Root:     strings.NewReader("a root file system"),
		Tree:     strings.NewReader("its hash tree"),
		RootHash: bytes.Repeat([]byte{0xab}, 32),
	})
	if err != nil {
		log.Fatal(err)
	}
	return d
}

// directory makes a temporary directory.
func directory() string {
	dir, err := os.MkdirTemp("", "release")
	if err != nil {
		log.Fatal(err)
	}
	return dir
}

// The digest names the release: it is what is signed. The same contents give the same one.
func ExamplePack() {
	dir := directory()
	defer os.RemoveAll(dir)
	d, err := release.Pack(dir, "v2", &release.Release{ID: "acme", Version: "2", UKI: strings.NewReader("a signed UKI")})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(d.ArtifactType)
	fmt.Println(d.Digest)
	// Output:
	// application/vnd.osmith.release.v1
	// sha256:eecd7ce39b88c182fa532f8eece4f932b1c28b1ef437fe6655016f0b8f133530
}

// What was fetched is verified again, every byte of it, before it is installed.
func ExampleOpen() {
	ctx, dir := context.Background(), directory()
	defer os.RemoveAll(dir)
	d := pack(dir, "v2", "amd64") // of a cosign.Result
	r, err := release.Open(ctx, os.DirFS(dir), d)
	if err != nil {
		log.Fatal(err)
	}
	root, err := io.ReadAll(io.NewSectionReader(r.Root, 0, r.Root.Size()))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s %s: %s\n", r.ID, r.Version, root)
	if err := r.Close(); err != nil {
		log.Fatal(err)
	}

	blob := filepath.Join(dir, "blobs", "sha256", digest.FromString("a root file system").Encoded())
	if err := os.WriteFile(blob, []byte("a root file-system"), 0o644); err != nil {
		log.Fatal(err)
	}
	_, err = release.Open(ctx, os.DirFS(dir), d)
	fmt.Println(err)
	// Output:
	// acme 2: a root file system
	// release: blob sha256:c173fba0b20d7b86d450af41f591b3ab0646724b701248e87c98ca68732526f0: the content has digest sha256:b873d24f46c2207a032a1e9fe619fbe03eb9f7d3b7152f92b7a3aa044f528cf0
}

// A machine fetches the release for its architecture. Any source of package cosign will do: a
// layout here, a web server or a registry elsewhere.
func ExamplePull() {
	ctx, from, to := context.Background(), directory(), directory()
	defer os.RemoveAll(from)
	defer os.RemoveAll(to)
	if _, err := release.PackIndex(from, "v2", map[string]ocispec.Descriptor{
		"amd64": pack(from, "", "amd64"),
		"arm64": pack(from, "", "arm64"),
	}); err != nil {
		log.Fatal(err)
	}

	src, err := cosign.OpenLayout(os.DirFS(from))
	if err != nil {
		log.Fatal(err)
	}
	index, err := src.Resolve("v2") // and then cosign.Verify
	if err != nil {
		log.Fatal(err)
	}
	d, err := release.Select(ctx, src, index, "arm64")
	if err != nil {
		log.Fatal(err)
	}
	a, err := release.Read(ctx, src, d)
	if err != nil {
		log.Fatal(err)
	}
	err = release.Pull(ctx, src, a, to, release.PullOptions{
		Ref: "v2", Index: &index,
		Wanted: release.Wanted{ID: "acme", Architecture: "arm64"}, // of anything else, nothing is fetched
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("fetched", a.ID, a.Version, "for", a.Architecture+":", a.Size(), "bytes")
	// Output: fetched acme 2 for arm64: 43 bytes
}

// A machine with little room streams the root file system into its slot: it is not in the layout
// that the rest is fetched into.
func ExampleStream() {
	ctx, from, to := context.Background(), directory(), directory()
	defer os.RemoveAll(from)
	defer os.RemoveAll(to)
	packed := pack(from, "v2", "amd64")
	src, err := cosign.OpenLayout(os.DirFS(from)) // or weblayout.Open
	if err != nil {
		log.Fatal(err)
	}
	a, err := release.Read(ctx, src, packed) // after cosign.Verify
	if err != nil {
		log.Fatal(err)
	}
	r, err := release.Stream(ctx, src, a, to, release.PullOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	// Then upgrade.NewPlan(ctx, disk, r, machine, upgrade.PlanOptions{Delta: true})

	for _, mediaType := range []string{release.MediaTypeTree, release.MediaTypeRoot} {
		layer, _ := a.Layer(mediaType)
		_, err := os.Stat(filepath.Join(to, "blobs", "sha256", layer.Digest.Encoded()))
		fmt.Println(mediaType, "is on the disk:", !errors.Is(err, fs.ErrNotExist))
	}
	// Output:
	// application/vnd.osmith.release.verity.v1 is on the disk: true
	// application/vnd.osmith.release.root.v1 is on the disk: false
}

// What verity.Patch fetches comes from the layer of the root file system, in pieces.
func ExampleNewBlobReader() {
	ctx, dir := context.Background(), directory()
	defer os.RemoveAll(dir)
	packed := pack(dir, "v2", "amd64")
	src, err := cosign.OpenLayout(os.DirFS(dir))
	if err != nil {
		log.Fatal(err)
	}
	a, err := release.Read(ctx, src, packed)
	if err != nil {
		log.Fatal(err)
	}
	layer, _ := a.Layer(release.MediaTypeRoot)
	remote, err := release.NewBlobReader(ctx, src, layer)
	if err != nil {
		log.Fatal(err)
	}
	piece := make([]byte, 4)
	if _, err := remote.ReadAt(piece, 7); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%q of %d bytes\n", piece, remote.Size())
	// Output: "file" of 18 bytes
}

// Before a release is installed, or published, its parts are compared with each other.
func ExampleRelease_Check() {
	demo, err := acmeos.NewDemo(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer demo.Close()
	r := demo.New.Release()
	fmt.Println(r.Check(context.Background()))
	r.Version = "3"
	fmt.Println(r.Check(context.Background()))
	// Output:
	// <nil>
	// release: the parts of the release do not belong together: the release has version "3", but its UKI has "2"
}

// A server that answers with something else than what was asked for is found out before anything is
// fetched.
func ExampleArtifact_Matches() {
	a := &release.Artifact{ID: "acme", Architecture: "arm64", Version: "1"} // as Read returns it
	fmt.Println(a.Matches(release.Wanted{ID: "acme", Architecture: "arm64", Name: "5"}))
	fmt.Println(a.Matches(release.Wanted{Architecture: "amd64"}))
	// Output:
	// release: the release named "5" has version "1", want the same
	// release: architecture: want "amd64", got "arm64"
}
