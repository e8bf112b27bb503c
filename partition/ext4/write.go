package ext4

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/sparse"
)

// Options are the choices of [Write] and [MinSize].
type Options struct {
	osmith.TreeOptions

	// Size is the room for the file system in bytes; 0: [MinSize], which leaves no block free. The
	// file system may be smaller: it has whole blocks, and a last block group only if that has room
	// for files beside its metadata.
	Size int64

	// UUID is the UUID of the file system, and the seed of its hashed directories. Two file systems
	// with the same UUID cannot be told apart by a machine that has both. The zero value is written
	// as it is.
	UUID osmith.GUID

	// Label is the volume label, up to [MaxLabel] bytes; "": none.
	Label string

	// BytesPerInode is how many bytes of the file system there are for each inode, 4096 to
	// 67108864; 0: 16384. There is an inode for each file of the tree in any case.
	BytesPerInode int64

	// NoJournal leaves the journal out, as suits a file system that is never written, such as one
	// under dm-verity. File systems of less than 8 MiB have none either.
	NoJournal bool
}

// SizeError says that a tree needs more room than Options.Size.
type SizeError struct {
	Size, Want int64 // bytes; Want is the size from MinSize
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("the files need %d bytes with the metadata, and the size is %d: make the partition larger or leave files out", e.Want, e.Size)
}

const (
	// MaxSize is the largest file system that Write makes, in bytes: 16 TiB.
	MaxSize = 1 << 44
	// MaxLabel is the longest label of a file system, in bytes.
	MaxLabel = 16
)

const blockSize = 4096

func (o *Options) check() error {
	switch {
	case len(o.Label) > MaxLabel:
		return fmt.Errorf("the label %q has %d bytes: want at most %d", o.Label, len(o.Label), MaxLabel)
	case o.Size < 0 || o.Size > MaxSize:
		return fmt.Errorf("size %d: want 0 to %d bytes", o.Size, int64(MaxSize))
	case o.BytesPerInode != 0 && (o.BytesPerInode < blockSize || o.BytesPerInode > 64<<20):
		return fmt.Errorf("%d bytes for each inode: want 0, or %d to %d", o.BytesPerInode, blockSize, 64<<20)
	}
	return nil
}

// MinSize is the size in bytes of the smallest file system that Write makes of a tree with these
// options, whose Size does not count. No contents are read.
func MinSize(ctx context.Context, fsys fs.FS, o Options) (size int64, err error) {
	defer prefix.Add("ext4", &err)
	o.Size = 0
	p, err := newPlan(ctx, fsys, o)
	if err != nil {
		return 0, err
	}
	return p.blocks * blockSize, nil
}

// Write writes a tree as an ext4 file system and returns its size in bytes, a multiple of 4096 and
// at most Options.Size. Bytes that are zero are not written, but for the last block: w must be an
// empty file, or have zeros everywhere. The superblock is written last: before that, what is in w
// is no file system.
//
// A tree that does not fit is a [*SizeError], before anything is written. A symbolic link in a tree
// that does not tell its target is an [osmith.ErrLink], an extended attribute for which there is no
// room an [osmith.ErrXattr], a file whose size changes while it is read an error.
func Write(ctx context.Context, w io.WriterAt, fsys fs.FS, o Options) (size int64, err error) {
	defer prefix.Add("ext4", &err)
	p, err := newPlan(ctx, fsys, o)
	if err != nil {
		return 0, err
	}
	out := &writer{ctx: ctx, w: w, plan: p}
	if err := out.contents(fsys); err != nil {
		return 0, err
	}
	if err := out.groups(); err != nil {
		return 0, err
	}
	return p.blocks * blockSize, nil
}

// writer writes what is planned.
type writer struct {
	*plan
	ctx context.Context
	w   io.WriterAt
	end int64 // behind the last block that was written
}

// block writes whole blocks from block n on, which are zero until then.
func (w *writer) block(n int64, b []byte) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	w.end = max(w.end, n+int64(len(b))/blockSize)
	_, err := w.w.WriteAt(b, n*blockSize)
	return err
}

// contents writes the blocks of all files: data, entries of directories, long symbolic links, and
// what does not fit into an inode of their extents.
func (w *writer) contents(fsys fs.FS) error {
	buf := make([]byte, 256*blockSize)
	for _, n := range w.nodes {
		var err error
		switch {
		case n.Mode.IsDir():
			err = w.directory(n)
		case n.Mode.IsRegular():
			err = w.file(fsys, n, buf)
		case n.data > 0: // a symbolic link
			err = w.pieces(n, buf[:blockSize], 0, pad(buf, n.Link))
		}
		if err == nil {
			err = w.extentBlocks(n)
		}
		if err == nil && n.xattrsApart {
			err = w.block(n.xattrsAt, w.xattrBlock(n))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", n.Absolute(), err)
		}
	}
	if w.journal == nil {
		return nil
	}
	if err := w.block(w.journal.extents[0].start, w.journalSuperblock()); err != nil {
		return err
	}
	return w.extentBlocks(w.journal)
}

// pad puts a text into the first block of a buffer, with zeros behind it.
func pad(buf []byte, text string) int {
	clear(buf[copy(buf, text):blockSize])
	return blockSize
}

// file copies the content of a regular file.
func (w *writer) file(fsys fs.FS, n *node, buf []byte) (err error) {
	src, err := fsys.Open(n.Name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	var off int64
	for {
		got, err := io.ReadFull(src, buf)
		end := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !end {
			return err
		}
		if off+int64(got) > n.Size || end && off+int64(got) < n.Size {
			return fmt.Errorf("the file changed: %d bytes, want %d as in its directory", off+int64(got), n.Size)
		}
		whole := (got + blockSize - 1) / blockSize * blockSize
		clear(buf[got:whole])
		if err := w.pieces(n, buf[:whole], off/blockSize, whole); err != nil {
			return err
		}
		if off += int64(got); end {
			return nil
		}
	}
}

// pieces writes n bytes of whole blocks of a file, from its block first on, to where its extents
// have them. Blocks of zeros are left out.
func (w *writer) pieces(f *node, b []byte, first int64, n int) error {
	b = b[:n]
	for _, e := range f.extents {
		if len(b) == 0 {
			break
		}
		if first >= e.first+e.count {
			continue
		}
		count := min(int64(len(b))/blockSize, e.first+e.count-first)
		if err := w.data(e.start+first-e.first, b[:count*blockSize]); err != nil {
			return err
		}
		b, first = b[count*blockSize:], first+count
	}
	return nil
}

// data writes those of consecutive blocks that are not zeros, as few times as it takes.
func (w *writer) data(at int64, b []byte) error {
	for len(b) > 0 {
		n := 0
		for n < len(b) && sparse.Zero(b[n:n+blockSize]) {
			n += blockSize
		}
		at, b = at+int64(n/blockSize), b[n:]
		for n = 0; n < len(b) && !sparse.Zero(b[n:n+blockSize]); {
			n += blockSize
		}
		if n == 0 {
			break
		}
		if err := w.block(at, b[:n]); err != nil {
			return err
		}
		at, b = at+int64(n/blockSize), b[n:]
	}
	return nil
}
