package verity

import (
	"fmt"

	"github.com/osmith-dev/osmith/verity/internal/hashtree"
)

const (
	defaultHash      = "sha256"
	defaultBlockSize = 4096

	// MaxSaltSize is the largest salt that a superblock can hold, in bytes.
	MaxSaltSize = 256
)

// Params are the choices that go into a hash tree. The zero value means: no salt,
// an all-zero UUID, hash format 1, SHA-256, data and hash blocks of 4096 bytes, and
// a superblock at the start of the hash device.
type Params struct {
	// Salt is hashed with every block, 0 to 256 bytes.
	Salt []byte

	// UUID identifies the hash device, in text order: 00112233-4455-... is {0x00, 0x11, 0x22, 0x33,
	// 0x44, 0x55, ...}. The kernel ignores it.
	UUID [16]byte

	// Hash is the kernel's name of the hash: "sha1", "sha256", "sha384" or "sha512".
	// Empty is "sha256".
	Hash string

	// ChromeOS asks for hash format 0, the format of the first Chrome OS: the salt is hashed after
	// the block instead of before it, and digests whose size is not a power of two are not padded
	// to the next power. New images do not need it.
	ChromeOS bool

	// DataBlockSize and HashBlockSize are bytes, powers of two from 512 to 512 KiB;
	// 0 is 4096. A kernel maps an image only if its data blocks are not larger than
	// the pages of the machine, which are 4096 bytes nearly everywhere.
	DataBlockSize, HashBlockSize int

	// HashOffset is where the superblock, or without one the tree, starts on the
	// hash device, in bytes: a multiple of 512, and without a superblock of the hash
	// block size. With one device for both it must not be less than the size of the
	// data.
	HashOffset int64

	// NoSuperblock leaves the superblock out. The verifier of the image must then receive all other
	// parameters separately.
	NoSuperblock bool
}

// withDefaults returns p with every choice made.
func (p Params) withDefaults() Params {
	if p.Hash == "" {
		p.Hash = defaultHash
	}
	if p.DataBlockSize == 0 {
		p.DataBlockSize = defaultBlockSize
	}
	if p.HashBlockSize == 0 {
		p.HashBlockSize = defaultBlockSize
	}
	return p
}

// check checks parameters that have no defaults left.
func (p Params) check() error {
	if len(p.Salt) > MaxSaltSize {
		return fmt.Errorf("salt: %d bytes: at most %d are allowed", len(p.Salt), MaxSaltSize)
	}
	if !hashtree.Known(p.Hash) {
		return fmt.Errorf("hash: %q: %w: want %s", p.Hash, ErrNotSupported, hashtree.Names())
	}
	if err := checkBlockSize(int64(p.DataBlockSize)); err != nil {
		return fmt.Errorf("data block size: %w", err)
	}
	if err := checkBlockSize(int64(p.HashBlockSize)); err != nil {
		return fmt.Errorf("hash block size: %w", err)
	}
	align := int64(SuperblockSize)
	if p.NoSuperblock {
		align = int64(p.HashBlockSize)
	}
	if p.HashOffset < 0 || p.HashOffset%align != 0 {
		return fmt.Errorf("hash offset: %d is not a multiple of %d", p.HashOffset, align)
	}
	return nil
}

// superblock returns the superblock of a tree over so many blocks.
func (p Params) superblock(dataBlocks int64) *Superblock {
	sb := &Superblock{
		HashType:      1,
		UUID:          p.UUID,
		Algorithm:     p.Hash,
		DataBlockSize: p.DataBlockSize,
		HashBlockSize: p.HashBlockSize,
		DataBlocks:    dataBlocks,
		Salt:          p.Salt,
	}
	if p.ChromeOS {
		sb.HashType = 0
	}
	return sb
}

// Params returns the parameters of a tree with this superblock at this offset. They do not include
// the number of data blocks.
func (sb *Superblock) Params(hashOffset int64) Params {
	return Params{
		Salt:          sb.Salt,
		UUID:          sb.UUID,
		Hash:          sb.Algorithm,
		ChromeOS:      sb.HashType == 0,
		DataBlockSize: sb.DataBlockSize,
		HashBlockSize: sb.HashBlockSize,
		HashOffset:    hashOffset,
	}
}

// checkDataSize checks that data consists of whole blocks.
func checkDataSize(size int64, blockSize int) error {
	if size <= 0 || size%int64(blockSize) != 0 {
		return &AlignmentError{Size: size, BlockSize: blockSize}
	}
	return nil
}
