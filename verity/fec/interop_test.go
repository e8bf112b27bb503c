package fec

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
	"github.com/osmith-dev/osmith/verity"
)

// TestInteropVeritysetup compares the parity with that of two releases of veritysetup
// over random parameters, and has them look for the damage that we repair: veritysetup
// verify only counts the wrong bytes, without erasures and without writing.
func TestInteropVeritysetup(t *testing.T) {
	r, long := testtools.Seed(t)
	n := 30
	if long {
		n = 150
	}
	t.Run("host", func(t *testing.T) {
		testtools.Require(t, "veritysetup")
		interop(t, r, n, func(_, script string) string {
			return testtools.Run(t, "sh", "-c", "PATH=$PATH:/usr/sbin:/sbin; . "+script)
		})
	})
	t.Run("forky", func(t *testing.T) {
		forky := testtools.Forky(t)
		interop(t, r, n, func(dir, script string) string { return forky.Run(t, dir, "sh", script) })
	})
}

// A place is where the three parts of an image are.
type place int

const (
	separate   place = iota // each on a device of its own
	hashAndFEC              // on one device
	together                // all on one device
)

// An interopCase is one image, as veritysetup is to make it.
type interopCase struct {
	name          string
	params        verity.Params
	roots, blocks int
	place         place
	fecOffset     int64  // on the device it shares, or on its own
	padding       int    // bytes behind the tree that are covered, except together
	data          device // without the rest of the device
	device        string // the arguments for veritysetup: data and hash device, options
}

func randomCase(r *rand.Rand) *interopCase {
	c := &interopCase{
		params: verity.Params{
			Salt:         noise(r, []int64{0, 8, 32, 256}[r.IntN(4)]),
			UUID:         [16]byte(noise(r, 16)),
			Hash:         []string{"sha1", "sha256", "sha384", "sha512"}[r.IntN(4)],
			ChromeOS:     r.IntN(3) == 0,
			NoSuperblock: r.IntN(3) == 0,
		},
		roots:  []int{2, 24, 2 + r.IntN(23)}[r.IntN(3)],
		blocks: 1 + r.IntN([]int{3, 300, 700}[r.IntN(3)]),
		place:  place(r.IntN(3)),
	}
	bs := 512 << r.IntN(5)
	if c.blocks > 300 {
		bs = 512 << r.IntN(2) // veritysetup is slow
	}
	c.params.DataBlockSize, c.params.HashBlockSize = bs, bs
	c.data = noise(r, int64(c.blocks*bs))
	if r.IntN(2) == 0 {
		c.padding = r.IntN(40 * bs)
	}
	if c.place == together {
		c.params.HashOffset = c.data.Size()
	} else if c.place == separate && r.IntN(3) == 0 {
		c.params.HashOffset = int64(bs * r.IntN(5))
		c.fecOffset = int64(bs * r.IntN(5))
	}
	return c
}

// hashDevice is the hash device as it is before veritysetup comes: all of what the code
// is to cover exists.
func (c *interopCase) hashDevice(t *testing.T, r *rand.Rand) device {
	size, err := verity.TreeSize(c.data.Size(), c.params)
	require.NoError(t, err)
	d := make(device, c.params.HashOffset)
	if c.place == together {
		d = append(device(nil), c.data...)
	}
	// A tree of no blocks: veritysetup wants the device to have some size.
	size = max(size, 0)
	d = append(append(d, make(device, size)...), noise(r, int64(c.padding))...)
	if c.place == separate {
		return d
	}
	bs := c.params.DataBlockSize
	d = append(d, make(device, (bs-len(d)%bs)%bs)...)
	c.fecOffset = d.Size()
	return d
}

func (c *interopCase) arguments() string {
	salt, format := "-", 1
	if len(c.params.Salt) > 0 {
		salt = hex.EncodeToString(c.params.Salt)
	}
	if c.params.ChromeOS {
		format = 0
	}
	u := hex.EncodeToString(c.params.UUID[:])
	s := fmt.Sprintf("--salt=%s --hash=%s --format=%d --data-block-size=%d --hash-block-size=%d --data-blocks=%d --hash-offset=%d --fec-roots=%d --fec-offset=%d",
		salt, c.params.Hash, format, c.params.DataBlockSize, c.params.HashBlockSize, c.blocks, c.params.HashOffset, c.roots, c.fecOffset)
	if c.params.NoSuperblock {
		return s + " --no-superblock"
	}
	return s + " --uuid=" + u[:8] + "-" + u[8:12] + "-" + u[12:16] + "-" + u[16:20] + "-" + u[20:]
}

