package cosign

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith/internal/ocilayout"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// An ArtifactSource is where artifacts and their signatures come from. Nothing that it
// returns is trusted.
type ArtifactSource interface {
	// Blob opens a blob or manifest by the digest of its descriptor. The error for
	// a missing one is or wraps ErrNotFound or fs.ErrNotExist.
	Blob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)

	// Signatures returns the descriptors of manifests that may hold signatures of an artifact: what
	// the tag sha256-HEX.sig names, and all that refer to it as their subject. It may return other
	// manifests too; put those first that are most likely to be about the artifact, since the
	// number that is read is limited. If it cannot look everywhere, it returns what it has found
	// and an *IncompleteError.
	//
	// A source must not filter by artifact type: registries are known to report
	// the media type of the config in its place.
	Signatures(ctx context.Context, subject ocispec.Descriptor) ([]ocispec.Descriptor, error)
}

// A TagResolver is a Store that can say which manifest has a tag. Sign needs it to add signatures
// under a tag while other programs do the same; without it, Sign adds to the manifests that
// Signatures returns.
type TagResolver interface {
	// ResolveTag returns the descriptor of the manifest that a tag names now; if there is none, the
	// error is or wraps ErrNotFound or fs.ErrNotExist.
	ResolveTag(ctx context.Context, tag string) (ocispec.Descriptor, error)
}

// A Settler is a TagResolver that several processes write to at once and that cannot compare and
// swap a tag: a registry.
type Settler interface {
	TagResolver

	// ReplaceManifest stores a manifest under a tag that names the manifest of a digest, or nothing
	// if that is empty. It reads the tag right before each attempt to write, so that a later
	// attempt does not undo a write by another program; the error wraps ErrBusy if the tag by then
	// names a different manifest.
	ReplaceManifest(ctx context.Context, m ocispec.Manifest, tag string, before digest.Digest) (ocispec.Descriptor, error)

	// Settle waits for as long as another writer may need from its last look at the tag to its
	// write.
	Settle(ctx context.Context) error
}

// A Store is an ArtifactSource that signatures can be written to. Dir is one.
type Store interface {
	ArtifactSource
	// WriteBlob stores a blob and describes it.
	WriteBlob(mediaType string, content io.Reader) (ocispec.Descriptor, error)
	// WriteManifest stores a manifest, under a tag if tag is not empty.
	WriteManifest(m ocispec.Manifest, tag string) (ocispec.Descriptor, error)
}

// OpenBlob opens a blob and checks its size and digest while it is read, without keeping it. The
// end of the blob is io.EOF only if everything that was read before is what the descriptor names,
// and a *osmith.DigestError otherwise: do not act on the content before that.
func OpenBlob(ctx context.Context, src ArtifactSource, desc ocispec.Descriptor) (io.ReadCloser, error) {
	r, err := openBlob(ctx, src, desc)
	if err != nil {
		return nil, prefix.Error("cosign", err)
	}
	return prefix.Reader("cosign", r), nil
}

func openBlob(ctx context.Context, src ArtifactSource, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if err := ocilayout.CheckDescriptor(desc); err != nil {
		return nil, err
	}
	r, err := src.Blob(ctx, desc)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", desc.Digest, prefix.Bare(err))
	}
	return ocilayout.CheckedReader(ctx, r, desc), nil
}

// findSignatures asks a source for what may hold signatures of an artifact.
func findSignatures(ctx context.Context, src ArtifactSource, artifact ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	found, err := src.Signatures(ctx, artifact)
	if incomplete, ok := errors.AsType[*IncompleteError](err); ok && ctx.Err() == nil {
		return found, incomplete
	}
	if err != nil {
		return nil, fmt.Errorf("%s: find signatures: %w", artifact.Digest, prefix.Bare(err))
	}
	return found, nil
}

// readBlob returns a blob of limited size, checked.
func readBlob(ctx context.Context, src ArtifactSource, desc ocispec.Descriptor, limit int64) ([]byte, error) {
	return readBlobInto(ctx, src, desc, limit, nil)
}

// readBlobInto is readBlob into a buffer, if that is large enough.
func readBlobInto(ctx context.Context, src ArtifactSource, desc ocispec.Descriptor, limit int64, buffer []byte) ([]byte, error) {
	if desc.Size > limit {
		return nil, fmt.Errorf("blob %s: %w: %d bytes, at most %d are allowed", desc.Digest, ErrTooLarge, desc.Size, limit)
	}
	r, err := openBlob(ctx, src, desc)
	if err != nil {
		return nil, err
	}
	// The size is limited, so there is room for it at once: growing would take as much again.
	if int64(cap(buffer)) <= desc.Size {
		buffer = make([]byte, 0, desc.Size+1)
	}
	b, err := readAll(r, buffer[:0])
	if e := r.Close(); err == nil && e != nil {
		err = fmt.Errorf("blob %s: %w", desc.Digest, e)
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

// readAll reads to the end, into a slice that is large enough unless the source lies.
func readAll(r io.Reader, b []byte) ([]byte, error) {
	for {
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return nil, err
		}
		if len(b) == cap(b) {
			return nil, errors.New("more bytes than its descriptor says")
		}
	}
}
