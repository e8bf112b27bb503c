package cosign

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Limits on what is read into memory, in bytes.
const (
	maxManifest = 4 << 20
	maxPayload  = 1 << 20
)

// A Source is where artifacts and their signatures come from. Nothing that it
// returns is trusted.
type Source interface {
	// Blob opens a blob or manifest by the digest of its descriptor. The error for
	// a missing one is or wraps ErrNotFound or fs.ErrNotExist.
	Blob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)

	// Signatures returns the descriptors of manifests that may hold signatures of
	// an artifact: what the tag sha256-HEX.sig names, and all that refer to it as
	// their subject. It may return others too, in any order.
	//
	// A source must not filter by artifact type: registries are known to report
	// the media type of the config in its place.
	Signatures(ctx context.Context, subject ocispec.Descriptor) ([]ocispec.Descriptor, error)
}

// OpenBlob opens a blob and checks its size and digest while it is read, without
// keeping it. The end of the blob is io.EOF only if everything that was read before
// is what the descriptor names, and a *DigestError otherwise: act upon nothing until
// then.
func OpenBlob(ctx context.Context, src Source, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if err := checkDescriptor(desc); err != nil {
		return nil, err
	}
	r, err := src.Blob(ctx, desc)
	if err != nil {
		return nil, fmt.Errorf("cosign: blob %s: %w", desc.Digest, err)
	}
	return &blobReader{ctx: ctx, r: r, hash: sha256.New(), want: desc}, nil
}

// checkDescriptor refuses digests that do not protect what they name.
func checkDescriptor(desc ocispec.Descriptor) error {
	if err := desc.Digest.Validate(); err != nil {
		return fmt.Errorf("cosign: digest %q: %w", desc.Digest, err)
	}
	if a := desc.Digest.Algorithm(); a != digest.SHA256 {
		return fmt.Errorf("cosign: digest %q: %s is not supported, want sha256", desc.Digest, a)
	}
	if desc.Size < 0 {
		return fmt.Errorf("cosign: blob %s: a size of %d bytes", desc.Digest, desc.Size)
	}
	return nil
}

type blobReader struct {
	ctx  context.Context
	r    io.ReadCloser
	hash hash.Hash
	want ocispec.Descriptor
	got  int64
	err  error
}

func (b *blobReader) Read(p []byte) (int, error) {
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
		b.err = errors.New("cosign: blob: the source returned an impossible count")
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
		b.err = fmt.Errorf("cosign: blob %s: %w", b.want.Digest, err)
	}
	return n, b.err
}

// finish returns io.EOF for a good blob.
func (b *blobReader) finish() error {
	got := digest.NewDigest(digest.SHA256, b.hash)
	if b.got != b.want.Size || got != b.want.Digest {
		return b.mismatch(got)
	}
	return io.EOF
}

func (b *blobReader) mismatch(got digest.Digest) error {
	return &DigestError{Want: b.want.Digest, Got: got, WantSize: b.want.Size, GotSize: b.got}
}

func (b *blobReader) Close() error { return b.r.Close() }

// readBlob returns a blob of limited size, checked.
func readBlob(ctx context.Context, src Source, desc ocispec.Descriptor, limit int64) ([]byte, error) {
	if desc.Size > limit {
		return nil, fmt.Errorf("cosign: blob %s: %d bytes, at most %d are allowed", desc.Digest, desc.Size, limit)
	}
	r, err := OpenBlob(ctx, src, desc)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	if e := r.Close(); err == nil && e != nil {
		err = fmt.Errorf("cosign: blob %s: %w", desc.Digest, e)
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}
