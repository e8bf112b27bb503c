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

func writeRoot(w io.WriteSeeker, version string, files map[string][]byte) error {
	root := NewRootImage(w)
	add := func(name string, content []byte) error {
		return root.Add(name, func(w io.Writer) error {
			_, err := w.Write(content)
			return err
		})
	}
	if err := add("/etc/os-release", OSRelease(version)); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := add(name, files[name]); err != nil {
			return err
		}
	}
	return root.Close()
}

// RootImage is an EROFS image while it is written. It is not compressed, and all its times are 1970-01-01.
type RootImage struct {
	image *erofs.Writer
	made  map[string]bool // directories
}

// NewRootImage begins an image. Close completes it.
func NewRootImage(w io.WriteSeeker) *RootImage {
	return &RootImage{erofs.Create(w, erofs.WithBuildTime(0, 0)), map[string]bool{"/": true}}
}

var epoch = time.Unix(0, 0)

// Add puts a file, by its absolute path, and the directories that it needs into the image.
func (r *RootImage) Add(name string, write func(io.Writer) error) error {
	if err := r.mkdir(path.Dir(name)); err != nil {
		return err
	}
	f, err := r.image.Create(name)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return r.image.Chtimes(name, epoch, epoch)
}

func (r *RootImage) mkdir(dir string) error {
	if r.made[dir] {
		return nil
	}
	r.made[dir] = true
	if err := r.mkdir(path.Dir(dir)); err != nil {
		return err
	}
	if err := r.image.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return r.image.Chtimes(dir, epoch, epoch)
}

// Close completes the image.
func (r *RootImage) Close() error { return r.image.Close() }
