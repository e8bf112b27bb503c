package keyless_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/signing/cosign/keyless"
)

func ExampleNew() {
	root, err := os.ReadFile("testdata/trusted-root-public-good.json")
	if err != nil {
		fmt.Println(err)
		return
	}
	verifier, err := keyless.New(root, keyless.VerifierOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	policy := cosign.Policy{
		Identities: verifier,
		Authorities: []cosign.Authority{{Name: "ci", Identities: []cosign.Identity{{
			Issuer:        "https://token.actions.githubusercontent.com",
			SubjectRegexp: `https://github\.com/acme/os/\.github/workflows/release\.yml@refs/tags/.*`,
		}}}},
	}
	var store cosign.Memory
	config, err := store.WriteBlob(ocispec.MediaTypeEmptyJSON, strings.NewReader("{}"))
	if err != nil {
		fmt.Println(err)
		return
	}
	artifact, err := store.WriteManifest(ocispec.Manifest{Config: config}, "v1")
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = cosign.Verify(context.Background(), &store, artifact, policy)
	fmt.Println("unsigned:", errors.Is(err, cosign.ErrUnsigned))
	// Output: unsigned: true
}
