package release_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/verity"
)

// A machine has version 1, whose root file system has most blocks of version 2. The hash tree of
// version 2 is fetched first, since it tells which blocks to fetch; then those blocks; Pull fetches
// the rest of the release.
func ExamplePartial() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "partial")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	oldRoot, oldTree := rootOf(filepath.Join(dir, "1.verity"), "the root file system of version 1")
	newRoot, newTree := rootOf(filepath.Join(dir, "2.verity"), "the root file system of version 2")
	published, fetched := filepath.Join(dir, "published"), filepath.Join(dir, "fetched")
	packed, err := release.Pack(published, "v2", &release.Release{
		ID: "acme", Version: "2", UKI: strings.NewReader("a signed UKI"),
		Root: newRoot, Tree: newTree.Source, RootHash: newTree.RootHash,
	})
	if err != nil {
		log.Fatal(err)
	}

	src, err := cosign.OpenLayout(os.DirFS(published)) // or weblayout.Open
	if err != nil {
		log.Fatal(err)
	}
	found, err := release.Read(ctx, src, packed) // after cosign.Verify
	if err != nil {
		log.Fatal(err)
	}
	name, err := release.PullLayer(ctx, src, found, fetched, release.MediaTypeTree)
	if err != nil {
		log.Fatal(err)
	}
	tree, err := osmith.OpenFile(name)
	if err != nil {
		log.Fatal(err)
	}
	defer tree.Close()
	want := verity.Tree{Source: tree, RootHash: found.RootHash}
	delta, err := verity.Diff(ctx, oldTree, want, verity.DiffOptions{})
	if err != nil {
		log.Fatal(err)
	}

	layer, _ := found.Layer(release.MediaTypeRoot)
	remote, err := release.NewBlobReader(ctx, src, layer)
	if err != nil {
		log.Fatal(err)
	}
	partial, err := release.Partial(fetched, layer)
	if err != nil {
		log.Fatal(err)
	}
	result, err := verity.Patch(ctx, partial, oldRoot, remote, want, delta, verity.PatchOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("blocks copied:", result.Copied, "fetched:", result.Fetched)
	if err := partial.Close(); err != nil {
		log.Fatal(err)
	}
	if err := release.Pull(ctx, src, found, fetched, release.PullOptions{Ref: "v2"}); err != nil {
		log.Fatal(err)
	}
	r, err := release.Open(ctx, os.DirFS(fetched), packed)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	fmt.Println("complete:", r.Version, r.Root.Size() == newRoot.Size())
	// Output:
	// blocks copied: 32 fetched: 1
	// complete: 2 true
}

// rootOf makes an image that has a block for each letter, and its hash tree in a file.
func rootOf(name, letters string) (*bytes.Reader, verity.Tree) {
	var blocks []byte
	for _, letter := range []byte(letters) {
		blocks = append(blocks, bytes.Repeat([]byte{letter}, 4096)...)
	}
	image := bytes.NewReader(blocks)
	file, err := os.Create(name)
	if err != nil {
		log.Fatal(err)
	}
	defer file.Close()
	hash, err := verity.Format(context.Background(), file, image, verity.Params{Salt: []byte("the same for every version")})
	if err != nil {
		log.Fatal(err)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		log.Fatal(err)
	}
	return image, verity.Tree{Source: bytes.NewReader(text), RootHash: hash}
}
