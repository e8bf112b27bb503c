package registry_test

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"strings"

	inmemory "github.com/google/go-containerregistry/pkg/registry"

	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/upgrade/release/registry"
)

// A vendor puts a release into a registry and signs it there. A machine fetches it once it is
// signed.
func Example() {
	server := httptest.NewServer(inmemory.New(inmemory.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	repo, err := registry.Open(strings.TrimPrefix(server.URL, "http://")+"/os/acme",
		registry.OpenOptions{Client: server.Client(), PlainHTTP: true})
	if err != nil {
		log.Fatal(err)
	}
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)) // of an HSM, or ed25519.GenerateKey
	policy := cosign.Policy{Keys: []crypto.PublicKey{key.Public()}}

	ctx := context.Background()
	packed, err := release.PackInto(repo.Writer(ctx), "v2", &release.Release{
		ID: "acme", Version: "2", UKI: strings.NewReader("a signed UKI"),
	})
	if err != nil {
		log.Fatal(err)
	}
	_, err = fetchSigned(ctx, repo, "v2", policy)
	fmt.Println("not signed:", errors.Is(err, cosign.ErrUnsigned))

	if err := cosign.Sign(ctx, repo.Writer(ctx), packed, key, cosign.SignOptions{}); err != nil {
		log.Fatal(err)
	}
	version, err := fetchSigned(ctx, repo, "v2", policy)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("fetched: version", version)
	// Output:
	// not signed: true
	// fetched: version 2
}

// fetchSigned is what a machine does. It returns the version that was fetched.
func fetchSigned(ctx context.Context, repo *registry.Repository, tag string, policy cosign.Policy) (version string, err error) {
	named, err := repo.Resolve(ctx, tag) // a tag is a hint, and nothing more
	if err != nil {
		return "", err
	}
	verified, err := cosign.Verify(ctx, repo, named, policy)
	if err != nil {
		return "", err
	}
	artifact, err := release.Read(ctx, repo, verified.Subject)
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "release")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	return artifact.Version, release.Pull(ctx, repo, artifact, dir, release.PullOptions{})
}
