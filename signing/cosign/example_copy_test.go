package cosign_test

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"log"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith/signing/cosign"
)

// What was believed goes along with an artifact, and nothing else that refers to it.
func ExampleCopyVerified() {
	ctx := context.Background()
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)) // yours comes from elsewhere
	stranger := ed25519.NewKeyFromSeed(append(make([]byte, ed25519.SeedSize-1), 1))
	from, to := new(cosign.Memory), new(cosign.Memory)
	var artifact ocispec.Descriptor
	for _, store := range []*cosign.Memory{from, to} {
		var err error
		if artifact, err = store.WriteManifest(ocispec.Manifest{ArtifactType: "application/vnd.example.os"}, "v1"); err != nil {
			fmt.Println(err)
			return
		}
	}
	for _, signer := range []crypto.Signer{key, stranger} {
		if err := cosign.Sign(ctx, from, artifact, signer, cosign.SignOptions{}); err != nil {
			fmt.Println(err)
			return
		}
	}
	policy := cosign.Policy{Keys: []crypto.PublicKey{key.Public()}, Limits: cosign.Limits{Attestation: 1 << 20}}
	result, err := cosign.Verify(ctx, from, artifact, policy)
	if err != nil {
		fmt.Println(err)
		return
	}
	n, err := cosign.CopyVerified(ctx, to, from, result)
	if err != nil {
		fmt.Println(err)
		return
	}
	again, err := cosign.Verify(ctx, to, artifact, policy)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(n, "copied;", len(result.Rejected), "left;", len(again.Rejected), "strange there")
	// Output: 2 copied; 2 left; 0 strange there
}

// A mirror adds signatures that it has fetched to those that a store has under cosign's tag; what
// others put there stays.
func ExampleMergeTag() {
	ctx, store := context.Background(), new(cosign.Memory) // or a Writer of package registry
	const tag = "sha256-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.sig"
	for _, payload := range []string{"theirs", "ours", "ours"} {
		layer, err := store.WriteBlob("application/vnd.dev.cosign.simplesigning.v1+json", strings.NewReader(payload))
		if err != nil {
			log.Fatal(err)
		}
		if err := cosign.MergeTag(ctx, store, tag, []ocispec.Descriptor{layer}); err != nil {
			log.Fatal(err)
		}
	}
	d, err := store.ResolveTag(ctx, tag)
	if err != nil {
		log.Fatal(err)
	}
	r, err := store.Blob(ctx, d)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	var m ocispec.Manifest
	if err := json.NewDecoder(r).Decode(&m); err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(m.Layers), "signatures")
	// Output: 2 signatures
}
