package cosign_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
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

// exampleKey stands for a key of a file, of an HSM or of a service.
func exampleKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	return key
}

// Two of three people must have signed what comes from one repository.
func ExampleParseRules() {
	people := map[string]*ecdsa.PrivateKey{"ann": exampleKey(), "bob": exampleKey(), "cyd": exampleKey()}
	files := fstest.MapFS{} // os.DirFS of the policy's directory
	for name, key := range people {
		text, err := cryptoutils.MarshalPublicKeyToPEM(key.Public())
		if err != nil {
			log.Fatal(err)
		}
		files[name+".pub"] = &fstest.MapFile{Data: text}
	}
	rules, err := cosign.ParseRules([]byte(`{"schema": "osmith.policy/1", "rules": [{
		"repository": "registry.example/os/*",
		"threshold": 2,
		"authorities": [
			{"name": "ann", "keys": ["ann.pub"]},
			{"name": "bob", "keys": ["bob.pub"]},
			{"name": "cyd", "keys": ["cyd.pub"]}]}]}`), files)
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
	for _, name := range []string{"bob", "ann"} {
		if err := cosign.Sign(ctx, store, artifact, people[name], cosign.SignOptions{Formats: []cosign.Format{cosign.FormatSimpleSigning}}); err != nil {
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
	key := exampleKey()
	if err := cosign.Sign(ctx, store, artifact, key, cosign.SignOptions{}); err != nil {
		log.Fatal(err)
	}
	policy := cosign.Policy{Keys: []crypto.PublicKey{key.Public()}, Attestations: []cosign.AttestationRule{{
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

// What is released was built by the builder and has passed its tests.
func ExampleContent() {
	ctx, store := context.Background(), new(cosign.Memory)
	artifact := exampleArtifact(store)
	key := exampleKey()
	if err := cosign.Sign(ctx, store, artifact, key, cosign.SignOptions{}); err != nil {
		log.Fatal(err)
	}
	const tested = "https://in-toto.io/attestation/test-result/v0.1"
	policy := cosign.Policy{Keys: []crypto.PublicKey{key.Public()}, Attestations: []cosign.AttestationRule{{
		PredicateTypes: []string{tested},
		Contents:       []cosign.Content{{Pointer: "/result", Values: []string{"PASSED"}}},
	}}}
	for _, result := range []string{"FAILED", "PASSED"} {
		if err := cosign.Attest(ctx, store, artifact, tested, fmt.Appendf(nil, `{"result": %q}`, result), key, cosign.SignOptions{}); err != nil {
			log.Fatal(err)
		}
		_, err := cosign.Verify(ctx, store, artifact, policy)
		fmt.Println(result, err == nil)
	}
	// Output:
	// FAILED false
	// PASSED true
}

// A machine keeps the proof beside what it has fetched.
func ExampleCopySignatures() {
	ctx, server, machine := context.Background(), new(cosign.Memory), new(cosign.Memory)
	artifact, key := exampleArtifact(server), exampleKey()
	exampleArtifact(machine)
	if err := cosign.Sign(ctx, server, artifact, key, cosign.SignOptions{}); err != nil {
		log.Fatal(err)
	}
	n, err := cosign.CopySignatures(ctx, machine, server, artifact)
	if err != nil {
		log.Fatal(err)
	}
	result, err := cosign.Verify(ctx, machine, artifact, cosign.Policy{Keys: []crypto.PublicKey{key.Public()}})
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
