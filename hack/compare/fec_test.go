package compare

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/verity"
	"github.com/osmith-dev/osmith/verity/fec"
)

// verityFEC makes tree and parity.
func verityFEC(size int64, roots int) func(b *testing.B) sides {
	return func(b *testing.B) sides {
		dir := b.TempDir()
		data := source(noise(b, filepath.Join(dir, "data"), size))
		salt, err := hex.DecodeString(saltHex)
		require.NoError(b, err)
		p := verity.Params{Salt: salt}
		return sides{
			ours: func() error {
				return create(filepath.Join(dir, "ours"), func(tree *os.File) error {
					if _, err := verity.Format(context.Background(), tree, data, p); err != nil {
						return err
					}
					hash, err := fec.HashArea(source(tree), p)
					if err != nil {
						return err
					}
					return create(filepath.Join(dir, "ours.fec"), func(parity *os.File) error {
						return fec.Encode(context.Background(), parity, data, hash, fec.Params{Roots: roots})
					})
				})
			},
			reference: host(b, fmt.Sprintf("cd %s; rm -f theirs theirs.fec; veritysetup format --salt=%s --uuid=%s --fec-device=theirs.fec --fec-roots=%d data theirs",
				dir, saltHex, uuid, roots), "veritysetup"),
		}
	}
}
