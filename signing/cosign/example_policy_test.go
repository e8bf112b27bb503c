package cosign_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"strings"
	"testing/fstest"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/signing/cosign"
)

// exampleArtifact puts an artifact into a store.
func exampleArtifact(store cosign.Store) ocispec.Descriptor {
	config, err := store.WriteBlob(ocispec.MediaTypeEmptyJSON, strings.NewReader("{}"))
	if err != nil {
		log.Fatal(err)
	}
	artifact, err := store.WriteManifest(ocispec.Manifest{Config: config}, "v1")
	if err != nil {
		log.Fatal(err)
	}
	return artifact
}

// Two of three people must have signed what comes from one repository.
func ExampleParseRules() {
	files := fstest.MapFS{}
	for _, name := range []string{"p256", "rsa", "ed25519"} {
		text, err := cryptoutils.MarshalPublicKeyToPEM(public(name)[0])
		if err != nil {
			log.Fatal(err)
		}
		files[name+".pub"] = &fstest.MapFile{Data: text}
	}
	rules, err := cosign.ParseRules([]byte(`{"schema": "osmith.policy/1", "rules": [{
		"repository": "registry.example/os/*",
		"threshold": 2,
		"authorities": [
			{"name": "ann", "keys": ["p256.pub"]},
			{"name": "bob", "keys": ["rsa.pub"]},
			{"name": "cyd", "keys": ["ed25519.pub"]}]}]}`), files)
	if err != nil {
		log.Fatal(err)
	}
	policy, err := rules.For("registry.example/os/acme")
	if err != nil {
		log.Fatal(err)
	}
	_, err = rules.For("registry.example/else")
	fmt.Println("elsewhere:", errors.Is(err, cosign.ErrNoRule))

	ctx, store := context.Background(), new(cosign.Memory)
	artifact := exampleArtifact(store)
	for _, name := range []string{"rsa", "p256"} {
		if err := cosign.Sign(ctx, store, artifact, testKeys()[name], cosign.SignOptions{Formats: []cosign.Format{cosign.FormatSimpleSigning}}); err != nil {
			log.Fatal(err)
		}
		_, err := cosign.Verify(ctx, store, artifact, policy)
		var untrusted *cosign.UntrustedError
		if errors.As(err, &untrusted) {
			fmt.Println("signed by", untrusted.Signed, "and not by", untrusted.Absent)
		} else {
			fmt.Println("verified:", err == nil)
		}
	}
	// Output:
	// elsewhere: true
	// signed by [authority "bob"] and not by [ann cyd]
	// verified: true
}

// A policy can ask what an attestation says.
func ExampleAttest() {
	ctx, store := context.Background(), new(cosign.Memory)
	artifact := exampleArtifact(store)
	key := testKeys()["p256"]
	if err := cosign.Sign(ctx, store, artifact, key, cosign.SignOptions{}); err != nil {
		log.Fatal(err)
	}
	policy := cosign.Policy{Keys: public("p256"), Attestations: []cosign.AttestationRule{{
		PredicateTypes: []string{cosign.PredicateSLSAProvenance},
		Check: func(_ string, predicate json.RawMessage) error {
			var p struct {
				BuildDefinition struct {
					BuildType string `json:"buildType"`
				} `json:"buildDefinition"`
			}
			if err := json.Unmarshal(predicate, &p); err != nil {
				return err
			}
			if p.BuildDefinition.BuildType != "https://ci.example/os" {
				return fmt.Errorf("built as %q", p.BuildDefinition.BuildType)
			}
			return nil
		},
	}}}
	for _, built := range []string{"https://laptop.example", "https://ci.example/os"} {
		predicate := fmt.Appendf(nil, `{"buildDefinition": {"buildType": %q}}`, built)
		if err := cosign.Attest(ctx, store, artifact, cosign.PredicateSLSAProvenance, predicate, key, cosign.SignOptions{}); err != nil {
			log.Fatal(err)
		}
		_, err := cosign.Verify(ctx, store, artifact, policy)
		fmt.Println(built, err == nil)
	}
	// Output:
	// https://laptop.example false
	// https://ci.example/os true
}

// A machine keeps the proof beside what it has fetched.
func ExampleCopySignatures() {
	ctx, server, machine := context.Background(), new(cosign.Memory), new(cosign.Memory)
	artifact := exampleArtifact(server)
	exampleArtifact(machine)
	if err := cosign.Sign(ctx, server, artifact, testKeys()["p256"], cosign.SignOptions{}); err != nil {
		log.Fatal(err)
	}
	n, err := cosign.CopySignatures(ctx, machine, server, artifact)
	if err != nil {
		log.Fatal(err)
	}
	result, err := cosign.Verify(ctx, machine, artifact, cosign.Policy{Keys: public("p256")})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(n, "manifests,", len(result.Signatures), "signatures")
	// Output: 2 manifests, 2 signatures
}

// Act upon nothing before the end of the blob was reached without an error.
func ExampleOpenBlob() {
	ctx, store := context.Background(), new(cosign.Memory)
	d, err := store.WriteBlob("text/plain", strings.NewReader("a layer"))
	if err != nil {
		log.Fatal(err)
	}
	r, err := cosign.OpenBlob(ctx, store, d)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	fmt.Printf("%s, %v\n", content, err)

	d.Size-- // the wrong size
	r, err = cosign.OpenBlob(ctx, store, d)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	_, err = io.ReadAll(r)
	var wrong *osmith.DigestError
	fmt.Println("wrong:", errors.As(err, &wrong))
	// Output:
	// a layer, <nil>
	// wrong: true
}
