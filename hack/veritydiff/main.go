// Command veritydiff measures what an update by verity diff moves: it makes three
// builds of a system, each an EROFS image of some 7,000 files out of a seed, formats
// them, and lets the second build be updated to the third on a machine with two slots
// that hold the first and the second.
//
//	go run ./hack/veritydiff [-seed N] [-dir DIR] [-tools]
//
// With -tools it also has mkfs.erofs and mksquashfs make images of the first two
// builds. Everything but the times, and what the tools write, depends on the seed
// alone. docs/verity-diff.md has the figures.
package main

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/verity"
)

func main() {
	seed := flag.Uint64("seed", 1, "seed of the files and of what changes")
	dir := flag.String("dir", "", "directory for the images, 1 to 2.5 GB; empty: a temporary one")
	tools := flag.Bool("tools", false, "compare images of mkfs.erofs and mksquashfs too")
	flag.Parse()
	if err := measure(*seed, *dir, *tools); err != nil {
		fmt.Fprintln(os.Stderr, "veritydiff:", err)
		os.Exit(1)
	}
}

// A build is one version of the system.
type build struct {
	files tree
	image *osmith.Device
	tree  verity.Tree
	took  time.Duration // of formatting
}

func measure(seed uint64, dir string, tools bool) error {
	if dir == "" {
		temporary, err := os.MkdirTemp("", "veritydiff-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(temporary)
		dir = temporary
	}
	fmt.Printf("seed %d, %s %s/%s, %d CPUs\n\n", seed, runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	files := firstBuild(seed)
	var builds []*build
	for n := range 3 {
		if n > 0 {
			files = files.nextBuild(seed + uint64(n))
		}
		b, err := makeBuild(files, filepath.Join(dir, fmt.Sprintf("build%d", n+1)))
		if err != nil {
			return err
		}
		defer b.image.Close()
		builds = append(builds, b)
		fmt.Printf("build %d: %d files, %.1f MB in files, image %.1f MB, formatted in %v\n",
			n+1, len(files), mega(files.size()), mega(b.image.Size()), b.took.Round(time.Millisecond))
	}
	fmt.Println()

	ctx := context.Background()
	if _, err := diff(ctx, "build 2 on top of build 1", builds[0], builds[1], verity.DiffOptions{}); err != nil {
		return err
	}
	delta, err := diff(ctx, "build 3 on top of build 2, to the slot that holds build 1", builds[1], builds[2],
		verity.DiffOptions{Target: builds[0].tree})
	if err != nil {
		return err
	}
	for _, gap := range []int{0, 16 << 10, 64 << 10, 256 << 10} {
		if err := patch(ctx, builds, delta, filepath.Join(dir, "slot"), gap); err != nil {
			return err
		}
	}
	if !tools {
		return nil
	}
	fmt.Println()
	return measureTools(ctx, dir, builds[0].files, builds[1].files)
}

func mega(bytes int64) float64 { return float64(bytes) / 1e6 }

// makeBuild writes the image of a build and its tree.
func makeBuild(files tree, name string) (*build, error) {
	image, err := os.Create(name + ".erofs")
	if err != nil {
		return nil, err
	}
	if err := files.writeImage(image); err != nil {
		return nil, err
	}
	b, err := formatBuild(image)
	if err != nil {
		return nil, err
	}
	b.files = files
	return b, nil
}

// formatBuild makes the tree of an image.
func formatBuild(image *os.File) (*build, error) {
	size, err := image.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	if over := size % 4096; over != 0 { // as in a partition
		size += 4096 - over
		if err := image.Truncate(size); err != nil {
			return nil, err
		}
	}
	device, err := osmith.NewDevice(image)
	if err != nil {
		return nil, err
	}
	b := &build{image: device}
	// Equal blocks have equal digests only under the same salt.
	salt := sha256.Sum256([]byte("the salt of all builds"))
	params := verity.Params{Salt: salt[:]}
	treeSize, err := verity.TreeSize(size, params)
	if err != nil {
		return nil, err
	}
	treeFile, err := os.Create(image.Name() + ".verity")
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	root, err := verity.Format(context.Background(), treeFile, device, params)
	if err != nil {
		return nil, err
	}
	b.took = time.Since(begin)
	b.tree = verity.Tree{Source: io.NewSectionReader(treeFile, 0, treeSize), RootHash: root}
	return b, nil
}

func diff(ctx context.Context, title string, from, to *build, o verity.DiffOptions) (*verity.Delta, error) {
	begin := time.Now()
	delta, err := verity.Diff(ctx, from.tree, to.tree, o)
	if err != nil {
		return nil, err
	}
	took := time.Since(begin)
	fmt.Printf("%s: %d spans, diff in %v\n", title, len(delta.Spans), took.Round(100*time.Microsecond))
	for _, origin := range []verity.Origin{verity.OriginKept, verity.OriginSame, verity.OriginMoved, verity.OriginZero, verity.OriginFetch} {
		if n := delta.Total(origin); n > 0 {
			fmt.Printf("  %-6v %6d blocks  %5.1f MB  %5.1f %%\n", origin, n,
				mega(n*int64(delta.BlockSize)), 100*float64(n)/float64(delta.Blocks))
		}
	}
	fmt.Println()
	return delta, nil
}

// counted is the file that is fetched from.
type counted struct {
	io.ReaderAt
	reads atomic.Int64
}

func (c *counted) ReadAt(b []byte, off int64) (int, error) {
	c.reads.Add(1)
	return c.ReaderAt.ReadAt(b, off)
}

func patch(ctx context.Context, builds []*build, delta *verity.Delta, name string, gap int) error {
	slot, err := os.Create(name)
	if err != nil {
		return err
	}
	defer slot.Close()
	if _, err := io.Copy(slot, io.NewSectionReader(builds[0].image, 0, builds[0].image.Size())); err != nil {
		return err
	}
	fetch := &counted{ReaderAt: builds[2].image}
	begin := time.Now()
	result, err := verity.Patch(ctx, unsynced{slot}, builds[1].image, fetch, builds[2].tree, delta, verity.PatchOptions{MaxGap: gap})
	if err != nil {
		return err
	}
	took := time.Since(begin)
	next := builds[2]
	if err := verity.Verify(ctx, io.NewSectionReader(slot, 0, next.image.Size()), next.tree.Source, next.tree.RootHash); err != nil {
		return fmt.Errorf("patched slot: %w", err)
	}
	fmt.Printf("patch, gaps up to %3d KiB: %4d requests for %5.1f MB, %v without fsync; slot verified\n",
		gap>>10, fetch.reads.Load(), mega(result.RequestedBytes), took.Round(time.Millisecond))
	return nil
}

// unsynced is a file without its Sync method, to measure work and not the disk.
type unsynced struct{ f *os.File }

func (u unsynced) ReadAt(b []byte, off int64) (int, error)  { return u.f.ReadAt(b, off) }
func (u unsynced) WriteAt(b []byte, off int64) (int, error) { return u.f.WriteAt(b, off) }
