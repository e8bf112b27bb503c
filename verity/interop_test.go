package verity

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
)

var rootHashLine = regexp.MustCompile(`Root hash:\s+([0-9a-f]{64})`)

// TestInteropVeritysetup compares trees with those of veritysetup over sizes and
// salts from a fixed seed, and has it verify ours.
func TestInteropVeritysetup(t *testing.T) {
	testtools.Require(t, "veritysetup")
	r := rand.New(rand.NewPCG(20, 26))
	sizes := []int64{1, 2, 127, 128, 129, perBlock * perBlock, perBlock*perBlock + 1}
	for range 20 {
		sizes = append(sizes, 1+r.Int64N(4000))
	}
	for i, blocks := range sizes {
		dir := t.TempDir()
		p := Params{Salt: make([]byte, []int{0, 1, 32, 64, 256, 1 + r.IntN(256)}[i%6])}
		for i := range p.Salt {
			p.Salt[i] = byte(r.Uint32())
		}
		for i := range p.UUID {
			p.UUID[i] = byte(r.Uint32())
		}
		data := newMemory(blocks * blockSize)
		for b := range blocks {
			fill := data[b*blockSize : (b+1)*blockSize]
			clear(fill)
			if r.IntN(3) > 0 {
				for i := 0; i < blockSize; i += 1 + r.IntN(64) {
					fill[i] = byte(r.Uint32())
				}
			}
		}
		tree, root := formatMemory(t, data, p)
		salt := "-"
		if len(p.Salt) > 0 {
			salt = hex.EncodeToString(p.Salt)
		}
		u := hex.EncodeToString(p.UUID[:])
		dataPath, treePath, ourPath := filepath.Join(dir, "data"), filepath.Join(dir, "tree"), filepath.Join(dir, "ours")
		require.NoError(t, os.WriteFile(dataPath, data, 0o600))
		require.NoError(t, os.WriteFile(ourPath, tree, 0o600))
		out := testtools.Run(t, "veritysetup", "format", dataPath, treePath, "--salt="+salt,
			"--uuid="+u[:8]+"-"+u[8:12]+"-"+u[12:16]+"-"+u[16:20]+"-"+u[20:])
		theirs, err := os.ReadFile(treePath)
		require.NoError(t, err)
		require.True(t, bytes.Equal(theirs, tree), "%d blocks, salt %s: trees differ", blocks, salt)
		match := rootHashLine.FindStringSubmatch(out)
		require.NotNil(t, match, out)
		assert.Equal(t, hex.EncodeToString(root), match[1])

		testtools.Run(t, "veritysetup", "verify", dataPath, ourPath, hex.EncodeToString(root))
		require.NoError(t, Verify(context.Background(), data, memory(theirs), root))
		assert.Contains(t, testtools.Run(t, "veritysetup", "dump", ourPath), fmt.Sprintf("Data blocks:     \t%d\n", blocks))
	}
}
