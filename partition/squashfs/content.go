package squashfs

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"

	"github.com/osmith-dev/osmith/internal/sparse"
)

// A content is where the bytes of a regular file are in the image. Equal files share one.
type content struct {
	start    int64    // of the first block that is no hole
	blocks   []uint32 // their sizes, with storedBlock; 0 is a hole
	fragment uint32   // that has the end of the file, or noFragment
	offset   uint32   // in the fragment
	holes    int64    // bytes that take no room
}

// contents writes the contents of files.
type contents struct {
	ctx       context.Context
	fsys      fs.FS
	blockSize int
	blocks    *blocks
	fragments []byte // the records of the fragment table
	open      *block // the fragment that takes the next ends, if any
	sizes     map[int64]int
	written   map[int64]bool // sizes that a file before had
	digests   map[[sha256.Size]byte]*content
}

// newContents counts the sizes of all files: only those that share theirs can be equal.
func newContents(ctx context.Context, fsys fs.FS, root *node, blockSize int, b *blocks) *contents {
	c := &contents{ctx: ctx, fsys: fsys, blockSize: blockSize, blocks: b,
		sizes: map[int64]int{}, written: map[int64]bool{}, digests: map[[sha256.Size]byte]*content{}}
	_ = root.visit(func(n *node) error {
		if n.Mode.IsRegular() {
			c.sizes[n.Size]++
		}
		return nil
	})
	return c
}

