package uki

import (
	"bytes"
	"fmt"
	"math"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// A cpioTarget is a directory of the initrd into which the stub puts files that it found or made, and how: systemd 262,
// src/boot/cpio.c.
type cpioTarget struct {
	dir               string
	dirMode, fileMode uint32
	pcr               int    // 0: not measured
	event             string // description in the event log
}

var (
	cpioCredentials       = cpioTarget{".extra/credentials", 0o500, 0o400, sdstub.PCRConfig, "Credentials initrd"}
	cpioGlobalCredentials = cpioTarget{".extra/global_credentials", 0o500, 0o400, sdstub.PCRConfig, "Global credentials initrd"}
	cpioSysexts           = cpioTarget{".extra/sysext", 0o555, 0o444, sdstub.PCRSysexts, "System extension initrd"}
	cpioGlobalSysexts     = cpioTarget{".extra/global_sysext", 0o555, 0o444, sdstub.PCRSysexts, "Global system extension initrd"}
	cpioConfexts          = cpioTarget{".extra/confext", 0o555, 0o444, sdstub.PCRConfig, "Configuration extension initrd"}
	cpioGlobalConfexts    = cpioTarget{".extra/global_confext", 0o555, 0o444, sdstub.PCRConfig, "Global configuration extension initrd"}
	cpioMeta              = cpioTarget{dir: ".extra", dirMode: 0o555, fileMode: 0o444}
	cpioSecret            = cpioTarget{dir: ".extra", dirMode: 0o555, fileMode: 0o400}
)

const (
	cpioFile = 0o100000 // S_IFREG
	cpioDir  = 0o040000 // S_IFDIR
)

// archive packs files into a cpio archive as the stub does: the directory with those above it, the files, a trailer.
// Nothing is read before the result is.
func (t *cpioTarget) archive(files []CompanionFile) (*view, error) {
	w := cpioWriter{view: new(view), inode: new(uint32)}
	w.directories(t)
	for _, f := range files {
		if err := w.file(t, f); err != nil {
			return nil, err
		}
	}
	w.trailer()
	return w.view, nil
}

// A cpioWriter appends to an archive. Inodes are numbered from 1.
type cpioWriter struct {
	*view
	inode *uint32
}

func (w *cpioWriter) entry(mode uint32, name string, src osmith.Source) {
	size := int64(0)
	if src != nil {
		size = src.Size()
	}
	*w.inode++
	h := cpioHeader(*w.inode, mode, uint32(size), name)
	w.add("cpio header", bytes.NewReader(h), int64(len(h)))
	w.padTo(4)
	if src != nil {
		w.add(name, src, size)
		w.padTo(4)
	}
}

func (w *cpioWriter) directories(t *cpioTarget) {
	for i, c := range t.dir {
		if c == '/' {
			w.entry(cpioDir|0o555, t.dir[:i], nil)
		}
	}
	w.entry(cpioDir|t.dirMode, t.dir, nil)
}

func (w *cpioWriter) file(t *cpioTarget, f CompanionFile) error {
	if f.Content == nil {
		return fmt.Errorf("uki: companion file %q: %w", f.Name, ErrMissing)
	}
	if n := f.Content.Size(); n > math.MaxUint32 {
		return &SpaceError{"cpio archive, file " + f.Name, n, math.MaxUint32}
	}
	w.entry(cpioFile|t.fileMode, t.dir+"/"+f.Name, f.Content)
	return nil
}

func (w *cpioWriter) trailer() {
	h := cpioHeader(0, 0, 0, cpioTrailer)
	w.add("cpio trailer", bytes.NewReader(h), int64(len(h)))
	w.padTo(4)
}

const cpioTrailer = "TRAILER!!!"

// cpioHeader is a header of the "new ASCII" format with the name behind it (Linux, Documentation/driver-api/
// early-userspace/buffer-format.rst): magic, then inode, mode, uid, gid, links, mtime, size, four device numbers, size of
// the name with its NUL byte, and checksum. The stub leaves times and owners zero, so that measurements are stable.
func cpioHeader(inode, mode, size uint32, name string) []byte {
	var b strings.Builder
	b.WriteString("070701")
	for _, n := range []uint32{inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0} {
		fmt.Fprintf(&b, "%08x", n)
	}
	// The trailer of the stub is a constant, with the length of its name in upper case.
	if name == cpioTrailer {
		b.WriteString("0000000B")
	} else {
		fmt.Fprintf(&b, "%08x", len(name)+1)
	}
	b.WriteString("00000000" + name + "\x00")
	return []byte(b.String())
}
