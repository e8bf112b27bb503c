package fec

import (
	"fmt"
	"io"
	"math"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/verity"
)

const (
	codeword = 255 // symbols of a codeword, parity included: GF(256) without zero

	// MinRoots and MaxRoots bound the parity symbols of a codeword, as the kernel
	// does (DM_VERITY_FEC_MAX_RSN and _MIN_RSN in drivers/md/dm-verity-fec.h).
	MinRoots = 2
	MaxRoots = 24

	defaultBlockSize = 4096
	minBlockSize     = 512
	maxBlockSize     = 512 << 10
)

// Params are the parameters of a code. The zero value means 2 roots and blocks of
// 4096 bytes, which are the defaults of veritysetup.
type Params struct {
	// Roots is the number of parity bytes for each 255-Roots bytes, 2 to 24. As many damaged blocks
	// of one round can be repaired if verity can tell which they are, and half as many if it
	// cannot. 0 means 2.
	Roots int

	// BlockSize is the size of data blocks and hash blocks, which must be the same
	// size for a code to cover both: a power of two, 512 to 524288 bytes. 0 means 4096.
	BlockSize int
}

func (p Params) withDefaults() (Params, error) {
	if p.Roots == 0 {
		p.Roots = MinRoots
	}
	if p.BlockSize == 0 {
		p.BlockSize = defaultBlockSize
	}
	if p.Roots < MinRoots || p.Roots > MaxRoots {
		return p, &ParamError{Param: "roots", Value: int64(p.Roots), Want: fmt.Sprintf("%d to %d", MinRoots, MaxRoots)}
	}
	if n := p.BlockSize; n < minBlockSize || n > maxBlockSize || n&(n-1) != 0 {
		return p, &ParamError{Param: "block size", Value: int64(n), Want: "a power of two from 512 to 524288"}
	}
	return p, nil
}

// A geometry is how the code lies over the blocks. Data and hash area, one behind
// the other and zeros behind them, are cut into 255-roots rows of rounds blocks.
// Byte column c of the rows is the data of codeword c, whose parity is found at
// c*roots. (cryptsetup 2.8, lib/verity/verity_fec.c, calls this interleaving.)
type geometry struct {
	Params
	data   int64 // bytes
	hash   int64 // bytes that are covered: whole blocks
	rounds int64
}

func newGeometry(dataSize, hashSize int64, p Params) (geometry, error) {
	p, err := p.withDefaults()
	if err != nil {
		return geometry{}, err
	}
	bs := int64(p.BlockSize)
	if dataSize <= 0 || dataSize%bs != 0 {
		return geometry{}, &verity.AlignmentError{Size: dataSize, BlockSize: p.BlockSize}
	}
	if hashSize < 0 || hashSize > math.MaxInt64-codeword*bs-dataSize {
		return geometry{}, &ParamError{Param: "hash area size", Value: hashSize, Want: "0 or more, and with the data less than 2^63"}
	}
	g := geometry{Params: p, data: dataSize, hash: hashSize - hashSize%bs}
	g.rounds = (g.blocks()-1)/int64(g.rows()) + 1
	return g, nil
}

func (g geometry) rows() int      { return codeword - g.Roots }
func (g geometry) covered() int64 { return g.data + g.hash }
func (g geometry) blocks() int64  { return g.covered() / int64(g.BlockSize) }

// also the number of codewords
func (g geometry) rowSize() int64  { return g.rounds * int64(g.BlockSize) }
func (g geometry) size() int64     { return g.rowSize() * int64(g.Roots) }
func (g geometry) perRound() int64 { return int64(g.BlockSize) * int64(g.Roots) }

// Size returns the size of the parity for data and hash area of the given sizes, in bytes. The data
// must be a positive multiple of the block size (*verity.AlignmentError); of the hash area only
// whole blocks count. Other errors are *ParamError.
func Size(dataSize, hashSize int64, p Params) (n int64, err error) {
	defer prefix.Add("fec", &err)
	g, err := newGeometry(dataSize, hashSize, p)
	if err != nil {
		return 0, err
	}
	return g.size(), nil
}

// Blocks returns how many blocks the code covers: fec_blocks of the device-mapper
// table. Its errors are those of Size.
func Blocks(dataSize, hashSize int64, p Params) (n int64, err error) {
	defer prefix.Add("fec", &err)
	g, err := newGeometry(dataSize, hashSize, p)
	if err != nil {
		return 0, err
	}
	return g.blocks(), nil
}

// HashArea returns the part of a hash device that a code covers: from the first hash block behind
// the superblock to the end of the device. A FEC area on the hash device is not covered: give
// HashArea the device up to the FEC area (io.NewSectionReader). Bytes between the tree and the end
// are covered too, as with veritysetup.
//
// Of the parameters, HashOffset, NoSuperblock and HashBlockSize matter; a superblock that was read
// gives them by its method Params. If the device ends before the area starts, the error is a
// *verity.ShortError.
func HashArea(device osmith.Source, p verity.Params) (area *io.SectionReader, err error) {
	defer prefix.Add("fec", &err)
	if device == nil {
		return nil, errNone("hash device")
	}
	start, err := verity.TreeStart(p)
	if err != nil {
		return nil, prefix.Bare(err)
	}
	if have := device.Size(); have < start {
		return nil, &verity.ShortError{Device: "hash device", Want: start, Got: have}
	}
	return io.NewSectionReader(device, start, device.Size()-start), nil
}
