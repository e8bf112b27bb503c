package uki

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

// Offsets of the x86 real-mode setup header (Linux, Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header").
const (
	setupMagic         = 0x202 // "HdrS"
	setupKernelVersion = 0x20e // u16: offset of the version string, less 0x200
	setupHeaderEnd     = 0x210
	maxVersionString   = 128
)

// ProbeUname finds the version of an x86 bzImage, the output of `uname -r` of the running kernel, where the boot
// protocol puts it. Any other kernel, and one whose version string has another form than "VERSION (BUILDER) ...", is a
// [PartError] with [ErrUnknownUname].
func ProbeUname(kernel Source) (string, error) {
	if kernel == nil {
		return "", &PartError{"Linux", ErrMissing}
	}
	uname, err := probeUname(kernel)
	if err != nil {
		return "", partError("Linux", "%w (%w)", ErrUnknownUname, err)
	}
	return uname, nil
}

func probeUname(kernel Source) (string, error) {
	var h [setupHeaderEnd - setupMagic]byte
	if kernel.Size() < setupHeaderEnd {
		return "", fmt.Errorf("no x86 setup header: %d bytes", kernel.Size())
	}
	if n, err := kernel.ReadAt(h[:], setupMagic); n < len(h) {
		return "", fmt.Errorf("reading the setup header: %w", noEOF(err))
	}
	if string(h[:4]) != "HdrS" {
		return "", fmt.Errorf("no x86 setup header: HdrS missing at %#x", setupMagic)
	}
	at := 0x200 + int64(binary.LittleEndian.Uint16(h[setupKernelVersion-setupMagic:]))
	if at == 0x200 || at >= kernel.Size() {
		return "", fmt.Errorf("no version string: setup header points to %#x", at)
	}
	b := make([]byte, min(maxVersionString, kernel.Size()-at))
	if n, err := kernel.ReadAt(b, at); n < len(b) {
		return "", fmt.Errorf("reading the version string: %w", noEOF(err))
	}
	b, _, _ = bytes.Cut(b, []byte{0})
	uname, rest, ok := strings.Cut(string(b), " ")
	if !ok || uname == "" || !strings.HasPrefix(rest, "(") || !validUname(uname) {
		return "", fmt.Errorf("version string %q is not VERSION (BUILDER)", b)
	}
	return uname, nil
}

// validUname reports whether s can be a kernel release: what Kbuild and distributions put there.
func validUname(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("._+~:-", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

func noEOF(err error) error {
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
