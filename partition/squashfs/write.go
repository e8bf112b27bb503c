package squashfs

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"runtime"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/filetree"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// Options are the choices of [Write].
type Options struct {
	osmith.TreeOptions

	// Compression is of contents, names and attributes alike.
	Compression Compression

	// Level is 1 to 22 for [Zstd] and 1 to 9 for [Gzip]; a higher one compresses better and more
	// slowly. 0 is what mksquashfs has: 15 and 9. Zstd has four different results: levels 1 and 2, 3
	// to 5, 6 to 9, and 10 and above.
	Level int

	// BlockSize is a power of two from 4096 to 1 MiB. Larger blocks compress better, and more is
	// read and kept in memory to get at a byte. 0 is 128 KiB, as with mksquashfs.
	BlockSize int

	// Workers is how many blocks are compressed at a time; 0 is one for each processor that the
	// program may use. The result does not depend on it.
	Workers int
}

const (
	superblockSize = 96
	magic          = 0x73717368
	blockSizeUsual = 128 << 10
	blockSizeLeast = 4096
	blockSizeMost  = 1 << 20
	// padding is what the size of an image is a multiple of, for the kernel's sake.
	padding = 4096
)

// Flags of the superblock.
const (
	flagInodesStored    = 0x0001
	flagDataStored      = 0x0002
	flagFragmentsStored = 0x0008
	flagEndsInFragments = 0x0020 // those of large files, too
	flagDuplicates      = 0x0040 // are stored once
	flagExports         = 0x0080
	flagXattrsStored    = 0x0100
	flagNoXattrs        = 0x0200
	flagOptions         = 0x0400
	flagIDsStored       = 0x0800
)

func (o *Options) fill() (err error) {
	if !o.Compression.known() {
		return fmt.Errorf("%v: want Zstd, Gzip or None", o.Compression)
	}
	if o.Level, err = o.Compression.checkLevel(o.Level); err != nil {
		return err
	}
	if o.BlockSize == 0 {
		o.BlockSize = blockSizeUsual
	}
	if b := o.BlockSize; b < blockSizeLeast || b > blockSizeMost || bits.OnesCount(uint(b)) != 1 {
		return fmt.Errorf("block size %d: want a power of two from %d to %d", b, blockSizeLeast, blockSizeMost)
	}
	if o.Workers < 0 {
		return fmt.Errorf("%d workers: want 1 or more, or 0 for one for each processor", o.Workers)
	}
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	return nil
}

