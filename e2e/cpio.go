package e2e

import (
	"bytes"
	"fmt"
)

// Modes of an entry: the file types of stat(2) with permissions.
const (
	modeDir  = 0o040755
	modeFile = 0o100644
	modeExec = 0o100755
	modeChar = 0o020600
)

// archive writes the "newc" cpio format that the kernel unpacks:
// Documentation/driver-api/early-userspace/buffer-format.rst. Owner is root and
// every time is 1970.
type archive struct {
	buf bytes.Buffer
	ino uint32
}

func (a *archive) add(name string, mode uint32, data []byte) { a.entry(name, mode, 0, 0, data) }

func (a *archive) device(name string, major, minor uint32) {
	a.entry(name, modeChar, major, minor, nil)
}

func (a *archive) entry(name string, mode, major, minor uint32, data []byte) {
	a.ino++
	links := uint32(1)
	if mode&0o170000 == modeDir&0o170000 {
		links = 2
	}
	a.buf.WriteString("070701")
	for _, v := range []uint32{a.ino, mode, 0, 0, links, 0, uint32(len(data)), 0, 0, major, minor, uint32(len(name) + 1), 0} {
		fmt.Fprintf(&a.buf, "%08X", v)
	}
	a.buf.WriteString(name)
	a.buf.WriteByte(0)
	a.pad()
	a.buf.Write(data)
	a.pad()
}

func (a *archive) pad() {
	for a.buf.Len()%4 != 0 {
		a.buf.WriteByte(0)
	}
}

// finish ends the archive and returns it.
func (a *archive) finish() []byte {
	a.ino = 0xffffffff // the trailer's number becomes 0
	a.entry("TRAILER!!!", 0, 0, 0, nil)
	return a.buf.Bytes()
}
