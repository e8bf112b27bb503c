package filetree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// xattrsOf reads the extended attributes of a file on a disk of Linux. Opening the file itself
// would follow a symbolic link and start a device, so it is named by the directory that has it.
func xattrsOf(fsys fs.FS, name string) (all map[string][]byte, err error) {
	opened, err := fsys.Open(path.Dir(name))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	dir, ok := opened.(*os.File)
	if !ok {
		return nil, nil // a tree that is on no disk
	}
	conn, err := dir.SyscallConn()
	if err != nil {
		return nil, err
	}
	control := conn.Control(func(fd uintptr) {
		all, err = listXattrs(fmt.Sprintf("/proc/self/fd/%d/%s", fd, path.Base(name)))
	})
	return all, errors.Join(err, control)
}

func listXattrs(file string) (map[string][]byte, error) {
	names, err := grow(func(b []byte) (int, error) { return unix.Llistxattr(file, b) })
	if errors.Is(err, unix.ENOTSUP) || err == nil && len(names) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all := map[string][]byte{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		value, err := grow(func(b []byte) (int, error) { return unix.Lgetxattr(file, name, b) })
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all[name] = value
	}
	return all, nil
}

// grow calls with more and more room until there is enough.
func grow(call func([]byte) (int, error)) ([]byte, error) {
	for size := 256; ; size *= 2 {
		b := make([]byte, size)
		n, err := call(b)
		if err == nil {
			return b[:n], nil
		}
		if !errors.Is(err, unix.ERANGE) || size > maxXattrValue {
			return nil, err
		}
	}
}
