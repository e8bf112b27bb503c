package main

import (
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"

	"github.com/erofs/go-erofs"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/upgrade/extension"
)

// openExtension opens an extension and states what its extension-release file says. The file is read from the image, whose file system has to be EROFS for that.
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
	fsys, err := openEROFS(im.FileSystem())
	if err != nil {
		return nil, cli.No{Err: fmt.Errorf("-extension %s: its file system cannot be read here, which has to be EROFS: %w", name, err)}
	}
	dir := map[extension.Kind]string{extension.KindSysext: "usr/lib", extension.KindConfext: "etc"}[kind]
	if im.Usr {
		dir = "lib"
	}
	if f.Release, err = readExtensionRelease(fsys, path.Join(dir, "extension-release.d", "extension-release."+called)); err != nil {
		return nil, cli.No{Err: fmt.Errorf("-extension %s: %w", name, err)}
	}
	return f, nil
}

// openEROFS opens a file system whose bytes are vouched for by nothing yet.
func openEROFS(src osmith.Source) (fsys fs.FS, err error) {
	defer unreadable(&err)
	return erofs.Open(io.NewSectionReader(src, 0, src.Size()))
}

func readExtensionRelease(fsys fs.FS, name string) (text []byte, err error) {
	defer unreadable(&err)
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 64<<10))
}

// unreadable makes an error of a reader's panic: a damaged file system is no defect of this program.
func unreadable(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("the file system is damaged: %v", p)
	}
}
