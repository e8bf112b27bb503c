package ocilayout

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith"
)

// CheckDescriptor refuses digests that do not protect what they name, and those that would be
// another path.
func CheckDescriptor(desc ocispec.Descriptor) error {
	if err := desc.Digest.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w", desc.Digest, err)
	}
	if a := desc.Digest.Algorithm(); a != digest.SHA256 {
		return fmt.Errorf("digest %q: %s is not supported, want sha256", desc.Digest, a)
	}
	if desc.Size < 0 {
		return fmt.Errorf("blob %s: a size of %d bytes", desc.Digest, desc.Size)
	}
	return nil
}

// CheckedReader checks size and digest of a blob while it is read, without keeping it: the end is
// io.EOF only if everything before is what the descriptor names, and a *osmith.DigestError
// otherwise. The descriptor must have passed CheckDescriptor.
func CheckedReader(ctx context.Context, r io.ReadCloser, want ocispec.Descriptor) io.ReadCloser {
	return &checkedReader{ctx: ctx, r: r, hash: sha256.New(), want: want}
}

type checkedReader struct {
	ctx  context.Context
	r    io.ReadCloser
	hash hash.Hash
	want ocispec.Descriptor
	got  int64
	err  error
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
		b.err = fmt.Errorf("blob %s: the source returned an impossible count", b.want.Digest)
		return 0, b.err
	}
	b.got += int64(n)
	if b.got > b.want.Size {
		b.err = mismatch(b.want, "", b.got)
		return 0, b.err
	}
	b.hash.Write(p[:n])
	switch {
	case err == io.EOF:
		b.err = b.finish()
	case err != nil:
		b.err = fmt.Errorf("blob %s: %w", b.want.Digest, err)
	}
	return n, b.err
}

// finish returns io.EOF for a good blob.
func (b *checkedReader) finish() error {
	if err := CheckDigest(b.want, digest.NewDigest(digest.SHA256, b.hash), b.got); err != nil {
		return err
	}
	return io.EOF
}

func (b *checkedReader) Close() error { return b.r.Close() }

// CheckDigest compares what a blob was found to be with its descriptor; the error is a
// *osmith.DigestError.
func CheckDigest(want ocispec.Descriptor, got digest.Digest, size int64) error {
	if size != want.Size {
		return mismatch(want, "", size)
	}
	if got != want.Digest {
		return mismatch(want, got, size)
	}
	return nil
}

func mismatch(want ocispec.Descriptor, got digest.Digest, size int64) error {
	return &osmith.DigestError{Want: string(want.Digest), Got: string(got), WantSize: want.Size, GotSize: size}
}
