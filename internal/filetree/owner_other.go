//go:build !linux

package filetree

import (
	"io/fs"

	"github.com/osmith-dev/osmith"
)

// nodeOf is what is known of a file elsewhere: it belongs to root.
func nodeOf(fs.FileInfo) osmith.Node { return osmith.Node{} }
