package verity

import (
	"bytes"
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// SuperblockSize is the number of bytes that a superblock occupies.
const SuperblockSize = 512

// Block sizes that a superblock may carry, in bytes; both are powers of two.
const (
	minBlockSize = 512
	maxBlockSize = 512 << 10
)

// Offsets of the fields of struct verity_sb, cryptsetup 2.8, lib/verity/verity.c.
// All integers are little-endian.
const (
	sbMagic         = 0  // 8 bytes, "verity" and two NULs
	sbVersion       = 8  // u32, always 1
	sbHashType      = 12 // u32
	sbUUID          = 16 // 16 bytes, text order
	sbAlgorithm     = 32 // 32 bytes, NUL-padded
	sbDataBlockSize = 64 // u32
	sbHashBlockSize = 68 // u32
	sbDataBlocks    = 72 // u64
	sbSaltSize      = 80 // u16
	sbPad1          = 82 // 6 bytes, zero
	sbSalt          = 88 // 256 bytes, zero-padded
	sbPad2          = 344
)

var magic = []byte("verity\x00\x00")

// A Superblock is the header of a hash device. It says how the tree was made, but
// not what the root hash is, and nothing protects it: a changed superblock shows
// only as a root hash that does not match.
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

// ReadSuperblock reads the superblock at a byte offset of a hash device. It is
// strict: an unknown version or size and any byte that should be zero but is not
// are errors of type *FormatError; a missing signature also is ErrNoSuperblock.
// What follows the 512 bytes up to the end of the first hash block has no meaning
// and is not looked at.
func ReadSuperblock(r io.ReaderAt, off int64) (*Superblock, error) {
	if off < 0 {
		return nil, &FormatError{Offset: off, Field: "superblock", Err: errors.New("negative offset")}
	}
	b := make([]byte, SuperblockSize)
	if n, err := r.ReadAt(b, off); n < len(b) {
		if err == io.EOF {
			err = fmt.Errorf("%d of %d bytes: %w", n, len(b), io.ErrUnexpectedEOF)
		}
		return nil, &FormatError{Offset: off, Field: "superblock", Err: err}
	}
	sb, at, err := parseSuperblock(b)
	if err != nil {
		return nil, &FormatError{Offset: off + int64(at), Field: fieldName(at), Err: err}
	}
	return sb, nil
}

// parseSuperblock returns, with an error, the offset of the field it is about.
func parseSuperblock(b []byte) (*Superblock, int, error) {
	if !bytes.Equal(b[sbMagic:sbVersion], magic) {
		return nil, sbMagic, ErrNoSuperblock
	}
	if v := binary.LittleEndian.Uint32(b[sbVersion:]); v != 1 {
		return nil, sbVersion, fmt.Errorf("unknown version %d, want 1", v)
	}
	dataBlockSize := binary.LittleEndian.Uint32(b[sbDataBlockSize:])
	if err := checkBlockSize(int64(dataBlockSize)); err != nil {
		return nil, sbDataBlockSize, err
	}
	hashBlockSize := binary.LittleEndian.Uint32(b[sbHashBlockSize:])
	if err := checkBlockSize(int64(hashBlockSize)); err != nil {
		return nil, sbHashBlockSize, err
	}
	saltSize := binary.LittleEndian.Uint16(b[sbSaltSize:])
	if saltSize > MaxSaltSize {
		return nil, sbSaltSize, fmt.Errorf("%d bytes, at most %d are allowed", saltSize, MaxSaltSize)
	}
	name := bytes.TrimRight(b[sbAlgorithm:sbDataBlockSize], "\x00")
	sb := &Superblock{
		HashType:      binary.LittleEndian.Uint32(b[sbHashType:]),
		UUID:          [16]byte(b[sbUUID:sbAlgorithm]),
		Algorithm:     string(name),
		DataBlockSize: int(dataBlockSize),
		HashBlockSize: int(hashBlockSize),
		Salt:          append([]byte(nil), b[sbSalt:sbSalt+int(saltSize)]...),
	}
	blocks := binary.LittleEndian.Uint64(b[sbDataBlocks:])
	if blocks > math.MaxInt64 {
		return nil, sbDataBlocks, fmt.Errorf("%d blocks are more than a device can have", blocks)
	}
	sb.DataBlocks = int64(blocks)
	if at, err := sb.check(); err != nil {
		return nil, at, err
	}
	for _, gap := range [][2]int{{sbPad1, sbSalt}, {sbSalt + int(saltSize), sbPad2}, {sbPad2, SuperblockSize}} {
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
		return sbDataBlocks, fmt.Errorf("%d blocks, there must be at least one", sb.DataBlocks)
	}
	if sb.DataBlocks > math.MaxInt64/int64(sb.DataBlockSize) {
		return sbDataBlocks, fmt.Errorf("%d blocks of %d bytes are more than a device can have", sb.DataBlocks, sb.DataBlockSize)
	}
	if len(sb.Salt) > MaxSaltSize {
		return sbSaltSize, fmt.Errorf("%d bytes, at most %d are allowed", len(sb.Salt), MaxSaltSize)
	}
	return 0, nil
}

// AppendBinary appends the 512 bytes of the superblock. A value that no superblock
// can hold is a *FormatError.
func (sb *Superblock) AppendBinary(b []byte) ([]byte, error) {
	if at, err := sb.check(); err != nil {
		return nil, &FormatError{Offset: int64(at), Field: fieldName(at), Err: err}
	}
	var s [SuperblockSize]byte
	copy(s[sbMagic:], magic)
	binary.LittleEndian.PutUint32(s[sbVersion:], 1)
	binary.LittleEndian.PutUint32(s[sbHashType:], sb.HashType)
	copy(s[sbUUID:], sb.UUID[:])
	copy(s[sbAlgorithm:], sb.Algorithm)
	binary.LittleEndian.PutUint32(s[sbDataBlockSize:], uint32(sb.DataBlockSize))
	binary.LittleEndian.PutUint32(s[sbHashBlockSize:], uint32(sb.HashBlockSize))
	binary.LittleEndian.PutUint64(s[sbDataBlocks:], uint64(sb.DataBlocks))
	binary.LittleEndian.PutUint16(s[sbSaltSize:], uint16(len(sb.Salt)))
	copy(s[sbSalt:], sb.Salt)
	return append(b, s[:]...), nil
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

func fieldName(at int) string {
	switch {
	case at < sbVersion:
		return "signature"
	case at < sbHashType:
		return "version"
	case at < sbUUID:
		return "hash_type"
	case at < sbAlgorithm:
		return "uuid"
	case at < sbDataBlockSize:
		return "algorithm"
	case at < sbHashBlockSize:
		return "data_block_size"
	case at < sbDataBlocks:
		return "hash_block_size"
	case at < sbSaltSize:
		return "data_blocks"
	case at < sbPad1:
		return "salt_size"
	case at < sbSalt:
		return "_pad1"
	case at < sbPad2:
		return "salt"
	}
	return "_pad2"
}
