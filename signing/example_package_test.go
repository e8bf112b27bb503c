package signing_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"log"
	"os"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// The three signatures of a vendor: one that the firmware checks before it starts a program, one
// that makes the firmware trust the vendor, and one that the updater checks before it installs.
func Example() {
	// Once per product: the keys.
	year := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	keys, err := secureboot.Generate(nil, secureboot.GenerateOptions{CommonName: "Acme OS", NotBefore: year, NotAfter: year.AddDate(20, 0, 0)})
	if err != nil {
		log.Fatal(err)
	}
	releases, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}

	// Every build: the program is signed, then the release that has it.
	program, err := os.ReadFile("authenticode/testdata/plain.efi") // a UKI
	if err != nil {
		log.Fatal(err)
	}
	var signed bytes.Buffer
	if err := authenticode.Sign(&signed, bytes.NewReader(program), keys.DB.Key, keys.DB.Cert, authenticode.SignOptions{}); err != nil {
		log.Fatal(err)
	}
	ctx, registry := context.Background(), new(cosign.Memory)
	layer, err := registry.WriteBlob("application/vnd.acme.uki", bytes.NewReader(signed.Bytes()))
	if err != nil {
		log.Fatal(err)
	}
	release, err := registry.WriteManifest(ocispec.Manifest{ArtifactType: "application/vnd.acme.os", Layers: []ocispec.Descriptor{layer}}, "1.0")
	if err != nil {
		log.Fatal(err)
	}
	if err := cosign.Sign(ctx, registry, release, releases, cosign.SignOptions{}); err != nil {
		log.Fatal(err)
	}

	// Every machine: it was enrolled once, and may it install and start the release?
	enrollment, err := keys.Enroll(secureboot.EnrollOptions{NothingMustBoot: true, Time: year, OptionROMs: secureboot.OptionROMs{TrustNoOptionROMsAtTheRiskOfABlackScreen: true}})
	if err != nil {
		log.Fatal(err)
	}
	verified, err := cosign.Verify(ctx, registry, release, cosign.Policy{Keys: []crypto.PublicKey{releases.Public()}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("install:", verified.Subject.Digest == release.Digest)
	image, err := secureboot.ReadImage(bytes.NewReader(signed.Bytes()))
	if err != nil {
		log.Fatal(err)
	}
	verdict := secureboot.Evaluate(enrollment.Variables, image, secureboot.EvaluateOptions{})
	fmt.Println("start:", verdict.Allowed, verdict.Reason)
	// Output:
	// install: true
	// start: true db has the certificate "CN=Acme OS Signature Database Key"
}
