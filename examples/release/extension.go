package main

import (
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/examples/internal/erofsfs"
	"github.com/osmith-dev/osmith/upgrade/extension"
)

// openExtension opens an extension and states what its extension-release file says. The file is
// read from the image, whose file system has to be EROFS for that.
func openExtension(c *cli.Call, name string) (*extension.File, error) {
	content, err := c.Open(name)
	if err != nil {
		return nil, err
	}
	f := &extension.File{Name: filepath.Base(name), Content: content}
	called, kind, err := extension.ParseName(f.Name)
	if err != nil {
		return nil, cli.Usagef("-extension %s: %v", name, err)
	}
	im, err := extension.Read(content)
	if err != nil {
		return nil, cli.No{Err: fmt.Errorf("-extension %s: %w", name, err)}
	}
	fsys, err := erofsfs.Open(im.FileSystem())
	if err != nil {
		return nil, cli.No{Err: fmt.Errorf("-extension %s: its file system cannot be read here, which has to be EROFS: %w", name, err)}
	}
	if f.Release, err = readExtensionRelease(fsys, extension.ReleasePath(kind, called, im.Usr)); err != nil {
		return nil, cli.No{Err: fmt.Errorf("-extension %s: %w", name, err)}
	}
	return f, nil
}

func readExtensionRelease(fsys fs.FS, name string) (text []byte, err error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 64<<10))
}
