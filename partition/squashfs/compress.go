package squashfs

import (
	"encoding/binary"
	"fmt"

	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// Compression is how the blocks of an image are compressed.
type Compression int

const (
	// Zstd is the smallest and the fastest to read. Linux reads it from 4.14 on, if it is built with
	// CONFIG_SQUASHFS_ZSTD.
	Zstd Compression = iota
	// Gzip is what every Linux with squashfs reads, and the default of mksquashfs. The blocks are
	// zlib streams.
	Gzip
	// None stores everything as it is, for an image that is compressed later as a whole. Its
	// superblock names gzip, since the format has no number for it.
	None
)

// compressions are the facts about each: its name in the options of mksquashfs, its number in the
// superblock, and its levels, the default being that of mksquashfs 4.5.
var compressions = [...]struct {
	name         string
	id           uint16
	level, limit int
}{
	Zstd: {"zstd", 6, 15, 22},
	Gzip: {"gzip", 1, 9, 9},
	None: {"none", 1, 0, 0},
}

func (c Compression) known() bool { return c >= 0 && int(c) < len(compressions) }

// String is the name that [ParseCompression] reads.
func (c Compression) String() string {
	if !c.known() {
		return fmt.Sprintf("Compression(%d)", int(c))
	}
	return compressions[c].name
}

// ParseCompression reads "zstd", "gzip" or "none".
func ParseCompression(name string) (Compression, error) {
	for c, facts := range compressions {
		if facts.name == name {
			return Compression(c), nil
		}
	}
	return 0, prefix.Error("squashfs", fmt.Errorf("compression %q: want zstd, gzip or none", name))
}

// checkLevel returns the level that a level of [Options] stands for.
func (c Compression) checkLevel(level int) (int, error) {
	switch facts := compressions[c]; {
	case level == 0:
		return facts.level, nil
	case level < 0 || level > facts.limit:
		if c == None {
			return 0, fmt.Errorf("level %d without compression: want 0", level)
		}
		return 0, fmt.Errorf("level %d of %s: want 1 to %d, or 0 for %d", level, c, facts.limit, facts.level)
	}
	return level, nil
}

// compressorOptions are what the superblock is followed by where the level is not the default
// ("Compression Options").
func (c Compression) compressorOptions(level int) []byte {
	if level == compressions[c].level {
		return nil
	}
	b := binary.LittleEndian.AppendUint32(nil, uint32(level))
	if c == Gzip {
		const window, strategies = 15, 0 // the defaults of zlib
		b = binary.LittleEndian.AppendUint16(b, window)
		b = binary.LittleEndian.AppendUint16(b, strategies)
	}
	return b
}

// An encoder compresses one block after the other. What it returns depends on the block alone.
type encoder interface {
	// encode appends the compressed block to dst.
	encode(dst, block []byte) ([]byte, error)
}

// newEncoder returns the encoder of blocks up to blockSize, or nil for [None].
func (c Compression) newEncoder(level, blockSize int) (encoder, error) {
	switch c {
	case Zstd:
		// The kernel has room for a window as large as the larger one of a data block and a metadata
		// block, and checks no checksum. More than one goroutine would make no difference to the
		// bytes, but there are as many encoders as workers.
		z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)),
			zstd.WithWindowSize(max(blockSize, metadataSize)), zstd.WithEncoderCRC(false), zstd.WithEncoderConcurrency(1))
		return zstdEncoder{z}, err
	case Gzip:
		z, err := zlib.NewWriterLevel(nil, level)
		return &zlibEncoder{z: z}, err
	}
	return nil, nil
}

type zstdEncoder struct{ z *zstd.Encoder }

func (e zstdEncoder) encode(dst, block []byte) ([]byte, error) { return e.z.EncodeAll(block, dst), nil }

type zlibEncoder struct {
	z   *zlib.Writer
	out []byte
}

// Write takes what the zlib writer has compressed.
func (e *zlibEncoder) Write(b []byte) (int, error) {
	e.out = append(e.out, b...)
	return len(b), nil
}

func (e *zlibEncoder) encode(dst, block []byte) ([]byte, error) {
	e.out = dst
	e.z.Reset(e)
	if _, err := e.z.Write(block); err != nil {
		return nil, err
	}
	if err := e.z.Close(); err != nil {
		return nil, err
	}
	return e.out, nil
}

// shrink compresses a block into space, and returns the block itself where that makes it no
// smaller: a reader has room for a block and no more.
func shrink(e encoder, space, block []byte) (stored []byte, compressed bool, err error) {
	if e == nil {
		return block, false, nil
	}
	stored, err = e.encode(space[:0], block)
	if err != nil || len(stored) >= len(block) {
		return block, false, err
	}
	return stored, true, nil
}
