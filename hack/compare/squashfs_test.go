package compare

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/partition/squashfs"
)

// squashfsWrite packs a tree of Go's source, 19 MB in 500 files, with as many workers on each side,
// and levels of the same name.
func squashfsWrite(c squashfs.Compression) func(b *testing.B) sides {
	return func(b *testing.B) sides {
		dir := b.TempDir()
		tree := filepath.Join(strings.TrimSpace(testtools.Output(b, "go", "env", "GOROOT")), "src", "runtime")
		workers := runtime.NumCPU()
		return sides{
			ours: func() error {
				return create(filepath.Join(dir, "ours"), func(f *os.File) error {
					_, err := squashfs.Write(context.Background(), f, os.DirFS(tree), squashfs.Options{Compression: c, Workers: workers})
					return err
				})
			},
			reference: host(b, fmt.Sprintf("cd %s; mksquashfs %s theirs -noappend -no-progress -quiet -all-root -processors %d -comp %s", dir, tree, workers, c), "mksquashfs"),
		}
	}
}
