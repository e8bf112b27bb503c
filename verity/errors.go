package verity

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrNoSuperblock says that the bytes are not a verity superblock at all: the
	// signature is missing.
	ErrNoSuperblock = errors.New("no verity superblock")

	// ErrNotSupported says that a valid superblock has parameters that this package cannot verify.
	ErrNotSupported = errors.New("not supported")

	// ErrRootHash, ErrTree and ErrData are the three findings that a
	// *MismatchError answers to with errors.Is.
	ErrRootHash = errors.New("root hash does not match")
	ErrTree     = errors.New("hash tree is damaged")
	ErrData     = errors.New("data is damaged")

	// ErrSpare is what a *SpareError answers to with errors.Is.
	ErrSpare = errors.New("hash tree has bytes other than digests and zero padding")
)

// errNone is the error for a device that is not given at all.
func errNone(device string) error { return fmt.Errorf("%s: not given", device) }

// An AlignmentError says that the data cannot be cut into whole blocks.
type AlignmentError struct {
	Size      int64 // bytes of data
	BlockSize int   // bytes of a data block
}

func (e *AlignmentError) Error() string {
	if e.Size <= 0 {
		return fmt.Sprintf("data: %d bytes, want at least one block of %d bytes", e.Size, e.BlockSize)
	}
	over := e.Size % int64(e.BlockSize)
	return fmt.Sprintf("data: %d bytes, want a multiple of the block size %d: drop %d bytes or pad with %d",
		e.Size, e.BlockSize, over, int64(e.BlockSize)-over)
}

// A ShortError says that a device is smaller than the image on it.
type ShortError struct {
	Device string // "data" or "tree"
	Want   int64  // bytes that are needed
	Got    int64  // bytes that the device has
}

func (e *ShortError) Error() string {
	return fmt.Sprintf("%s: %d bytes: needs %d", e.Device, e.Got, e.Want)
}

// A BlockError says that a block read by a Reader does not match the root hash. It answers to
// errors.Is as ErrData for a data block and as ErrTree for a hash block; for the block whose digest
// should be the root hash also as ErrRootHash, since either of the two may be wrong.
type BlockError struct {
	Level int    // 0 for a data block, else the level of a hash block, as in Range
	Block int64  // number of the block, counted from the start of its level
	Want  []byte // digest that the block must have
	Got   []byte // digest that it has

	top bool
}

func (e *BlockError) Error() string {
	return fmt.Sprintf("%v: digest %x, want %x", Range{Level: e.Level, First: e.Block, Count: 1}, e.Got, e.Want)
}

// Is reports whether the target is what the error says.
func (e *BlockError) Is(target error) bool {
	switch target {
	case ErrRootHash:
		return e.top
	case ErrTree:
		return e.Level > 0
	case ErrData:
		return e.Level == 0
	}
	return false
}

// A SpareError says that a hash block has the right digest and is wrong nevertheless: a byte that
// pads a digest, or lies after the last digest, is not zero. Such a tree covers more data than the
// superblock or Params say, so that the end of the image would be cut off, or it was made by no
// known tool. veritysetup refuses it as "Spare area is not zeroed"; the kernel does not check these
// bytes.
type SpareError struct {
	Level  int   // level of the hash block, as in Range
	Block  int64 // number of the hash block, counted from the start of its level
	Offset int   // of the first such byte in the hash block
	Blocks int64 // number of data blocks according to the superblock or Params
}

func (e *SpareError) Error() string {
	return fmt.Sprintf("%v: %v: byte %#x: the tree covers more than the requested %d data blocks, or was not made by a verity tool: compare the superblock with the size of the image",
		ErrSpare, Range{Level: e.Level, First: e.Block, Count: 1}, e.Offset, e.Blocks)
}

// Is reports whether the target is ErrSpare.
func (e *SpareError) Is(target error) bool { return target == ErrSpare }

// A Range is a run of damaged blocks on one level of the tree.
type Range struct {
	// Level is 0 for data blocks, 1 for the hash blocks that hold the digests of
	// data blocks, and so on up to the single top block.
	Level int
	First int64 // number of the first block, counted from the start of its level
	Count int64 // number of blocks
}

func (r Range) String() string {
	what := "data block"
	if r.Level > 0 {
		what = fmt.Sprintf("level %d hash block", r.Level)
	}
	if r.Count == 1 {
		return fmt.Sprintf("%s %d", what, r.First)
	}
	return fmt.Sprintf("%ss %d-%d", what, r.First, r.First+r.Count-1)
}

// MaxRanges is the number of ranges that a MismatchError lists per level.
const MaxRanges = 64

// A MismatchError is the answer of Verify for an image that does not match the root hash. errors.Is
// distinguishes the findings:
//
//   - ErrRootHash: the root hash does not belong to this tree. Alone, it means that data and tree
//     agree with each other, so the root hash is that of a different image. Together with the other
//     findings it means that too much differs to say more; a changed salt in the superblock has
//     that effect.
//   - ErrTree: hash blocks are damaged; Format can rebuild them if the data is not damaged too.
//   - ErrData: data blocks are damaged.
//
// Below a hash block that is damaged and cannot be inferred from the blocks under it, it is unknown
// whether a block or its digest was changed; such blocks are listed too.
type MismatchError struct {
	Want []byte // expected root hash
	Got  []byte // root hash of the tree as it is stored

	// Ranges lists damaged blocks by level, then block, with at most MaxRanges
	// ranges for each level. The two totals count all of them.
	Ranges     []Range
	DataBlocks int64 // damaged data blocks
	TreeBlocks int64 // damaged hash blocks

	root bool // the root hash does not belong to the tree
}

func (e *MismatchError) Error() string {
	var parts []string
	if e.root {
		parts = append(parts, fmt.Sprintf("%v: want %x, the tree has %x", ErrRootHash, e.Want, e.Got))
	}
	if e.TreeBlocks > 0 {
		parts = append(parts, fmt.Sprintf("%v: %d of its blocks", ErrTree, e.TreeBlocks))
	}
	if e.DataBlocks > 0 {
		parts = append(parts, fmt.Sprintf("%v: %d blocks", ErrData, e.DataBlocks))
	}
	text := "image: " + strings.Join(parts, "; ")
	const shown = 4
	for i, r := range e.Ranges {
		switch {
		case i == shown:
			return text + ", ..."
		case i == 0:
			text += ": "
		default:
			text += ", "
		}
		text += r.String()
	}
	return text
}

// Is reports whether the target is one of the findings.
func (e *MismatchError) Is(target error) bool {
	switch target {
	case ErrRootHash:
		return e.root
	case ErrTree:
		return e.TreeBlocks > 0
	case ErrData:
		return e.DataBlocks > 0
	}
	return false
}
