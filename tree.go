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

	// KeepXattrs takes extended attributes from the file system, where it tells them as an
	// [os.DirFS] of Linux does, of a system with /proc. All that the process may read are taken:
	// labels of the build host's SELinux are among them. Without KeepXattrs a file has those of its
	// [Node].
	KeepXattrs bool
}

// Node is what a file has besides its mode. If Sys of an [io/fs.FileInfo] is a *Node, the file has
// these values, whatever the TreeOptions keep.
type Node struct {
	UID, GID     uint32
	Major, Minor uint32 // of a device

	// Xattrs are the extended attributes by their whole names, such as "security.capability", with
	// the values that getxattr(2) has.
	Xattrs map[string][]byte
}

// ErrXattr is returned for an extended attribute that Linux or the format does not have.
var ErrXattr = errors.New("this extended attribute cannot be stored")

// ErrLink is returned for a symbolic link in a tree that does not tell its target: the tree is no
// [io/fs.ReadLinkFS].
var ErrLink = errors.New("the file system does not support reading symbolic links")
