package registry_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net/http/httptest"
	"os"
	"strings"

	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/upgrade/release/registry"
)

// A release goes into a registry, is signed there, and a machine fetches it.
func ExampleOpen() {
	if err := publishAndFetch(); err != nil {
		fmt.Println(err)
	}
	// Output:
	// before: not signed
	// acme 2 is signed, and here
}

func publishAndFetch() error {
	server := httptest.NewServer(ggcr.New(ggcr.WithReferrersSupport(true), ggcr.Logger(stdlog.New(io.Discard, "", 0))))
	defer server.Close()
	repo, err := registry.Open(strings.TrimPrefix(server.URL, "http://")+"/os/acme", registry.OpenOptions{Client: server.Client(), PlainHTTP: true})
	if err != nil {
		return err
	}
	ctx := context.Background()
	if _, err := release.PackInto(repo.Writer(ctx), "v2", contents()); err != nil {
		return err
	}
	artifact, err := repo.Resolve(ctx, "v2") // a hint, and nothing more
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	policy := cosign.Policy{Keys: []crypto.PublicKey{key.Public()}}
	if _, err := cosign.Verify(ctx, repo, artifact, policy); errors.Is(err, cosign.ErrUnsigned) {
		fmt.Println("before:", cosign.ErrUnsigned)
	}
	if err := cosign.Sign(ctx, repo.Writer(ctx), artifact, key, cosign.SignOptions{}); err != nil {
		return err
	}

	result, err := cosign.Verify(ctx, repo, artifact, policy)
	if err != nil {
		return err
	}
	a, err := release.Read(ctx, repo, result.Subject)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "release")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := release.Pull(ctx, repo, a, dir, release.PullOptions{}); err != nil {
		return err
	}
	fmt.Println(a.ID, a.Version, "is signed, and here")
	return nil
}

func ExampleRepository_Push() {
	if err := push(); err != nil {
		fmt.Println(err)
	}
	// Output: 1 release, 2 manifests with signatures
}

func push() error {
	server := httptest.NewServer(ggcr.New(ggcr.WithReferrersSupport(true), ggcr.Logger(stdlog.New(io.Discard, "", 0))))
	defer server.Close()
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "layout")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	artifact, err := release.Pack(dir, "v2", contents())
	if err != nil {
		return err
	}
	layout, err := cosign.OpenDir(dir)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if err := cosign.Sign(ctx, layout, artifact, key, cosign.SignOptions{}); err != nil {
		return err
	}
	repo, err := registry.Open(strings.TrimPrefix(server.URL, "http://")+"/os/acme", registry.OpenOptions{Client: server.Client(), PlainHTTP: true})
	if err != nil {
		return err
	}
	if err := repo.Push(ctx, layout, artifact, registry.PushOptions{Tag: "v2"}); err != nil {
		return err
	}
	signatures, err := repo.Signatures(ctx, artifact)
	if err != nil {
		return err
	}
	fmt.Println("1 release,", len(signatures), "manifests with signatures")
	return nil
}
