package verity

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/internal/testtools"
)

// A spareCase is a tree whose digests are all right, with one byte that should be zero and is not.
type spareCase struct {
	name         string
	data, device memory
	root         []byte
	want         *SpareError // nil: all is as it should be
}

// eachSpareCase makes trees of all hashes and formats with such a byte in all kinds of places, and
// those without.
func eachSpareCase(t *testing.T, f func(c spareCase)) {
	for _, name := range []string{"sha1", "sha256", "sha384", "sha512"} {
		for _, format0 := range []bool{false, true} {
			for _, salt := range [][]byte{nil, bytes.Repeat([]byte{9}, 33)} {
				p := Params{Hash: name, ChromeOS: format0, Salt: salt, DataBlockSize: 512, HashBlockSize: 512}
				data := newMemory(150 * 512)
				for i := range data {
					data[i] = byte(i/512 + 1)
				}
				l, err := newLayout(p, data.Size())
				require.NoError(t, err)
				require.GreaterOrEqual(t, l.Top(), 2)
				for level := 1; level <= l.Top(); level++ {
					for place, at := range sparePlaces(l, level) {
						levels, root := referenceWith(data, p, func(lv int, number int64, block []byte) {
							if lv == level && number == at.number && at.offset >= 0 {
								require.Zero(t, block[at.offset])
								block[at.offset] = 0x80
							}
						})
						c := spareCase{name: fmt.Sprintf("%s, format 0 %t, %d bytes of salt, level %d, %s", name, format0, len(salt), level, place),
							data: data, device: deviceOf(t, data, levels, p), root: root}
						if at.offset >= 0 {
							c.want = &SpareError{Level: level, Block: at.number, Offset: at.offset, Blocks: 150}
						}
						f(c)
					}
				}
			}
		}
	}
}

type sparePlace struct {
	number int64
	offset int
}

// sparePlaces are the kinds of bytes of one level that must be zero.
func sparePlaces(l *layout, level int) map[string]sparePlace {
	last := l.Blocks[level] - 1
	behind := l.Children(level, last) * l.Slot
	places := map[string]sparePlace{"nowhere": {0, -1}}
	if behind < l.HashBlockSize {
		places["behind the last digest"] = sparePlace{last, behind}
		places["at the end of the last block"] = sparePlace{last, l.HashBlockSize - 1}
	}
	if l.Slot > l.DigestSize {
		places["padding of the first digest"] = sparePlace{0, l.Slot - 1}
		places["padding of the last digest"] = sparePlace{last, behind - l.Slot + l.DigestSize}
	}
	if full := int(l.PerBlock) * l.Slot; last > 0 && full < l.HashBlockSize {
		// format 0, where digests are no power of two
		places["behind a full block's digests"] = sparePlace{0, full}
		places["at the end of a full block"] = sparePlace{0, l.HashBlockSize - 1}
	}
	return places
}

// What holds no digest must be zero for Verify, as for veritysetup: every byte of it, on
// every level.
func TestSpare(t *testing.T) {
	ctx := context.Background()
	eachSpareCase(t, func(c spareCase) {
		check := func(doing string, err error) {
			if c.want == nil {
				require.NoError(t, err, "%s: %s", c.name, doing)
				return
			}
			var spare *SpareError
			require.ErrorAs(t, err, &spare, "%s: %s", c.name, doing)
			require.ErrorIs(t, err, ErrSpare)
			require.NotErrorIs(t, err, ErrTree)
			require.Equal(t, c.want, spare, "%s: %s", c.name, doing)
		}
		im := Image{Data: c.data, Tree: c.device, RootHash: c.root}
		check("Verify", im.Verify(ctx))

		reader, err := NewReader(im, ReaderOptions{CacheSize: 1})
		all := make([]byte, len(c.data))
		if err == nil {
			var n int
			n, err = reader.ReadAt(all, 0)
			require.True(t, bytes.Equal(c.data[:n], all[:n]))
		}
		check("Reader", err)

		tree := Tree{Source: c.device, RootHash: c.root}
		_, err = Diff(ctx, Tree{}, tree, DiffOptions{})
		check("Diff, new tree", err)
		_, err = Diff(ctx, Tree{Source: c.device}, Tree{Source: c.device}, DiffOptions{})
		check("Diff, any tree", err)

		delta := &Delta{BlockSize: 512, Blocks: 150, Spans: []Span{{Origin: OriginFetch, Count: 150}}}
		_, err = Patch(ctx, newMemory(c.data.Size()), nil, c.data, tree, delta, PatchOptions{})
		check("Patch", err)
	})
}

