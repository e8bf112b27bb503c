package decompress

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

// xzReader reads the container format of xz (The .xz File Format, version 1.2.1,
// https://tukaani.org/xz/xz-file-format.txt) around LZMA2 data. The library's own reader allocates
// the dictionary that a block asks for, up to 4 GiB; this one refuses those above maxWindow before.
// The checks over the data are verified, and so are the sizes in the index.
type xzReader struct {
	in    *counted
	check byte // of the stream that is being read
	block *xzBlock
	sizes []xzSizes // of the blocks of the stream, for the index
	out   int64     // bytes of all blocks that have ended
	dicts int64     // bytes of all dictionaries of blocks that do not say their size
	err   error
}

// counted knows how much was read through it.
type counted struct {
	r *bufio.Reader
	n int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

func (c *counted) ReadByte() (byte, error) {
	b, err := c.r.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}

type xzSizes struct{ unpadded, uncompressed uint64 }

// xzBlock is the block that is being read.
type xzBlock struct {
	start                    int64 // where its header began
	header                   int64 // size of that
	data                     io.Reader
	sum                      hash.Hash // nil: no check
	n                        uint64    // uncompressed bytes so far
	compressed, uncompressed int64     // as the header says; -1: it does not
}

// maxBlocks bounds what is kept for the index. Kernels have one block, or one for each thread that
// compressed them.
const maxBlocks = 1 << 20

var (
	errXZHeader = errors.New("no header of a stream")
	errXZCRC    = errors.New("checksum of a header is wrong")
	errXZSize   = errors.New("sizes that contradict each other")
	errXZData   = errors.New("checksum of the data is wrong")
)

var crc64Table = crc64.MakeTable(crc64.ECMA)

func newXZ(r io.Reader) (*xzReader, error) {
	x := &xzReader{in: &counted{r: bufio.NewReaderSize(r, 64<<10)}}
	if err := x.streamHeader(); err != nil {
		return nil, err
	}
	return x, nil
}

// full reads exactly n bytes.
func (x *xzReader) full(n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(x.in, b); err != nil {
		return nil, noEOF(err)
	}
	return b, nil
}

// streamHeader reads magic and flags: 2.1.1.
func (x *xzReader) streamHeader() error {
	b, err := x.full(12)
	if err != nil {
		return err
	}
	if string(b[:6]) != "\xfd7zXZ\x00" {
		return errXZHeader
	}
	if crc32.ChecksumIEEE(b[6:8]) != binary.LittleEndian.Uint32(b[8:]) {
		return errXZCRC
	}
	if x.check = b[7]; b[6] != 0 || x.check != 0 && x.check != 1 && x.check != 4 && x.check != 10 {
		return fmt.Errorf("stream flags %#02x %#02x are unknown", b[6], b[7])
	}
	x.sizes = x.sizes[:0]
	return nil
}

func (x *xzReader) Read(b []byte) (int, error) {
	for x.err == nil {
		if x.block == nil {
			if x.err = x.next(); x.err != nil {
				break
			}
			continue
		}
		n, err := x.block.data.Read(b)
		if n > 0 {
			if x.block.sum != nil {
				x.block.sum.Write(b[:n])
			}
			x.block.n += uint64(n)
		}
		switch {
		case err == io.EOF:
			x.err = x.endBlock()
		case err != nil:
			x.err = err
		}
		if n > 0 || len(b) == 0 {
			return n, nil
		}
	}
	return 0, x.err
}

// next begins a block, or reads the index and what follows it; io.EOF at the end of the file.
func (x *xzReader) next() error {
	start := x.in.n
	size, err := x.in.ReadByte()
	if err != nil {
		return noEOF(err)
	}
	if size == 0 {
		return x.index(start)
	}
	return x.blockHeader(start, (int(size)+1)*4)
}

// blockHeader reads sizes and filters of a block: 3.1.
func (x *xzReader) blockHeader(start int64, size int) error {
	rest, err := x.full(size - 1)
	if err != nil {
		return err
	}
	all := append([]byte{byte(size/4 - 1)}, rest...)
	if crc32.ChecksumIEEE(all[:size-4]) != binary.LittleEndian.Uint32(all[size-4:]) {
		return errXZCRC
	}
	flags, fields := all[1], bytes.NewReader(all[2:size-4])
	if flags&0x3c != 0 {
		return fmt.Errorf("block flags %#02x are unknown", flags)
	}
	k := &xzBlock{start: start, header: int64(size), compressed: -1, uncompressed: -1}
	for _, field := range []struct {
		flag byte
		into *int64
	}{{0x40, &k.compressed}, {0x80, &k.uncompressed}} {
		if flags&field.flag != 0 {
			v, err := readVarint(fields)
			if err != nil {
				return err
			}
			*field.into = int64(v)
		}
	}
	const lzma2 = 0x21
	id, err := readVarint(fields)
	if err != nil {
		return err
	}
	if flags&3 != 0 || id != lzma2 {
		return fmt.Errorf("filter %#x, of %d: only LZMA2 alone is known (decompress the kernel with xz)", id, flags&3+1)
	}
	properties, err := readVarint(fields)
	if err != nil {
		return err
	}
	bits, err := fields.ReadByte()
	if err != nil || properties != 1 || bits > 40 {
		return fmt.Errorf("properties of LZMA2: %d bytes, dictionary %d", properties, bits)
	}
	dictionary := int64(1<<32 - 1)
	if bits < 40 {
		dictionary = int64(2|bits&1) << (bits/2 + 11)
	}
	if dictionary > maxWindow {
		return fmt.Errorf("dictionary of %d bytes, more than %d", dictionary, int64(maxWindow))
	}
	// Nothing refers to more than the block has. A block that does not say how much that is costs
	// its dictionary however little it has, so that there may be few of those.
	if k.uncompressed >= 0 {
		dictionary = min(dictionary, k.uncompressed)
	} else if x.dicts += dictionary; x.dicts > x.out+4*maxWindow {
		return fmt.Errorf("dictionaries of %d bytes for %d bytes of data", x.dicts, x.out)
	}
	dictionary = max(dictionary, lzma.MinDictCap)
	for fields.Len() > 0 {
		if pad, _ := fields.ReadByte(); pad != 0 {
			return errors.New("a block header has more than its fields")
		}
	}
	switch x.check {
	case 1:
		k.sum = crc32.NewIEEE()
	case 4:
		k.sum = crc64.New(crc64Table)
	case 10:
		k.sum = sha256.New()
	}
	if k.data, err = (lzma.Reader2Config{DictCap: int(dictionary)}).NewReader2(x.in); err != nil {
		return err
	}
	x.block = k
	return nil
}

// endBlock reads padding and check behind a block's data: 3.3, 3.4.
func (x *xzReader) endBlock() error {
	k := x.block
	x.block = nil
	compressed := x.in.n - k.start - k.header
	if k.compressed >= 0 && compressed != k.compressed || k.uncompressed >= 0 && k.n != uint64(k.uncompressed) {
		return errXZSize
	}
	if err := x.padding(x.in.n - k.start); err != nil {
		return err
	}
	unpadded := uint64(k.header + compressed)
	if k.sum != nil {
		want, err := x.full(k.sum.Size())
		if err != nil {
			return err
		}
		unpadded += uint64(len(want))
		got := k.sum.Sum(nil)
		if x.check != 10 { // the CRCs are little-endian here, and big-endian there
			for i, j := 0, len(got)-1; i < j; i, j = i+1, j-1 {
				got[i], got[j] = got[j], got[i]
			}
		}
		if !bytes.Equal(want, got) {
			return errXZData
		}
	}
	if len(x.sizes) == maxBlocks {
		return fmt.Errorf("more than %d blocks", maxBlocks)
	}
	x.sizes = append(x.sizes, xzSizes{unpadded, k.n})
	x.out += int64(k.n)
	return nil
}

// padding reads zeros up to a multiple of four bytes.
func (x *xzReader) padding(n int64) error {
	for ; n%4 != 0; n++ {
		b, err := x.in.ReadByte()
		if err != nil {
			return noEOF(err)
		}
		if b != 0 {
			return errors.New("padding that is not zero")
		}
	}
	return nil
}

// index reads the index, whose first byte has been read, the footer, and the header of another
// stream if there is one: 4, 2.1.2, 2.2.
func (x *xzReader) index(start int64) error {
	sum := crc32.NewIEEE()
	sum.Write([]byte{0})
	in := &summed{x.in, sum}
	records, err := readVarint(in)
	if err != nil {
		return err
	}
	if records != uint64(len(x.sizes)) {
		return errXZSize
	}
	for _, want := range x.sizes {
		var got xzSizes
		if got.unpadded, err = readVarint(in); err != nil {
			return err
		}
		if got.uncompressed, err = readVarint(in); err != nil {
			return err
		}
		if got != want {
			return errXZSize
		}
	}
	for (x.in.n-start)%4 != 0 {
		b, err := in.ReadByte()
		if err != nil {
			return noEOF(err)
		}
		if b != 0 {
			return errors.New("padding that is not zero")
		}
	}
	b, err := x.full(4)
	if err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(b) != sum.Sum32() {
		return errXZCRC
	}
	size := x.in.n - start
	footer, err := x.full(12)
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	if crc32.ChecksumIEEE(footer[4:10]) != le.Uint32(footer) {
		return errXZCRC
	}
	if (int64(le.Uint32(footer[4:]))+1)*4 != size || footer[8] != 0 || footer[9] != x.check || string(footer[10:]) != "YZ" {
		return errXZSize
	}
	return x.nextStream()
}

// nextStream passes over padding between streams; io.EOF if there is no other.
func (x *xzReader) nextStream() error {
	for {
		next, err := x.in.r.Peek(4)
		if len(next) == 0 {
			if err == nil || err == io.EOF {
				return io.EOF
			}
			return err
		}
		if len(next) < 4 {
			return noEOF(err)
		}
		if binary.LittleEndian.Uint32(next) != 0 {
			return x.streamHeader()
		}
		if _, err := x.full(4); err != nil {
			return err
		}
	}
}

// summed hashes what is read byte by byte.
type summed struct {
	r   io.ByteReader
	sum hash.Hash32
}

func (s *summed) ReadByte() (byte, error) {
	b, err := s.r.ReadByte()
	if err == nil {
		s.sum.Write([]byte{b})
	}
	return b, err
}

// readVarint reads an integer of up to nine bytes: 1.2.
func readVarint(r io.ByteReader) (uint64, error) {
	var v uint64
	for i := range 9 {
		b, err := r.ReadByte()
		if err != nil {
			return 0, noEOF(err)
		}
		v |= uint64(b&0x7f) << (7 * i)
		if b&0x80 == 0 {
			if b == 0 && i > 0 {
				return 0, errors.New("an integer is longer than it has to be")
			}
			return v, nil
		}
	}
	return 0, errors.New("an integer is too long")
}
