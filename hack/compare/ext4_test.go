package compare

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/partition/ext4"
)

// ext4Write fills a file system of 512 MiB with the source of Go and its library: 157 MB in 12,800
// files.
func ext4Write(b *testing.B) sides {
	dir := b.TempDir()
	tree := filepath.Join(strings.TrimSpace(testtools.Output(b, "go", "env", "GOROOT")), "src")
	return sides{
		ours: func() error {
			return create(filepath.Join(dir, "ours"), func(f *os.File) error {
				_, err := ext4.Write(context.Background(), f, os.DirFS(tree), ext4.Options{Size: 512 * mib})
				return err
			})
		},
		reference: host(b, fmt.Sprintf("cd %s; rm -f theirs; mkfs.ext4 -q -m 0 -d %s theirs 512M", dir, tree), "mkfs.ext4"),
	}
}
