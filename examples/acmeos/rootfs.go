package acmeos

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing/fstest"

	"github.com/osmith-dev/osmith/build"
)

// WriteRoot writes a small root file system, an EROFS image, to name: os-release and the files
// given, by absolute path. Directories are made as needed.
func WriteRoot(name, version string, files map[string][]byte) error {
	all := map[string][]byte{"/etc/os-release": OSRelease(version)}
	maps.Copy(all, files)
	if err := WriteImage(name, all); err != nil {
		return fmt.Errorf("root file system of version %s: %w", version, err)
	}
	return nil
}

// WriteImage writes an EROFS image of files, by absolute path. It is not compressed, and all its
// times are 1970-01-01.
func WriteImage(name string, files map[string][]byte) (err error) {
	tree := fstest.MapFS{}
	for file, content := range files {
		file = strings.TrimPrefix(file, "/")
		tree[file] = &fstest.MapFile{Data: content, Mode: 0o644}
		for dir := path.Dir(file); ; dir = path.Dir(dir) {
			tree[dir] = &fstest.MapFile{Mode: fs.ModeDir | 0o755}
			if dir == "." {
				break
			}
		}
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	err = build.WriteEROFS(context.Background(), f, tree, build.EROFSOptions{TempDir: filepath.Dir(name)})
	return errors.Join(err, f.Close())
}
