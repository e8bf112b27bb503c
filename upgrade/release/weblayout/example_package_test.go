package weblayout_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/upgrade/release/weblayout"
)

// A vendor puts a signed release onto a file server, and a machine fetches it. The server is not
// trusted: after a change of the UKI there, the machine refuses the release.
func Example() {
	published, err := os.MkdirTemp("", "published")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(published)
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)) // of an HSM, or ed25519.GenerateKey
	publish(published, key)
	server := httptest.NewServer(http.FileServer(http.Dir(published)))
	defer server.Close()

	policy := cosign.Policy{Keys: []crypto.PublicKey{key.Public()}}
	fmt.Println("fetched:", fetchFrom(server.URL, policy))

	uki := filepath.Join(published, "blobs", "sha256", fmt.Sprintf("%x", sha256.Sum256([]byte("a signed UKI"))))
	if err := os.WriteFile(uki, []byte("a strange UK"), 0o644); err != nil {
		log.Fatal(err)
	}
	fmt.Println("fetched:", fetchFrom(server.URL, policy))
	// Output:
	// fetched: <nil>
	// fetched: release: blob sha256:6e2d7667caa35cb26811b1408f04d4eaca6c61dfa44a3234b2eaad28e4b4be85: the content has digest sha256:81e2c9057ef117e1440864dc305e74f428b87a506dc41680d9d9b8fe1c19f4f3
}

// publish writes a layout with one release and its signature.
func publish(dir string, key crypto.Signer) {
	artifact, err := release.Pack(dir, "v2", &release.Release{ID: "acme", Version: "2", UKI: bytes.NewReader([]byte("a signed UKI"))})
	if err != nil {
		log.Fatal(err)
	}
	layout, err := cosign.OpenDir(dir)
	if err != nil {
		log.Fatal(err)
	}
	if err := cosign.Sign(context.Background(), layout, artifact, key, cosign.SignOptions{}); err != nil {
		log.Fatal(err)
	}
}

// fetchFrom is what a machine does.
func fetchFrom(url string, policy cosign.Policy) error {
	ctx := context.Background()
	src, err := weblayout.Open(url, weblayout.OpenOptions{Client: http.DefaultClient})
	if err != nil {
		return err
	}
	named, err := src.Resolve(ctx, "v2") // a name is a hint, and nothing more
	if err != nil {
		return err
	}
	verified, err := cosign.Verify(ctx, src, named, policy)
	if err != nil {
		return err
	}
	found, err := release.Read(ctx, src, verified.Subject)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "fetched")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	return release.Pull(ctx, src, found, dir, release.PullOptions{})
}