// Write writes a tree of files as a squashfs 4.0 file system and returns its size in bytes, which
// is a multiple of 4096. All of that is written once, from front to back, but the superblock at
// offset 0, which is written last: before that, what is in w is no file system.
//
// Files are read as they are written, and an error is returned if one does not have the size that
// its directory tells. A symbolic link in a tree that does not tell its target is an
// [osmith.ErrLink], an access control list an [osmith.ErrXattr], before anything is written.
func Write(ctx context.Context, w io.WriterAt, fsys fs.FS, o Options) (size int64, err error) {
	defer prefix.Add("squashfs", &err)
	if err := o.fill(); err != nil {
		return 0, err
	}
	root, count, err := readTree(ctx, fsys, o.TreeOptions)
	if err != nil {
		return 0, err
	}
	im := &image{ctx: ctx, options: o, count: count, exports: make([]byte, int64(count)*8), owners: owners{index: map[uint32]uint16{}}, xattrs: xattrs{index: map[string]uint32{}}}
	encoders := make([]encoder, o.Workers)
	for i := range encoders {
		if encoders[i], err = o.Compression.newEncoder(o.Level, o.BlockSize); err != nil {
			return 0, err
		}
	}
	// The workers have ended before there are tables.
	im.encoder = encoders[0]
	im.inodes.encoder, im.directories.encoder, im.xattrs.pairs.encoder = im.encoder, im.encoder, im.encoder
	im.out = &output{bufio.NewWriterSize(io.NewOffsetWriter(w, superblockSize), 1<<20), superblockSize}
	fragments, err := im.writeContents(fsys, root, encoders)
	if err != nil {
		return 0, err
	}
	s, err := im.writeTables(root, fragments)
	if err != nil {
		return 0, err
	}
	size = (im.out.at + padding - 1) / padding * padding
	if err := im.out.write(make([]byte, size-im.out.at)); err != nil {
		return 0, err
	}
	if err := im.out.w.Flush(); err != nil {
		return 0, ofTarget(err)
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if _, err := w.WriteAt(s, 0); err != nil {
		return 0, ofTarget(err)
	}
	return size, nil
}

// An image is a file system while it is written.
type image struct {
	ctx         context.Context
	options     Options
	out         *output
	encoder     encoder // of tables
	count       uint32  // of inodes
	inodes      metadata
	directories metadata
	exports     []byte // the place of each inode, by its number
	owners      owners
	xattrs      xattrs
}

// output writes the image from front to back.
type output struct {
	w  *bufio.Writer
	at int64
}

func (o *output) write(b []byte) error {
	n, err := o.w.Write(b)
	o.at += int64(n)
	return ofTarget(err)
}

// ofTarget tells an error of the target from one of a file that is read.
func ofTarget(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("writing the image: %w", err)
}

// writeTables writes the tables behind the contents, and returns the superblock.
func (im *image) writeTables(root *node, fragments []byte) (superblock []byte, err error) {
	if err := im.writeInodes(root); err != nil {
		return nil, err
	}
	if err := im.writeInode(root); err != nil {
		return nil, err
	}
	inodeTable := im.out.at
	if err := im.writeTable(&im.inodes); err != nil {
		return nil, err
	}
	directoryTable := im.out.at
	if err := im.writeTable(&im.directories); err != nil {
		return nil, err
	}
	fragmentTable, err := im.writeLookup(fragments)
	if err != nil {
		return nil, err
	}
	exportTable, err := im.writeLookup(im.exports)
	if err != nil {
		return nil, err
	}
	var ids []byte
	for _, id := range im.owners.ids {
		ids = binary.LittleEndian.AppendUint32(ids, id)
	}
	idTable, err := im.writeLookup(ids)
	if err != nil {
		return nil, err
	}
	xattrTable, err := im.writeXattrs()
	if err != nil {
		return nil, err
	}
	o := &im.options
	flags := uint16(flagEndsInFragments | flagDuplicates | flagExports)
	if xattrTable < 0 {
		flags |= flagNoXattrs
	}
	if o.Compression == None {
		flags |= flagInodesStored | flagDataStored | flagFragmentsStored | flagIDsStored
		if xattrTable >= 0 {
			flags |= flagXattrsStored
		}
	}
	if o.Compression.compressorOptions(o.Level) != nil {
		flags |= flagOptions
	}
	le := binary.LittleEndian
	b := le.AppendUint32(nil, magic)
	b = le.AppendUint32(b, im.count)
	b = le.AppendUint32(b, seconds(filetree.Clamp(o.Time, o.TreeOptions)))
	b = le.AppendUint32(b, uint32(o.BlockSize))
	b = le.AppendUint32(b, uint32(len(fragments)/fragmentSize))
	b = le.AppendUint16(b, compressions[o.Compression].id)
	b = le.AppendUint16(b, uint16(bits.TrailingZeros(uint(o.BlockSize))))
	b = le.AppendUint16(b, flags)
	b = le.AppendUint16(b, uint16(len(im.owners.ids)))
	b = le.AppendUint16(b, 4) // version 4.0
	b = le.AppendUint16(b, 0)
	b = le.AppendUint64(b, root.place.reference())
	b = le.AppendUint64(b, uint64(im.out.at))
	for _, at := range []int64{idTable, xattrTable, inodeTable, directoryTable, fragmentTable, exportTable} {
		b = le.AppendUint64(b, uint64(at)) // -1, all bits set: no such table
	}
	return b, nil
}

// writeContents writes the options of the compressor and the contents of all files, and returns the
// records of the fragment table.
func (im *image) writeContents(fsys fs.FS, root *node, encoders []encoder) (fragments []byte, err error) {
	if b := im.options.Compression.compressorOptions(im.options.Level); b != nil {
		b = append(binary.LittleEndian.AppendUint16(nil, uint16(len(b))|storedMetadata), b...)
		if err := im.out.write(b); err != nil {
			return nil, err
		}
	}
	b := newBlocks(im.out, im.options.BlockSize, encoders)
	defer b.close()
	c := newContents(im.ctx, fsys, root, im.options.BlockSize, b)
	err = root.visit(func(n *node) error {
		if !n.Mode.IsRegular() {
			return nil
		}
		if err := c.add(n); err != nil {
			return fmt.Errorf("%s: %w", n.Absolute(), err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return c.fragments, c.flush()
}

// writeTable ends a table and writes it.
func (im *image) writeTable(m *metadata) error {
	if err := m.close(); err != nil {
		return err
	}
	return im.out.write(m.stored)
}
