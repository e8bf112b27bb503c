package verity

import (
	"bytes"
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// SuperblockSize is the number of bytes that a superblock occupies.
const SuperblockSize = 512

// Block sizes that a superblock may carry, in bytes; both are powers of two.
const (
	minBlockSize = 512
	maxBlockSize = 512 << 10
)

// rawSuperblock is struct verity_sb of cryptsetup 2.8, lib/verity/verity.c: little-endian.
type rawSuperblock struct {
	Signature     [8]byte // "verity" and two NULs
	Version       uint32  // always 1
	HashType      uint32
	UUID          [16]byte // text order
	Algorithm     [32]byte // NUL-padded
	DataBlockSize uint32
	HashBlockSize uint32
	DataBlocks    uint64
	SaltSize      uint16
	Pad1          [6]byte // zero
	Salt          [256]byte
	Pad2          [168]byte // zero
}

// Offsets of its fields that errors are about.
const (
	sbSignature     = 0
	sbVersion       = 8
	sbHashType      = 12
	sbUUID          = 16
	sbAlgorithm     = 32
	sbDataBlockSize = 64
	sbHashBlockSize = 68
	sbDataBlocks    = 72
	sbSaltSize      = 80
	sbPad1          = 82
	sbSalt          = 88
	sbPad2          = 344
)

var magic = [8]byte([]byte("verity\x00\x00"))

// A Superblock is the header of a hash device. It says how the tree was made, but does not contain
// the root hash, and it is not protected: a changed superblock shows only as a root hash that does
// not match.
type Superblock struct {
	HashType      uint32   // hash format: 1, or 0 for the original Chrome OS format
	UUID          [16]byte // text order
	Algorithm     string   // the kernel's name of the hash, such as "sha256"
	DataBlockSize int      // bytes, a power of two from 512 to 512 KiB
	HashBlockSize int      // bytes, a power of two from 512 to 512 KiB
	DataBlocks    int64    // number of data blocks, at least 1
	Salt          []byte   // 0 to 256 bytes
}

var _ encoding.BinaryAppender = (*Superblock)(nil)

// DataSize returns the number of bytes that the tree covers.
func (sb *Superblock) DataSize() int64 {
	return sb.DataBlocks * int64(sb.DataBlockSize)
}

// ReadSuperblock reads the superblock at a byte offset of a hash device. It is strict: an unknown
// version or size and any byte that should be zero but is not are errors of type
// *osmith.FormatError; a missing signature also is ErrNoSuperblock. What follows the 512 bytes up
// to the end of the first hash block has no meaning and is ignored.
func ReadSuperblock(r io.ReaderAt, off int64) (*Superblock, error) {
	sb, err := readSuperblock(r, off)
	return sb, prefix.Error("verity", err)
}

func readSuperblock(r io.ReaderAt, off int64) (*Superblock, error) {
	if r == nil {
		return nil, errNone("hash device")
	}
	if off < 0 {
		return nil, &osmith.FormatError{Offset: off, Field: "superblock", Err: errors.New("negative offset")}
	}
	b := make([]byte, SuperblockSize)
	if n, err := r.ReadAt(b, off); n < len(b) {
		if err == io.EOF {
			err = fmt.Errorf("%d of %d bytes: %w", n, len(b), io.ErrUnexpectedEOF)
		}
		return nil, &osmith.FormatError{Offset: off, Field: "superblock", Err: err}
	}
	sb, at, err := parseSuperblock(b)
	if err != nil {
		return nil, superblockError(off, at, err)
	}
	return sb, nil
}

// superblockError is an error about a field of the superblock at off.
func superblockError(off int64, field int, err error) error {
	return &osmith.FormatError{Offset: off + int64(field), Field: "superblock: " + fieldName(field), Err: err}
}

// parseSuperblock returns, with an error, the offset of the field it is about.
func parseSuperblock(b []byte) (*Superblock, int, error) {
	var raw rawSuperblock
	if _, err := binary.Decode(b, binary.LittleEndian, &raw); err != nil {
		return nil, 0, err
	}
	switch {
	case raw.Signature != magic:
		return nil, sbSignature, ErrNoSuperblock
	case raw.Version != 1:
		return nil, sbVersion, fmt.Errorf("unknown version %d, want 1", raw.Version)
	case raw.SaltSize > MaxSaltSize:
		return nil, sbSaltSize, fmt.Errorf("%d bytes, at most %d are allowed", raw.SaltSize, MaxSaltSize)
	case raw.DataBlocks > math.MaxInt64:
		return nil, sbDataBlocks, fmt.Errorf("%d blocks: a device cannot be that large", raw.DataBlocks)
	}
	if err := checkBlockSize(int64(raw.DataBlockSize)); err != nil {
		return nil, sbDataBlockSize, err
	}
	if err := checkBlockSize(int64(raw.HashBlockSize)); err != nil {
		return nil, sbHashBlockSize, err
	}
	sb := &Superblock{
		HashType:      raw.HashType,
		UUID:          raw.UUID,
		Algorithm:     string(bytes.TrimRight(raw.Algorithm[:], "\x00")),
		DataBlockSize: int(raw.DataBlockSize),
		HashBlockSize: int(raw.HashBlockSize),
		DataBlocks:    int64(raw.DataBlocks),
		Salt:          append([]byte(nil), raw.Salt[:raw.SaltSize]...),
	}
	if at, err := sb.check(); err != nil {
		return nil, at, err
	}
	for _, gap := range [][2]int{{sbPad1, sbSalt}, {sbSalt + int(raw.SaltSize), sbPad2}, {sbPad2, SuperblockSize}} {
		for at := gap[0]; at < gap[1]; at++ {
			if b[at] != 0 {
				return nil, at, fmt.Errorf("byte %#02x where zero is required", b[at])
			}
		}
	}
	return sb, 0, nil
}

// check returns, with an error, the offset of the field it is about.
func (sb *Superblock) check() (int, error) {
	if sb.HashType > 1 {
		return sbHashType, fmt.Errorf("unknown hash format %d, want 0 or 1", sb.HashType)
	}
	if n := len(sb.Algorithm); n == 0 || n >= sbDataBlockSize-sbAlgorithm {
		return sbAlgorithm, fmt.Errorf("a name of %d bytes, want 1 to 31", n)
	}
	for _, c := range []byte(sb.Algorithm) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return sbAlgorithm, fmt.Errorf("%q is not the name of a hash", sb.Algorithm)
		}
	}
	if err := checkBlockSize(int64(sb.DataBlockSize)); err != nil {
		return sbDataBlockSize, err
	}
	if err := checkBlockSize(int64(sb.HashBlockSize)); err != nil {
		return sbHashBlockSize, err
	}
	if sb.DataBlocks < 1 {
		return sbDataBlocks, fmt.Errorf("%d blocks, want at least one", sb.DataBlocks)
	}
	if sb.DataBlocks > math.MaxInt64/int64(sb.DataBlockSize) {
		return sbDataBlocks, fmt.Errorf("%d blocks of %d bytes: a device cannot be that large", sb.DataBlocks, sb.DataBlockSize)
	}
	if len(sb.Salt) > MaxSaltSize {
		return sbSaltSize, fmt.Errorf("%d bytes, at most %d are allowed", len(sb.Salt), MaxSaltSize)
	}
	return 0, nil
}

