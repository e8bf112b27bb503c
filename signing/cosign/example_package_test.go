package cosign_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/osmith-dev/osmith/signing/cosign"
)

// An artifact of an OCI layout is verified by a policy: the digest that comes out of it is trusted,
// and nothing that a tag says.
func Example() {
	layout, err := cosign.OpenLayout(os.DirFS("testdata/cosign/3.1-bundle"))
	if err != nil {
		log.Fatal(err)
	}
	artifact, err := layout.Resolve("")
	if err != nil {
		log.Fatal(err)
	}
	text, err := os.ReadFile("testdata/cosign/3.1-bundle/p256.pub")
	if err != nil {
		log.Fatal(err)
	}
	keys, err := cosign.ParseKeys(text)
	if err != nil {
		log.Fatal(err)
	}
	result, err := cosign.Verify(context.Background(), layout, artifact, cosign.Policy{Keys: keys})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(result.Subject.Digest == artifact.Digest)

	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	_, err = cosign.Verify(context.Background(), layout, artifact, cosign.Policy{Keys: []crypto.PublicKey{stranger.Public()}})
	fmt.Println(errors.Is(err, cosign.ErrUntrusted))
	// Output:
	// true
	// true
}
