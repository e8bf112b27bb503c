package release_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/verity"
)

// A vendor packs a version of the system into an OCI layout and signs it; a machine verifies the
// signature, fetches the release and opens it for package upgrade.
func Example() {
	dir, err := os.MkdirTemp("", "release")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	public, private, err := ed25519.GenerateKey(nil) // or any crypto.Signer
	if err != nil {
		log.Fatal(err)
	}

	artifact, err := publishVersion2(filepath.Join(dir, "published"), private)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("published", artifact.ArtifactType)

	r, err := fetchVerified(filepath.Join(dir, "published"), filepath.Join(dir, "fetched"), public)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	fmt.Println("fetched", r.ID, r.Version)
	fmt.Printf("%d bytes of root file system with root hash %x…\n", r.Root.Size(), r.RootHash[:4])
	// Output:
	// published application/vnd.osmith.release.v1
	// fetched acme 2
	// 65536 bytes of root file system with root hash d7467153…
}

// publishVersion2 is the side of the vendor.
func publishVersion2(dir string, key crypto.Signer) (artifact ocispec.Descriptor, err error) {
	layout, err := cosign.OpenDir(dir) // makes it
	if err != nil {
		return artifact, err
	}
	root := bytes.NewReader(bytes.Repeat([]byte("an EROFS image. "), 4096))
	file, err := os.Create(dir + ".verity")
	if err != nil {
		return artifact, err
	}
	defer file.Close()
	rootHash, err := verity.Format(context.Background(), file, root, verity.Params{Salt: []byte("32 random bytes")})
	if err != nil {
		return artifact, err
	}
	tree, err := osmith.NewDevice(file)
	if err != nil {
		return artifact, err
	}
	artifact, err = release.PackInto(layout, "v2", &release.Release{
		ID: "acme", Version: "2",
		UKI:  strings.NewReader("of build.UKI, with the root hash on its command line"),
		Root: root, Tree: tree, RootHash: rootHash,
	})
	if err != nil {
		return artifact, err
	}
	return artifact, cosign.Sign(context.Background(), layout, artifact, key, cosign.SignOptions{})
}

// fetchVerified is the side of the machine. weblayout.Open and registry.Open read from servers.
func fetchVerified(from, to string, key crypto.PublicKey) (*release.Release, error) {
	ctx := context.Background()
	src, err := cosign.OpenLayout(os.DirFS(from))
	if err != nil {
		return nil, err
	}
	named, err := src.Resolve("v2") // a name is a hint, and nothing more
	if err != nil {
		return nil, err
	}
	verified, err := cosign.Verify(ctx, src, named, cosign.Policy{Keys: []crypto.PublicKey{key}})
	if err != nil {
		return nil, err
	}
	found, err := release.Read(ctx, src, verified.Subject)
	if err != nil {
		return nil, err
	}
	if err := release.Pull(ctx, src, found, to, release.PullOptions{}); err != nil {
		return nil, err
	}
	return release.Open(ctx, os.DirFS(to), verified.Subject)
}
