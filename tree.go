package osmith

import (
	"errors"
	"time"
)

// TreeOptions say how a tree of files (an fs.FS) becomes a file system or an archive. The zero
// value gives the same result on every machine: all files belong to root and date from 1970.
type TreeOptions struct {
	// Time is the latest time that a file may have: a later one, such as that of a file that the
	// build has made, becomes Time. The zero value is 1970-01-01, for all files. Times are in whole
	// seconds.
	Time time.Time

	// KeepOwners takes user, group and device numbers from the file system, where it tells them as
	// an [os.DirFS] of Linux does. Without KeepOwners all files belong to root, and a device needs
	// a [Node].
	KeepOwners bool
}

// Node is what a file has besides its mode. If Sys of an [io/fs.FileInfo] is a *Node, the file has
// these values, with TreeOptions.KeepOwners and without.
type Node struct {
	UID, GID     uint32
	Major, Minor uint32 // of a device
}

// ErrLink is returned for a symbolic link in a tree that does not tell its target: the tree is no
// [io/fs.ReadLinkFS].
var ErrLink = errors.New("the file system does not support reading symbolic links")
