package channel

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith/internal/ocilayout"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/strictjson"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// Media types of the artifact that has a document as its only layer.
const (
	ArtifactType = "application/vnd.osmith.channel.v1"
	MediaType    = "application/vnd.osmith.channel.v1+json"
)

// maxManifest bounds the manifest of a document, in bytes.
const maxManifest = 64 << 10

// Write stores a document as an artifact, and lets a tag name it unless that is empty: the
// channel's name, usually, when it is signed. The same document gives the same digest, which is
// what is signed.
func Write(w release.Store, tag string, d *Document) (ocispec.Descriptor, error) {
	written, err := write(w, tag, d)
	return written, prefix.Error("channel", err)
}

func write(w release.Store, tag string, d *Document) (none ocispec.Descriptor, err error) {
	b, err := d.marshal()
	if err != nil {
		return none, err
	}
	config, err := w.WriteBlob(ocispec.MediaTypeEmptyJSON, bytes.NewReader(ocispec.DescriptorEmptyJSON.Data))
	if err != nil {
		return none, err
	}
	layer, err := w.WriteBlob(MediaType, bytes.NewReader(b))
	if err != nil {
		return none, err
	}
	layer.Annotations = map[string]string{ocispec.AnnotationTitle: d.Channel + ".json"}
	return w.WriteManifest(ocispec.Manifest{ArtifactType: ArtifactType, Config: config, Layers: []ocispec.Descriptor{layer}, Annotations: map[string]string{
		ocispec.AnnotationTitle: d.Channel, ocispec.AnnotationVersion: fmt.Sprint(d.Sequence),
	}}, tag)
}

// Read returns the document of an artifact, whose descriptor is that of what was verified, for
// [Accept] to judge. What it reads is checked against digests from the descriptor on; a negative
// size in that does not count.
func Read(ctx context.Context, src release.BlobSource, d ocispec.Descriptor) ([]byte, error) {
	b, err := read(ctx, src, d)
	return b, prefix.Error("channel", err)
}

func read(ctx context.Context, src release.BlobSource, d ocispec.Descriptor) ([]byte, error) {
	b, err := blob(ctx, src, d, maxManifest)
	if err != nil {
		return nil, err
	}
	fail := func(format string, args ...any) ([]byte, error) {
		return nil, malformed("manifest "+string(d.Digest), format, args...)
	}
	var m ocispec.Manifest
	if err := strictjson.Unmarshal(b, &m); err != nil {
		return fail("%w", err)
	}
	if m.ArtifactType != ArtifactType {
		return fail("it is a %.100q, not a %q", m.ArtifactType, ArtifactType)
	}
	if len(m.Layers) != 1 || m.Layers[0].MediaType != MediaType {
		return fail("%d layers, want one of type %q", len(m.Layers), MediaType)
	}
	if m.Layers[0].Size < 0 {
		return fail("a layer of %d bytes", m.Layers[0].Size)
	}
	return blob(ctx, src, m.Layers[0], maxDocument)
}

// blob reads a blob whole and checks it against its digest, and against its size if that is known.
func blob(ctx context.Context, src release.BlobSource, d ocispec.Descriptor, most int64) ([]byte, error) {
	if err := ocilayout.CheckDescriptor(ocispec.Descriptor{Digest: d.Digest, Size: max(d.Size, 0)}); err != nil {
		return nil, err
	}
	if d.Size > most {
		return nil, malformed("blob "+string(d.Digest), "%d bytes, want at most %d", d.Size, most)
	}
	r, err := src.Blob(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if e := r.Close(); err == nil {
		err = e
	}
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	if int64(len(b)) > most {
		return nil, malformed("blob "+string(d.Digest), "more than %d bytes", most)
	}
	want := d
	if want.Size < 0 {
		want.Size = int64(len(b))
	}
	if err := ocilayout.CheckDigest(want, digest.SHA256.FromBytes(b), int64(len(b))); err != nil {
		return nil, err
	}
	return b, nil
}
