package build

import (
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"
)

// nodeOf is what a file on a disk of Linux has.
func nodeOf(info fs.FileInfo) Node {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return Node{}
	}
	return Node{UID: s.Uid, GID: s.Gid, Major: unix.Major(uint64(s.Rdev)), Minor: unix.Minor(uint64(s.Rdev))}
}