// add writes the content of a regular file, unless a file before had the same.
func (c *contents) add(n *node) (err error) {
	var digest [sha256.Size]byte
	shared := c.sizes[n.Size] > 1 && n.Size > 0
	judged := shared && c.written[n.Size] && n.Size > int64(c.blockSize)
	if judged {
		if digest, err = c.digest(n); err != nil {
			return err
		}
		if n.content = c.digests[digest]; n.content != nil {
			return nil
		}
	}
	f, err := c.fsys.Open(n.Name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r := &reader{ctx: c.ctx, r: f, want: n.Size}
	if shared {
		r.hash = sha256.New()
	}
	if n.Size <= int64(c.blockSize) {
		return c.addSmall(n, r)
	}
	n.content = c.newContent(n.Size)
	for i := range n.content.blocks {
		if err := c.addBlock(n.content, i, r); err != nil {
			return err
		}
	}
	if err := c.addEnd(n.content, r); err != nil {
		return err
	}
	if !shared {
		return nil
	}
	got := r.digest()
	if judged && got != digest {
		return fmt.Errorf("the file changed: SHA-256 %x, want %x as when it was compared with other files", got, digest)
	}
	c.written[n.Size] = true
	c.digests[got] = n.content
	return nil
}

// newContent is the content of a file of that size with its whole blocks, all holes as yet.
func (c *contents) newContent(size int64) *content {
	return &content{blocks: make([]uint32, size/int64(c.blockSize)), fragment: noFragment}
}

// digest reads a file only to hash it.
func (c *contents) digest(n *node) (digest [sha256.Size]byte, err error) {
	f, err := c.fsys.Open(n.Name)
	if err != nil {
		return digest, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	t, err := c.blocks.take()
	if err != nil {
		return digest, err
	}
	defer c.blocks.release(t)
	r := &reader{ctx: c.ctx, r: f, want: n.Size, hash: sha256.New()}
	for r.got < n.Size {
		if err := r.fill(t.in[:min(int64(len(t.in)), n.Size-r.got)]); err != nil {
			return digest, err
		}
	}
	return r.digest(), r.end()
}

// addSmall writes a file that fits in a block.
func (c *contents) addSmall(n *node, r *reader) error {
	t, err := c.blocks.take()
	if err != nil {
		return err
	}
	b := t.in[:n.Size]
	if err := r.last(b); err != nil {
		c.blocks.release(t)
		return err
	}
	var digest [sha256.Size]byte
	if r.hash != nil {
		digest = r.digest()
		if n.content = c.digests[digest]; n.content != nil {
			c.blocks.release(t)
			return nil
		}
	}
	n.content = c.newContent(n.Size)
	if len(b) == c.blockSize {
		c.put(n.content, 0, t)
	} else {
		err = c.putEnd(n.content, b)
		c.blocks.release(t)
	}
	if r.hash != nil {
		c.digests[digest] = n.content
	}
	return err
}

// addBlock reads and writes a whole block of a file.
func (c *contents) addBlock(to *content, i int, r *reader) error {
	t, err := c.blocks.take()
	if err != nil {
		return err
	}
	if err := r.fill(t.in); err != nil {
		c.blocks.release(t)
		return err
	}
	c.put(to, i, t)
	return nil
}

// addEnd reads and writes what is left of a file, which is less than a block.
func (c *contents) addEnd(to *content, r *reader) error {
	t, err := c.blocks.take()
	if err != nil {
		return err
	}
	defer c.blocks.release(t)
	b := t.in[:r.want-r.got]
	if err := r.last(b); err != nil {
		return err
	}
	return c.putEnd(to, b)
}

// put writes a whole block as number i of a content.
func (c *contents) put(to *content, i int, t *block) {
	if sparse.Zero(t.in) {
		to.holes += int64(len(t.in))
		c.blocks.release(t)
		return
	}
	c.blocks.submit(t, len(t.in), func(start int64, size uint32) {
		if to.start == 0 {
			to.start = start
		}
		to.blocks[i] = size
	})
}

// putEnd adds the end of a content to a fragment. Zeros are a hole instead, as the last block.
func (c *contents) putEnd(to *content, end []byte) error {
	if len(end) == 0 {
		return nil
	}
	if sparse.Zero(end) {
		to.blocks = append(to.blocks, 0)
		to.holes += int64(len(end))
		return nil
	}
	if c.open != nil && c.open.n+len(end) > c.blockSize {
		c.closeFragment()
	}
	if c.open == nil {
		t, err := c.blocks.take()
		if err != nil {
			return err
		}
		c.open = t
		c.fragments = append(c.fragments, make([]byte, fragmentSize)...)
	}
	to.fragment = uint32(len(c.fragments)/fragmentSize - 1)
	to.offset = uint32(c.open.n)
	c.open.n += copy(c.open.in[c.open.n:], end)
	return nil
}

// fragmentSize is the size of a record of the fragment table.
const fragmentSize = 16

// closeFragment writes the open fragment, if there is one ("Fragment Table").
func (c *contents) closeFragment() {
	if c.open == nil {
		return
	}
	at := len(c.fragments) - fragmentSize
	c.blocks.submit(c.open, c.open.n, func(start int64, size uint32) {
		binary.LittleEndian.PutUint64(c.fragments[at:], uint64(start))
		binary.LittleEndian.PutUint32(c.fragments[at+8:], size)
	})
	c.open = nil
}

// flush writes everything that add has taken.
func (c *contents) flush() error {
	c.closeFragment()
	return c.blocks.flush()
}

// A reader reads a file of which the size is known.
type reader struct {
	ctx       context.Context
	r         io.Reader
	got, want int64
	hash      hash.Hash // if the content may be that of a second file
}

// fill reads all of b.
func (r *reader) fill(b []byte) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	n, err := io.ReadFull(r.r, b)
	r.got += int64(n)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("the file changed: %d bytes, want %d as in its directory", r.got, r.want)
	}
	if r.hash != nil {
		r.hash.Write(b)
	}
	return err
}

// last reads all of b, behind which the file ends.
func (r *reader) last(b []byte) error {
	if err := r.fill(b); err != nil {
		return err
	}
	return r.end()
}

// end makes sure that there is nothing more to read.
func (r *reader) end() error {
	n, err := io.ReadFull(r.r, make([]byte, 1))
	if n > 0 {
		return fmt.Errorf("the file changed: more than %d bytes, want %d as in its directory", r.want, r.want)
	}
	if err == io.EOF {
		return nil
	}
	return err
}

func (r *reader) digest() (d [sha256.Size]byte) {
	r.hash.Sum(d[:0])
	return d
}
