package verity_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/verity"
)

func TestSidecarsOf(t *testing.T) {
	for image, want := range map[string]verity.Sidecars{
		"acme.raw":       {RootHash: "acme.roothash", Signature: "acme.roothash.p7s", Tree: "acme.verity"},
		"dir/acme":       {RootHash: "dir/acme.roothash", Signature: "dir/acme.roothash.p7s", Tree: "dir/acme.verity"},
		"acme.raw.xz":    {RootHash: "acme.raw.xz.roothash", Signature: "acme.raw.xz.roothash.p7s", Tree: "acme.raw.xz.verity"},
		"/x.raw/a.erofs": {RootHash: "/x.raw/a.erofs.roothash", Signature: "/x.raw/a.erofs.roothash.p7s", Tree: "/x.raw/a.erofs.verity"},
	} {
		require.Equal(t, want, verity.SidecarsOf(image, false))
	}
	require.Equal(t, verity.Sidecars{RootHash: "acme.usrhash", Signature: "acme.usrhash.p7s", Tree: "acme.verity"}, verity.SidecarsOf("acme.raw", true))
}

// The files that systemd-nspawn looks for beside an image.
func ExampleSidecarsOf() {
	s := verity.SidecarsOf("/var/lib/machines/acme.raw", false)
	fmt.Println(s.RootHash)
	fmt.Println(s.Signature)
	fmt.Println(s.Tree)
	// Output:
	// /var/lib/machines/acme.roothash
	// /var/lib/machines/acme.roothash.p7s
	// /var/lib/machines/acme.verity
}
