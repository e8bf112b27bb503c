package acmeos

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"time"

	"github.com/erofs/go-erofs"
)

// WriteRoot writes a small root file system, an EROFS image, to name: os-release and the files given, by absolute
// path. Directories are made as needed.
func WriteRoot(name, version string, files map[string][]byte) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	if err := writeRoot(f, version, files); err != nil {
		return fmt.Errorf("root file system of version %s: %w", version, err)
	}
	return nil
}

var epoch = time.Unix(0, 0)

func writeRoot(w io.WriteSeeker, version string, files map[string][]byte) error {
	img := erofs.Create(w, erofs.WithBuildTime(0, 0))
	made := map[string]bool{"/": true}
	var mkdir func(dir string) error
	mkdir = func(dir string) error {
		if made[dir] {
			return nil
		}
		made[dir] = true
		if err := mkdir(path.Dir(dir)); err != nil {
			return err
		}
		if err := img.Mkdir(dir, 0o755); err != nil {
			return err
		}
		return img.Chtimes(dir, epoch, epoch)
	}
	add := func(name string, content []byte) error {
		if err := mkdir(path.Dir(name)); err != nil {
			return err
		}
		f, err := img.Create(name)
		if err != nil {
			return err
		}
		if _, err := f.Write(content); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
		return img.Chtimes(name, epoch, epoch)
	}
	if err := add("/etc/os-release", OSRelease(version)); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := add(name, files[name]); err != nil {
			return err
		}
	}
	return img.Close()
}
