// Package newc writes headers of cpio archives in the "new ASCII" format, of which an initrd
// consists (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
package newc

import "fmt"

// Trailer is the name of the entry that ends an archive.
const Trailer = "TRAILER!!!"

// File types in a mode, as of stat(2).
const (
	Regular   = 0o100000
	Directory = 0o040000
)

// Digits are how numbers are written. Linux reads both.
type Digits string

// The digits: cpio(1) writes Upper, systemd's stub Lower but for the trailer.
const (
	Upper Digits = "%08X"
	Lower Digits = "%08x"
)

// Header is an entry without its content. Sizes have 32 bits, times are seconds since 1970; the
// device numbers are those of the entry, if it is one.
type Header struct {
	Inode, Mode, UID, GID, Links, Mtime, Size, Major, Minor uint32
	Name                                                    string
}

// Append writes the header with the name and its NUL byte behind it. The caller pads the archive to
// a multiple of four bytes, after the header and after the content.
func (h Header) Append(b []byte, d Digits) []byte {
	b = append(b, "070701"...)
	// Two zeros for the device that the file is on, and at the end one for a checksum, which this
	// format has not.
	for _, v := range []uint32{h.Inode, h.Mode, h.UID, h.GID, h.Links, h.Mtime, h.Size, 0, 0, h.Major, h.Minor, uint32(len(h.Name) + 1), 0} {
		b = fmt.Appendf(b, string(d), v)
	}
	return append(append(b, h.Name...), 0)
}
