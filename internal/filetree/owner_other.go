//go:build !linux

package filetree

import (
	"io/fs"

	"github.com/osmith-dev/osmith"
)

// nodeOf is what is known of a file elsewhere: it belongs to root.
func nodeOf(fs.FileInfo) osmith.Node { return osmith.Node{} }

// xattrsOf is what is known of a file elsewhere: nothing.
func xattrsOf(fs.FS, string) (map[string][]byte, error) { return nil, nil }
