package ocilayout

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A DigestError says that a blob is not the one that its descriptor names.
type DigestError struct {
	Want, Got         digest.Digest // Got is empty if the size differs
	WantSize, GotSize int64         // bytes; GotSize is at least so much if it is larger than WantSize

	prefix string // of the package that the caller sees
}

func (e *DigestError) Error() string {
	if e.WantSize != e.GotSize {
		more := ""
		if e.GotSize > e.WantSize {
			more = " or more"
		}
		return fmt.Sprintf("%s: blob %s: %d bytes%s, want %d", e.prefix, e.Want, e.GotSize, more, e.WantSize)
	}
	return fmt.Sprintf("%s: blob %s: the content has digest %s", e.prefix, e.Want, e.Got)
}

// CheckDescriptor refuses digests that do not protect what they name, and those that would be another path.
func CheckDescriptor(prefix string, desc ocispec.Descriptor) error {
	if err := desc.Digest.Validate(); err != nil {
		return fmt.Errorf("%s: digest %q: %w", prefix, desc.Digest, err)
	}
	if a := desc.Digest.Algorithm(); a != digest.SHA256 {
		return fmt.Errorf("%s: digest %q: %s is not supported, want sha256", prefix, desc.Digest, a)
	}
	if desc.Size < 0 {
		return fmt.Errorf("%s: blob %s: a size of %d bytes", prefix, desc.Digest, desc.Size)
	}
	return nil
}

// CheckedReader checks size and digest of a blob while it is read, without keeping it: the end is io.EOF only if everything
// before is what the descriptor names, and a *DigestError otherwise. The descriptor must have passed CheckDescriptor. Errors begin with
// prefix.
func CheckedReader(ctx context.Context, r io.ReadCloser, want ocispec.Descriptor, prefix string) io.ReadCloser {
	return &checkedReader{ctx: ctx, r: r, hash: sha256.New(), want: want, prefix: prefix}
}

type checkedReader struct {
	ctx    context.Context
	r      io.ReadCloser
	hash   hash.Hash
	want   ocispec.Descriptor
	got    int64
	err    error
	prefix string
}

func (b *checkedReader) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.err = b.ctx.Err(); b.err != nil {
		return 0, b.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	// One byte more than there should be shows that there is more.
	left := b.want.Size - b.got
	var extra [1]byte
	if left == 0 {
		p = extra[:]
	} else if int64(len(p)) > left {
		p = p[:left]
	}
	n, err := b.r.Read(p)
	if n < 0 || n > len(p) {
		b.err = fmt.Errorf("%s: blob %s: the source returned an impossible count", b.prefix, b.want.Digest)
		return 0, b.err
	}
	b.got += int64(n)
	if b.got > b.want.Size {
		b.err = b.mismatch("")
		return 0, b.err
	}
	b.hash.Write(p[:n])
	switch {
	case err == io.EOF:
		b.err = b.finish()
	case err != nil:
		b.err = fmt.Errorf("%s: blob %s: %w", b.prefix, b.want.Digest, err)
	}
	return n, b.err
}

// finish returns io.EOF for a good blob.
func (b *checkedReader) finish() error {
	if err := CheckDigest(b.prefix, b.want, digest.NewDigest(digest.SHA256, b.hash), b.got); err != nil {
		return err
	}
	return io.EOF
}

func (b *checkedReader) mismatch(got digest.Digest) error {
	return &DigestError{Want: b.want.Digest, Got: got, WantSize: b.want.Size, GotSize: b.got, prefix: b.prefix}
}

func (b *checkedReader) Close() error { return b.r.Close() }

// CheckDigest compares what a blob was found to be with its descriptor; the error is a *DigestError.
func CheckDigest(prefix string, want ocispec.Descriptor, got digest.Digest, size int64) error {
	if size != want.Size || got != want.Digest {
		return &DigestError{Want: want.Digest, Got: got, WantSize: want.Size, GotSize: size, prefix: prefix}
	}
	return nil
}
