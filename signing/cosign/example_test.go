package cosign_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith/signing/cosign"
)

// Cosign 3.1 signed this artifact with four keys, and cosign save wrote the layout.
func ExampleVerify() {
	pem, err := os.ReadFile("testdata/cosign/3.1-bundle/p256.pub")
	if err != nil {
		log.Fatal(err)
	}
	keys, err := cosign.ParseKeys(pem)
	if err != nil {
		log.Fatal(err)
	}
	layout, err := cosign.OpenLayout(os.DirFS("testdata/cosign/3.1-bundle"))
	if err != nil {
		log.Fatal(err)
	}
	artifact, err := layout.Resolve("")
	if err != nil {
		log.Fatal(err)
	}
	result, err := cosign.Verify(context.Background(), layout, artifact, cosign.Policy{Keys: keys})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("format:", result.Signatures[0].Format)
	fmt.Println("by other keys:", len(result.Rejected))
	// Output:
	// format: bundle
	// by other keys: 3
}

func ExampleSign() {
	ctx := context.Background()
	path, err := os.MkdirTemp("", "layout")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(path)
	dir, err := cosign.OpenDir(path)
	if err != nil {
		log.Fatal(err)
	}
	config, err := dir.WriteBlob(ocispec.MediaTypeEmptyJSON, strings.NewReader("{}"))
	if err != nil {
		log.Fatal(err)
	}
	artifact, err := dir.WriteManifest(ocispec.Manifest{
		ArtifactType: "application/vnd.example.os.v1",
		Config:       config,
		Layers:       []ocispec.Descriptor{config},
	}, "v1")
	if err != nil {
		log.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	policy := cosign.Policy{Keys: []crypto.PublicKey{key.Public()}}

	_, err = cosign.Verify(ctx, dir, artifact, policy)
	fmt.Println("unsigned:", errors.Is(err, cosign.ErrUnsigned))
	if err := cosign.Sign(ctx, dir, artifact, key, cosign.SignOptions{}); err != nil {
		log.Fatal(err)
	}
	result, err := cosign.Verify(ctx, dir, artifact, policy)
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range result.Signatures {
		fmt.Println(s.Format, "by the new key:", key.PublicKey.Equal(s.Key))
	}
	// Unordered output:
	// unsigned: true
	// simple signing by the new key: true
	// bundle by the new key: true
}

// A hardware token or a service signs; this process only puts things together.
func ExamplePrepare() {
	service, err := rsa.GenerateKey(rand.Reader, 2048) // of which this process has the public key
	if err != nil {
		log.Fatal(err)
	}
	ctx, store := context.Background(), new(cosign.Memory)
	artifact, err := store.WriteManifest(ocispec.Manifest{ArtifactType: "application/vnd.example.os"}, "v1")
	if err != nil {
		log.Fatal(err)
	}
	draft, err := cosign.Prepare(artifact, service.Public(), cosign.FormatSimpleSigning, cosign.SignOptions{Reference: "registry.example/os"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("sign with %v:\n%s\n", draft.Hash(), draft.Message())

	digest := sha256.Sum256(draft.Message()) // over there
	signature, err := service.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		log.Fatal(err)
	}
	if err := draft.Join(ctx, store, signature); err != nil {
		log.Fatal(err)
	}
	result, err := cosign.Verify(ctx, store, artifact, cosign.Policy{Keys: []crypto.PublicKey{service.Public()}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("verified:", result.Signatures[0].Format)
	// Output:
	// sign with SHA-256:
	// {"critical":{"identity":{"docker-reference":"registry.example/os"},"image":{"docker-manifest-digest":"sha256:a9309416154e7cc71f4cfa9bb781ab5e51301ab19be8b1e61f2c1e5c3eefd38e"},"type":"cosign container image signature"},"optional":null}
	// verified: simple signing
}
