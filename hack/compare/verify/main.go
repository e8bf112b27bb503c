// This program verifies a release on a web server by a key, as an agent that links nothing else
// would:
//
//	verify URL REF KEY
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/upgrade/release/weblayout"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: verify URL REF KEY")
		os.Exit(2)
	}
	if err := verify(context.Background(), os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func verify(ctx context.Context, address, ref, key string) error {
	text, err := os.ReadFile(key)
	if err != nil {
		return err
	}
	keys, err := cosign.ParseKeys(text)
	if err != nil {
		return err
	}
	layout, err := weblayout.Open(address, weblayout.OpenOptions{Client: http.DefaultClient})
	if err != nil {
		return err
	}
	artifact, err := layout.Resolve(ctx, ref)
	if err != nil {
		return err
	}
	result, err := cosign.Verify(ctx, layout, artifact, cosign.Policy{Keys: keys})
	if err != nil {
		return err
	}
	fmt.Println(result.Subject.Digest)
	return nil
}