var foundErrors = regexp.MustCompile(`Found (\d+) repairable errors`)

// interop has one script run all cases, since entering a tree takes long.
func interop(t *testing.T, r *rand.Rand, n int, run func(dir, script string) string) {
	dir := t.TempDir()
	ctx := context.Background()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, content, 0o600))
		return path
	}
	read := func(i int, name string) device {
		b, err := os.ReadFile(filepath.Join(dir, fmt.Sprint(i, name)))
		require.NoError(t, err)
		return b
	}
	var cases []*interopCase
	script := "set -e\n"
	for i := range n {
		c := randomCase(r)
		cases = append(cases, c)
		hash := c.hashDevice(t, r)
		data, tree := write(fmt.Sprint(i, "data"), c.data), write(fmt.Sprint(i, "hash"), hash)
		parity := tree
		switch c.place {
		case separate:
			parity = write(fmt.Sprint(i, "fec"), nil)
		case together:
			data = tree
		}
		c.name = fmt.Sprintf("%d: place %d, padding %d: %s", i, c.place, c.padding, c.arguments())
		c.device = fmt.Sprintf("%s %s --fec-device=%s %s", data, tree, parity, c.arguments())
		script += "veritysetup format " + c.device + "\n"
	}
	run(dir, write("format", []byte(script)))

	script = "set +e\n"
	damaged := make([]int, n)
	for i, c := range cases {
		tree, parity := read(i, "hash"), device(nil)
		if c.place == separate {
			parity = read(i, "fec")[c.fecOffset:]
		} else {
			tree, parity = tree[:c.fecOffset], tree[c.fecOffset:]
		}
		area, err := HashArea(tree, c.params)
		require.NoError(t, err, c.name)
		p := Params{c.roots, c.params.DataBlockSize}
		require.True(t, bytes.Equal(encode(t, c.data, area, p), parity), "%s: parity differs", c.name)
		require.NoError(t, Check(ctx, c.data, area, parity, p), c.name)

		// Damage bytes of the data, no two of the same codeword.
		ourTree := newDevice(int64(len(tree)))
		root, err := verity.Format(ctx, ourTree, c.data, c.params)
		require.NoError(t, err, c.name)
		g, err := newGeometry(c.data.Size(), area.Size(), p)
		require.NoError(t, err)
		broken := append(device(nil), c.data...)
		used := map[int64]bool{}
		for range 1 + r.IntN(50) {
			at := r.Int64N(broken.Size())
			if column := at % g.rowSize(); !used[column] {
				used[column] = true
				broken[at] ^= byte(1 + r.IntN(255))
			}
		}
		damaged[i] = len(used)
		if c.place == together {
			f := read(i, "hash")
			copy(f, broken)
			write(fmt.Sprint(i, "hash"), f)
		}
		write(fmt.Sprint(i, "data"), broken)
		script += fmt.Sprintf("echo case %d; veritysetup verify %s %x 2>&1; echo status $?\n", i, c.device, root)

		report, err := Repair(ctx, Image{Data: broken, Hash: area, Parity: parity, Params: c.params, RootHash: root, Roots: c.roots},
			broken, nil)
		require.NoError(t, err, c.name)
		require.NotZero(t, report.RepairedBlocks)
		require.True(t, bytes.Equal(c.data, broken), c.name)
	}
	outputs := strings.Split(run(dir, write("verify", []byte(script))), "case ")[1:]
	require.Len(t, outputs, n)
	for i, out := range outputs {
		if cases[i].blocks > 1 { // without a tree it takes damage for a wrong root hash
			require.Contains(t, out, "status 0", "%s: %s", cases[i].name, out)
		}
		found := foundErrors.FindStringSubmatch(out)
		require.NotNil(t, found, "%s: %s", cases[i].name, out)
		require.Equal(t, fmt.Sprint(damaged[i]), found[1], cases[i].name)
	}
}
