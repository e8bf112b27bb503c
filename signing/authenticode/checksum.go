package authenticode

import "encoding/binary"

// A checksum sums up the words of a file for the CheckSum field of the optional header (Microsoft PE Format, "Optional Header
// Windows-Specific Fields"; the algorithm is that of ImageHlp's CheckSumMappedFile): 16-bit little-endian words added with end-around
// carry, the field itself taken as zero, plus the length of the file. Since carries are folded at the end, pieces can be added in any
// order, each with its offset.
type checksum struct{ sum uint64 }

func (c *checksum) add(off int64, b []byte) {
	if len(b) > 0 && off&1 == 1 {
		c.sum += uint64(b[0]) << 8
		b = b[1:]
	}
	// Words of 32 bits fold into the same sum, as 1<<16 is 1 modulo 0xffff; 64 bits leave room for 16 GiB of them.
	var s uint64
	for len(b) >= 8 {
		v := binary.LittleEndian.Uint64(b)
		s += v>>32 + v&0xffffffff
		b = b[8:]
	}
	for ; len(b) >= 2; b = b[2:] {
		s += uint64(binary.LittleEndian.Uint16(b))
	}
	if len(b) == 1 {
		s += uint64(b[0])
	}
	c.sum += s>>32 + s&0xffffffff
}

// value folds the sum for a file of so many bytes.
func (c checksum) value(size int64) uint32 {
	s := c.sum
	for s > 0xffff {
		s = s&0xffff + s>>16
	}
	return uint32(s) + uint32(size)
}
