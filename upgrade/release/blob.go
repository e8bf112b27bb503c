package release

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith/internal/ocilayout"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// Limits and sizes in bytes.
const (
	maxDocument = 4 << 20 // of a manifest, an index and a config
	unknownSize = -1      // in a descriptor of which only the digest is known
)

// ErrTooLarge says that a manifest, index or config, or the headers of a server's answer, are
// larger than any that is read.
var ErrTooLarge = errors.New("too large")

// A BlobSource is where the parts of a release come from; the sources of package cosign, of package
// weblayout and of the registry module are some. Nothing that it returns is trusted.
type BlobSource interface {
	// Blob opens a blob or manifest by the digest of its descriptor. The error for a missing one is
	// or wraps fs.ErrNotExist.
	Blob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
}

// ErrNoRanges is what a [RangeSource] returns, wrapped or not, if it turns out to have whole blobs
// only.
var ErrNoRanges = errors.New("the server does not serve ranges")

// A RangeSource can begin in the middle of a blob.
type RangeSource interface {
	BlobSource

	// BlobRange opens n bytes of a blob from an offset on. There is no more and no less to be read.
	BlobRange(ctx context.Context, desc ocispec.Descriptor, off, n int64) (io.ReadCloser, error)
}

// A BlobReader reads anywhere in a blob that stays where it is.
type BlobReader struct {
	ctx  context.Context
	src  RangeSource
	desc ocispec.Descriptor
}

// NewBlobReader reads a blob in pieces, each one request: the fetch argument of verity.Patch, which
// checks every block against the hash tree. Nothing else is checked here, as a piece has no digest:
// for anything but blocks of a verity image use [Pull]. Concurrent reads are concurrent requests.
func NewBlobReader(ctx context.Context, src RangeSource, desc ocispec.Descriptor) (*BlobReader, error) {
	if err := ocilayout.CheckDescriptor(desc); err != nil {
		return nil, prefix.Error("release", err)
	}
	return &BlobReader{ctx, src, desc}, nil
}

// Size is that of the blob, as its descriptor says.
func (b *BlobReader) Size() int64 { return b.desc.Size }

// ReadAt implements [io.ReaderAt]. A source that returns less than it was asked for is an error.
func (b *BlobReader) ReadAt(p []byte, off int64) (n int, err error) {
	n, err = b.readAt(p, off)
	if err != io.EOF {
		prefix.Add("release", &err)
	}
	return n, err
}

func (b *BlobReader) readAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("blob: negative offset")
	}
	if off >= b.desc.Size {
		return 0, io.EOF
	}
	var end error
	if left := b.desc.Size - off; int64(len(p)) > left {
		p, end = p[:left], io.EOF
	}
	if len(p) == 0 {
		return 0, end
	}
	r, err := b.src.BlobRange(b.ctx, b.desc, off, int64(len(p)))
	if err != nil {
		return 0, fmt.Errorf("blob %s: %d bytes at %d: %w", b.desc.Digest, len(p), off, err)
	}
	n, err := io.ReadFull(r, p)
	if e := r.Close(); err == nil {
		err = e
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return n, fmt.Errorf("blob %s: %d of %d bytes at %d: %w", b.desc.Digest, n, len(p), off, err)
	}
	return n, end
}

// openBlob opens a blob that is checked while it is read.
func openBlob(ctx context.Context, src BlobSource, d ocispec.Descriptor) (io.ReadCloser, error) {
	if err := ocilayout.CheckDescriptor(d); err != nil {
		return nil, err
	}
	r, err := src.Blob(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	return ocilayout.CheckedReader(ctx, r, d), nil
}

// document reads a small blob whole and checks it against its digest, and against its size if that
// is known.
func document(ctx context.Context, src BlobSource, d ocispec.Descriptor) ([]byte, error) {
	if d.Size > maxDocument {
		return nil, fmt.Errorf("blob %s: %w: %d bytes, want at most %d for a document", d.Digest, ErrTooLarge, d.Size, maxDocument)
	}
	if d.Size != unknownSize {
		r, err := openBlob(ctx, src, d)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return io.ReadAll(r)
	}
	if err := ocilayout.CheckDescriptor(ocispec.Descriptor{Digest: d.Digest}); err != nil {
		return nil, err
	}
	r, err := src.Blob(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	if len(b) > maxDocument {
		return nil, fmt.Errorf("blob %s: %w: more than %d bytes", d.Digest, ErrTooLarge, maxDocument)
	}
	d.Size = int64(len(b))
	if err := ocilayout.CheckDigest(d, digest.SHA256.FromBytes(b), d.Size); err != nil {
		return nil, err
	}
	return b, nil
}

// A layoutFS is an OCI layout as a source.
type layoutFS struct{ fsys fs.FS }

// blobPath is where a layout keeps a blob; its digest must have been checked.
func blobPath(d digest.Digest) string {
	return path.Join(ocispec.ImageBlobsDir, "sha256", d.Encoded())
}

func (l layoutFS) Blob(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	return l.fsys.Open(blobPath(d.Digest))
}
