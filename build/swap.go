package build

import (
	"bytes"
	"encoding/binary"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/sparse"
)

// A swap area of Linux, version 1 (include/linux/swap.h, union swap_header), in pages of 4096
// bytes.
const (
	swapPage  = 4096
	swapLeast = 10 * swapPage // the least that mkswap(8) makes
)

// swapArea is an area of so many bytes, as mkswap makes it: a first page that says what it is, and
// whatever else is there.
func swapArea(size int64, id osmith.GUID, label string) osmith.Source {
	page := make([]byte, swapPage)
	binary.LittleEndian.PutUint32(page[1024:], 1)                       // version
	binary.LittleEndian.PutUint32(page[1028:], uint32(size/swapPage-1)) // last page
	copy(page[1036:1052], id[:])
	copy(page[1052:1067], label) // 16 bytes, the last of which is zero
	copy(page[swapPage-10:], "SWAPSPACE2")
	return bytes.NewReader(page)
}

// readAll reads a source that is known to be small.
func readAll(src osmith.Source) ([]byte, error) {
	b := make([]byte, src.Size())
	return b, sparse.ReadFull(src, b, 0)
}