// AppendBinary appends the 512 bytes of the superblock. If a value does not fit a superblock, the
// error is an *osmith.FormatError.
func (sb *Superblock) AppendBinary(b []byte) ([]byte, error) {
	if at, err := sb.check(); err != nil {
		return nil, prefix.Error("verity", superblockError(0, at, err))
	}
	raw := rawSuperblock{
		Signature:     magic,
		Version:       1,
		HashType:      sb.HashType,
		UUID:          sb.UUID,
		DataBlockSize: uint32(sb.DataBlockSize),
		HashBlockSize: uint32(sb.HashBlockSize),
		DataBlocks:    uint64(sb.DataBlocks),
		SaltSize:      uint16(len(sb.Salt)),
	}
	copy(raw.Algorithm[:], sb.Algorithm)
	copy(raw.Salt[:], sb.Salt)
	return binary.Append(b, binary.LittleEndian, &raw)
}

func checkBlockSize(n int64) error {
	if n < minBlockSize || n > maxBlockSize {
		return fmt.Errorf("%d bytes, want %d to %d", n, minBlockSize, maxBlockSize)
	}
	if n&(n-1) != 0 {
		return fmt.Errorf("%d bytes is not a power of two", n)
	}
	return nil
}

// fieldName returns the name of the field that an offset lies in.
func fieldName(at int) string {
	name := ""
	for _, f := range []struct {
		at   int
		name string
	}{
		{sbSignature, "signature"}, {sbVersion, "version"}, {sbHashType, "hash_type"}, {sbUUID, "uuid"}, {sbAlgorithm, "algorithm"},
		{sbDataBlockSize, "data_block_size"}, {sbHashBlockSize, "hash_block_size"}, {sbDataBlocks, "data_blocks"},
		{sbSaltSize, "salt_size"}, {sbPad1, "_pad1"}, {sbSalt, "salt"}, {sbPad2, "_pad2"},
	} {
		if f.at <= at {
			name = f.name
		}
	}
	return name
}
