// Package erofsfs reads EROFS file systems that may be anything.
package erofsfs

import (
	"fmt"
	"io"
	"io/fs"

	"github.com/erofs/go-erofs"

	"github.com/osmith-dev/osmith"
)

// Open opens a file system that no one vouches for, such as that of an extension before it is known
// who has signed it: what is in it may be anything, and a reader's panic is an error here.
func Open(src osmith.Source) (fsys fs.FS, err error) {
	defer unreadable(&err)
	image, err := erofs.Open(io.NewSectionReader(src, 0, src.Size()))
	if err != nil {
		return nil, err
	}
	return guarded{image}, nil
}

func unreadable(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("the file system is damaged: %v", p)
	}
}

type guarded struct{ fsys fs.FS }

func (g guarded) Open(name string) (f fs.File, err error) {
	defer unreadable(&err)
	file, err := g.fsys.Open(name)
	if err != nil {
		return nil, err
	}
	return guardedFile{file}, nil
}

type guardedFile struct{ fs.File }

func (g guardedFile) Read(b []byte) (n int, err error) {
	defer unreadable(&err)
	return g.File.Read(b)
}