// A superblock is not protected by the root hash. One that says fewer blocks than there are would
// cut off the end of the image, if the digests of the others did not show.
func TestSuperblockOfFewerBlocks(t *testing.T) {
	data, tree, root := numberedMemory(t, 200)
	for blocks := int64(1); blocks < 200; blocks++ {
		binary.LittleEndian.PutUint64(tree[sbDataBlocks:], uint64(blocks))
		err := Verify(context.Background(), data, tree, root)
		if blocks <= perBlock { // the tree of so few has one level less
			var mismatch *MismatchError
			require.ErrorAs(t, err, &mismatch, "%d blocks", blocks)
			continue
		}
		require.Equal(t, &SpareError{Level: 1, Block: 1, Offset: int(blocks-perBlock) * digestSize, Blocks: blocks}, unwrapped(err), "%d blocks", blocks)
	}
	binary.LittleEndian.PutUint64(tree[sbDataBlocks:], 150)
	assert.EqualError(t, Verify(context.Background(), data, tree, root), "verity: hash tree has bytes other than digests and zero padding: "+
		"level 1 hash block 1: byte 0x2c0: the tree covers more than the requested 150 data blocks, or was not made by a verity tool: "+
		"compare the superblock with the size of the image")

	// The same without a superblock.
	p := testParams
	err := Image{Data: data[:150*blockSize], Tree: tree[blockSize:], RootHash: root, Params: &p}.Verify(context.Background())
	require.ErrorIs(t, err, ErrSpare)

	// What is damaged is said first.
	data[7] ^= 1
	require.ErrorIs(t, Verify(context.Background(), data, tree, root), ErrData)
}

func unwrapped(err error) *SpareError {
	var spare *SpareError
	if wrapped, ok := err.(interface{ Unwrap() error }); ok {
		spare, _ = wrapped.Unwrap().(*SpareError)
	}
	return spare
}

// With blocks of 512 KiB, a hash block covers more than one job. It is reported once all the same.
func TestSpareOfWideBlocks(t *testing.T) {
	p := Params{Hash: "sha256", DataBlockSize: 4096, HashBlockSize: 512 << 10}
	data := newMemory(1500 * 4096)
	levels, root := referenceWith(data, p, func(level int, number int64, block []byte) { block[1500*32] = 1 })
	device := deviceOf(t, data, levels, p)
	l, err := newLayout(p, data.Size())
	require.NoError(t, err)
	require.True(t, l.wide())
	require.Equal(t, &SpareError{Level: 1, Offset: 1500 * 32, Blocks: 1500}, unwrapped(Verify(context.Background(), data, memory(device), root)))
}

// TestSpareAsVeritysetup asks two releases of veritysetup about the same trees.
func TestSpareAsVeritysetup(t *testing.T) {
	for name, run := range map[string]func(t *testing.T, dir, script string) string{
		"host": func(t *testing.T, dir, script string) string {
			testtools.Require(t, "veritysetup")
			return testtools.Run(t, "sh", "-c", "PATH=$PATH:/usr/sbin:/sbin; . "+script)
		},
		"forky": func(t *testing.T, dir, script string) string { return testtools.Forky(t).Run(t, dir, "sh", script) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var script strings.Builder
			var want []string
			n := 0
			eachSpareCase(t, func(c spareCase) {
				data, tree := filepath.Join(dir, "data"), filepath.Join(dir, fmt.Sprint(n))
				require.NoError(t, os.WriteFile(data, c.data, 0o600))
				require.NoError(t, os.WriteFile(tree, c.device, 0o600))
				fmt.Fprintf(&script, "veritysetup verify %s %s %x >out 2>&1; echo %d $(($? > 0)) $(grep -c 'Spare area is not zeroed' out)\n", data, tree, c.root, n)
				if c.want == nil {
					want = append(want, fmt.Sprintf("%d 0 0", n))
				} else {
					want = append(want, fmt.Sprintf("%d 1 1", n))
				}
				n++
			})
			out := run(t, dir, testFile(t, dir, "cd "+dir+"\n"+script.String()))
			assert.Equal(t, strings.Join(want, "\n"), strings.TrimSpace(out))
		})
	}
}
