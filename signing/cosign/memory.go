package cosign

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith/internal/prefix"
)

// Memory is a Store that keeps everything in memory, for tests and for signatures that are about to
// be copied. The zero value is empty. It may be used by several goroutines.
type Memory struct {
	mu        sync.Mutex
	blobs     map[digest.Digest][]byte
	manifests map[digest.Digest]ocispec.Descriptor
	tags      map[string]digest.Digest
}

var (
	_ Store   = (*Memory)(nil)
	_ Settler = (*Memory)(nil)
)

// Blob opens a blob.
func (m *Memory) Blob(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.blobs[desc.Digest]
	if !ok {
		return nil, prefix.Error("cosign", fmt.Errorf("memory: %s: %w", desc.Digest, ErrNotFound))
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

// Resolve returns the descriptor of a manifest by its tag or digest.
func (m *Memory) Resolve(name string) (ocispec.Descriptor, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.tags[name]
	if !ok {
		d = digest.Digest(name)
	}
	if desc, ok := m.manifests[d]; ok {
		return desc, nil
	}
	return ocispec.Descriptor{}, prefix.Error("cosign", fmt.Errorf("memory: %q: %w", name, ErrNotFound))
}

// ResolveTag returns the descriptor of the manifest that has a tag.
func (m *Memory) ResolveTag(_ context.Context, tag string) (ocispec.Descriptor, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if desc, ok := m.manifests[m.tags[tag]]; ok {
		return desc, nil
	}
	return ocispec.Descriptor{}, prefix.Error("cosign", fmt.Errorf("memory: tag %q: %w", tag, ErrNotFound))
}

// Settle lets other goroutines write.
func (m *Memory) Settle(ctx context.Context) error {
	runtime.Gosched()
	return ctx.Err()
}

// Signatures finds the manifests that refer to the subject, and those under its tags.
func (m *Memory) Signatures(_ context.Context, subject ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	own := map[digest.Digest]bool{m.tags[signatureTag(subject.Digest)]: true, m.tags[attestationTag(subject.Digest)]: true}
	var found []ocispec.Descriptor
	for d, desc := range m.manifests {
		p, err := parseManifest(m.blobs[d])
		if err == nil && p.mayHoldSignatures(subject.Digest, own[d]) {
			found = append(found, desc)
		}
	}
	return found, nil
}

// WriteBlob stores a blob.
func (m *Memory) WriteBlob(mediaType string, content io.Reader) (ocispec.Descriptor, error) {
	b, err := io.ReadAll(content)
	if err != nil {
		return ocispec.Descriptor{}, prefix.Error("cosign", fmt.Errorf("memory: %w", err))
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.SHA256.FromBytes(b), Size: int64(len(b))}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.blobs == nil {
		m.blobs = map[digest.Digest][]byte{}
	}
	m.blobs[desc.Digest] = b
	return desc, nil
}

// WriteManifest stores a manifest. The tag is removed from the manifest that had it before.
func (m *Memory) WriteManifest(content ocispec.Manifest, tag string) (ocispec.Descriptor, error) {
	return m.writeManifest(content, tag, func() error { return nil })
}

// ReplaceManifest stores a manifest under a tag if the tag names the manifest that the caller
// expects.
func (m *Memory) ReplaceManifest(_ context.Context, content ocispec.Manifest, tag string, before digest.Digest) (ocispec.Descriptor, error) {
	return m.writeManifest(content, tag, func() error {
		if m.tags[tag] != before {
			return prefix.Error("cosign", fmt.Errorf("memory: tag %q: %w", tag, ErrBusy))
		}
		return nil
	})
}

func (m *Memory) writeManifest(content ocispec.Manifest, tag string, may func() error) (ocispec.Descriptor, error) {
	content.Versioned = specs.Versioned{SchemaVersion: 2}
	content.MediaType = ocispec.MediaTypeImageManifest
	b, err := json.Marshal(content)
	if err != nil {
		return ocispec.Descriptor{}, prefix.Error("cosign", fmt.Errorf("memory: %w", err))
	}
	desc, err := m.WriteBlob(content.MediaType, bytes.NewReader(b))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc.ArtifactType = content.ArtifactType
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := may(); err != nil {
		return ocispec.Descriptor{}, err
	}
	if m.manifests == nil {
		m.manifests, m.tags = map[digest.Digest]ocispec.Descriptor{}, map[string]digest.Digest{}
	}
	m.manifests[desc.Digest] = desc
	if tag != "" {
		m.tags[tag] = desc.Digest
	}
	return desc, nil
}
