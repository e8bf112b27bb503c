package filetree

import (
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/osmith-dev/osmith"
)

// nodeOf is what a file on a disk of Linux has.
func nodeOf(info fs.FileInfo) osmith.Node {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return osmith.Node{}
	}
	return osmith.Node{UID: s.Uid, GID: s.Gid, Major: unix.Major(uint64(s.Rdev)), Minor: unix.Minor(uint64(s.Rdev))}
}
