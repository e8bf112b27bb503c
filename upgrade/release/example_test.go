package release_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// temporary makes a directory for an example.
func temporary() string {
	dir, err := os.MkdirTemp("", "release")
	if err != nil {
		log.Fatal(err)
	}
	return dir
}

func ExamplePack() {
	dir := temporary()
	defer os.RemoveAll(dir)
	d, err := release.Pack(dir, "v2", contents())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(d.ArtifactType)
	fmt.Println(d.Digest)
	// Output:
	// application/vnd.osmith.release.v1
	// sha256:da86fba156e929e3ed356d9acf96d0d833311f4cfe7d3f0eace13dcfb9f79b9d
}

// What was fetched is verified again, every byte of it, before it is installed.
func ExampleOpen() {
	dir := temporary()
	defer os.RemoveAll(dir)
	d, err := release.Pack(dir, "v2", contents())
	if err != nil {
		log.Fatal(err)
	}
	r, err := release.Open(context.Background(), os.DirFS(dir), d) // of a cosign.Result
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	fmt.Println(r.ID, r.Version, r.UKI.Size())
	// Output: acme 2 3
}

// A machine fetches the release for its architecture. Any source of package cosign will do: a
// layout here, a web server or a registry elsewhere.
func ExamplePull() {
	ctx, from, to := context.Background(), temporary(), temporary()
	defer os.RemoveAll(from)
	defer os.RemoveAll(to)
	manifests := map[string]ocispec.Descriptor{}
	for _, architecture := range []string{"amd64", "arm64"} {
		c := contents()
		c.Architecture = architecture
		d, err := release.Pack(from, "", c)
		if err != nil {
			log.Fatal(err)
		}
		manifests[architecture] = d
	}
	if _, err := release.PackIndex(from, "v2", manifests); err != nil {
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
	if err := release.Pull(ctx, src, a, to, release.PullOptions{Ref: "v2", Index: &index}); err != nil {
		log.Fatal(err)
	}
	r, err := release.Open(ctx, os.DirFS(to), d)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	fmt.Println(r.ID, r.Version, r.Architecture)
	// Output: acme 2 arm64
}

// The hash tree comes first, to tell what the machine has of the root file system; that is put
// together by other means, and Pull fetches the rest.
func ExamplePartial() {
	ctx, from, to := context.Background(), temporary(), temporary()
	defer os.RemoveAll(from)
	defer os.RemoveAll(to)
	d, err := release.Pack(from, "v2", contents())
	if err != nil {
		log.Fatal(err)
	}
	src, err := cosign.OpenLayout(os.DirFS(from))
	if err != nil {
		log.Fatal(err)
	}
	a, err := release.Read(ctx, src, d) // and then cosign.Verify
	if err != nil {
		log.Fatal(err)
	}
	tree, err := release.PullLayer(ctx, src, a, to, release.MediaTypeTree)
	if err != nil {
		log.Fatal(err)
	}
	root, _ := a.Layer(release.MediaTypeRoot)
	f, err := release.Partial(to, root)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.Copy(f, contents().Root.(io.Reader)); err != nil {
		// as verity.Patch would, by the trees
		log.Fatal(err)
	}
	if err := f.Close(); err != nil {
		log.Fatal(err)
	}
	if err := release.Pull(ctx, src, a, to, release.PullOptions{Ref: "v2"}); err != nil {
		log.Fatal(err)
	}
	r, err := release.Open(ctx, os.DirFS(to), d)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	fmt.Println(filepath.Base(tree) == a.Layers[2].Digest.Encoded(), r.Root.Size())
	// Output: true 4
}

// A machine with little room streams the root file system into its slot: it is not in the layout
// that the rest is fetched into.
func ExampleStream() {
	ctx, from, to := context.Background(), temporary(), temporary()
	defer os.RemoveAll(from)
	defer os.RemoveAll(to)
	d, err := release.Pack(from, "v2", contents())
	if err != nil {
		log.Fatal(err)
	}
	src, err := cosign.OpenLayout(os.DirFS(from)) // or weblayout.Open, and then cosign.Verify
	if err != nil {
		log.Fatal(err)
	}
	a, err := release.Read(ctx, src, d)
	if err != nil {
		log.Fatal(err)
	}
	r, err := release.Stream(ctx, src, a, to, release.PullOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	root, _ := a.Layer(release.MediaTypeRoot)
	_, err = os.Stat(filepath.Join(to, "blobs", "sha256", root.Digest.Encoded()))
	fmt.Println(r.Version, r.Root.Size(), errors.Is(err, os.ErrNotExist))
	// Then upgrade.NewPlan(ctx, disk, r, machine, upgrade.PlanOptions{Delta: true})
	// Output: 2 4 true
}

// What verity.Patch fetches comes from the layer of the root file system, in pieces.
func ExampleNewBlobReader() {
	ctx, dir := context.Background(), temporary()
	defer os.RemoveAll(dir)
	d, err := release.Pack(dir, "v2", contents())
	if err != nil {
		log.Fatal(err)
	}
	src, err := cosign.OpenLayout(os.DirFS(dir))
	if err != nil {
		log.Fatal(err)
	}
	a, err := release.Read(ctx, src, d)
	if err != nil {
		log.Fatal(err)
	}
	root, _ := a.Layer(release.MediaTypeRoot)
	remote, err := release.NewBlobReader(ctx, src, root)
	if err != nil {
		log.Fatal(err)
	}
	piece := make([]byte, 2)
	if _, err := remote.ReadAt(piece, 1); err != nil && err != io.EOF {
		log.Fatal(err)
	}
	fmt.Printf("%s of %d bytes\n", piece, remote.Size())
	// Output: oo of 4 bytes
}

func printError(err error) { fmt.Println(err) }
