package keyless_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/signing/cosign/keyless"
)

// A machine verifies that the release workflow of the vendor has signed an artifact. The vendor has
// no key: the policy names an identity, and the trusted root names who vouches for identities. Both
// are part of the image that runs on the machine.
func Example() {
	ctx := context.Background()
	root, err := os.ReadFile("testdata/identities/trusted_root.json") // of a private Sigstore
	if err != nil {
		log.Fatal(err)
	}
	verifier, err := keyless.New(root, keyless.VerifierOptions{
		WithoutCertificateTimestamps: true, // its authority writes no certificate transparency log
	})
	if err != nil {
		log.Fatal(err)
	}
	policy := cosign.Policy{
		Identities: verifier,
		Authorities: []cosign.Authority{{Name: "ci", Identities: []cosign.Identity{
			{Issuer: "https://issuer.example", Subject: "release@acme.example"},
		}}},
	}

	// Package weblayout and module registry fetch from a server instead.
	layout, err := cosign.OpenLayout(os.DirFS("testdata/identities/layout"))
	if err != nil {
		log.Fatal(err)
	}
	for _, tag := range []string{"2", "3"} {
		artifact, err := layout.Resolve(tag)
		if err != nil {
			log.Fatal(err)
		}
		result, err := cosign.Verify(ctx, layout, artifact, policy)
		if errors.Is(err, cosign.ErrUnsigned) {
			fmt.Println("release", tag, "is not signed")
			continue
		}
		if err != nil {
			log.Fatal(err)
		}
		signer := result.Signatures[0].Identity
		fmt.Println("release", tag, "was signed by", signer.Subject, "of", signer.Issuer)
	}
	// Output:
	// release 2 was signed by release@acme.example of https://issuer.example
	// release 3 is not signed
}
