package registry_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	inmemory "github.com/google/go-containerregistry/pkg/registry"

	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release"
	"github.com/osmith-dev/osmith/upgrade/release/registry"
)

// A registry that wants a password is told it; a tag that it does not have is an error of its own.
func ExampleOpen() {
	handler := inmemory.New(inmemory.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="acme"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	defer server.Close()

	host := strings.TrimPrefix(server.URL, "http://")
	repo, err := registry.Open(host+"/os/acme", registry.OpenOptions{
		Client:    server.Client(),
		PlainHTTP: true, // never with passwords, but on the machine itself
		Credentials: func(context.Context, string) (registry.Credentials, error) {
			return registry.Credentials{Username: "machine", Password: "secret"}, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(repo.Name() == host+"/os/acme")
	_, err = repo.Resolve(context.Background(), "v3")
	fmt.Println(errors.Is(err, registry.ErrNotFound))
	// Output:
	// true
	// true
}

// A release that was packed and signed elsewhere goes into a registry, with its signatures.
func ExampleRepository_Push() {
	ctx := context.Background()
	var made cosign.Memory // or cosign.OpenDir
	artifact, err := release.PackInto(&made, "", &release.Release{ID: "acme", Version: "2", UKI: strings.NewReader("a signed UKI")})
	if err != nil {
		log.Fatal(err)
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		log.Fatal(err)
	}
	if err := cosign.Sign(ctx, &made, artifact, key, cosign.SignOptions{}); err != nil {
		log.Fatal(err)
	}

	server := httptest.NewServer(inmemory.New(inmemory.WithReferrersSupport(true), inmemory.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	name := strings.TrimPrefix(server.URL, "http://") + "/os/acme"
	repo, err := registry.Open(name, registry.OpenOptions{Client: server.Client(), PlainHTTP: true})
	if err != nil {
		log.Fatal(err)
	}
	if err := repo.Push(ctx, &made, artifact, registry.PushOptions{Tag: "v2"}); err != nil {
		log.Fatal(err)
	}
	tagged, err := repo.Resolve(ctx, "v2")
	if err != nil {
		log.Fatal(err)
	}
	signatures, err := repo.Signatures(ctx, tagged)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("the same release:", tagged.Digest == artifact.Digest)
	fmt.Println("manifests with signatures:", len(signatures))
	// Output:
	// the same release: true
	// manifests with signatures: 2
}
