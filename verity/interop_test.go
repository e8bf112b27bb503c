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
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
)

// TestInteropVeritysetup compares trees with those of two releases of veritysetup over
// random parameters, has it verify ours, and verifies its own.
func TestInteropVeritysetup(t *testing.T) {
	const batch = 25
	r, long := testtools.Seed(t)
	batches := 4
	if long {
		batches = 14
	}
	t.Run("host", func(t *testing.T) {
		testtools.Require(t, "veritysetup")
		for range batches {
			interop(t, r, batch, func(dir, script string) string {
				return testtools.Run(t, "sh", "-c", "PATH=$PATH:/usr/sbin:/sbin; . "+script)
			})
		}
	})
	t.Run("forky", func(t *testing.T) {
		forky := testtools.Forky(t)
		for range batches {
			interop(t, r, batch, func(dir, script string) string {
				return forky.Run(t, dir, "sh", script)
			})
		}
	})
}

var rootHashLine = regexp.MustCompile(`Root hash:\s+([0-9a-f]+)`)

// interop has one script run all of a batch, since entering a tree takes long.
func interop(t *testing.T, r *rand.Rand, n int, run func(dir, script string) string) {
	dir := t.TempDir()
	defer os.RemoveAll(dir)
	type formatted struct {
		randomCase
		data, device memory
		root         []byte
	}
	var all []formatted
	script := "set -e\n"
	for i := range n {
		c := random(r)
		c.blocks = min(c.blocks, (1<<20)/c.DataBlockSize)
		if c.shared {
			c.HashOffset, _ = SharedHashOffset(int64(c.blocks*c.DataBlockSize), c.Params)
		}
		f := formatted{randomCase: c, data: c.data(r)}
		f.device, f.root = c.image(t, f.data)
		all = append(all, f)

		write := func(name string, content []byte) string {
			path := filepath.Join(dir, fmt.Sprint(i, name))
			require.NoError(t, os.WriteFile(path, content, 0o600))
			return path
		}
		data, ours := write("data", f.data), write("ours", f.device)
		// Older releases do not write a superblock near the end of a file.
		device := append(f.device[:c.HashOffset:c.HashOffset], make([]byte, len(f.device)+4096)...)
		theirs := write("theirs", device[:(len(f.device)+4095)/4096*4096])
		ourData := data
		if c.shared {
			data, ourData = theirs, ours
		}
		args := c.arguments()
		script += fmt.Sprintf("veritysetup format %s %s %s\nveritysetup verify %s %s %x %s\n",
			data, theirs, args, ourData, ours, f.root, args)
	}
	roots := rootHashLine.FindAllStringSubmatch(run(dir, testFile(t, dir, script)), -1)
	require.Len(t, roots, n)
	for i, f := range all {
		theirs, err := os.ReadFile(filepath.Join(dir, fmt.Sprint(i, "theirs")))
		require.NoError(t, err)
		require.Equal(t, roots[i][1], hex.EncodeToString(f.root), f)
		require.True(t, bytes.Equal(theirs[:len(f.device)], f.device), "%v: trees differ", f)
		require.NoError(t, f.open(f.data, theirs, f.root).Verify(context.Background()), f)
	}
}

func testFile(t *testing.T, dir, script string) string {
	path := filepath.Join(dir, "script")
	require.NoError(t, os.WriteFile(path, []byte(script), 0o600))
	return path
}

// arguments are those of veritysetup.
func (c randomCase) arguments() string {
	salt, format := "-", 1
	if len(c.Salt) > 0 {
		salt = hex.EncodeToString(c.Salt)
	}
	if c.ChromeOS {
		format = 0
	}
	u := hex.EncodeToString(c.UUID[:])
	args := []string{
		"--salt=" + salt, fmt.Sprintf("--format=%d", format), "--hash=" + c.Hash,
		fmt.Sprintf("--data-block-size=%d --hash-block-size=%d", c.DataBlockSize, c.HashBlockSize),
		fmt.Sprintf("--hash-offset=%d --data-blocks=%d", c.HashOffset, c.blocks),
		"--uuid=" + strings.Join([]string{u[:8], u[8:12], u[12:16], u[16:20], u[20:]}, "-"),
	}
	if c.NoSuperblock {
		args = append(args, "--no-superblock")
	}
	return strings.Join(args, " ")
}
