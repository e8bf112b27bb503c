package release

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith/internal/strictjson"
)

// A FormatError says what is wrong with a document that has the digest by which it was named: it is no release, or its
// author has made a mistake.
type FormatError struct {
	Document string // manifest, config, index
	Digest   digest.Digest
	Err      error
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("release: %s %s: %v", e.Document, e.Digest, e.Err)
}

// Unwrap is what is wrong.
func (e *FormatError) Unwrap() error { return e.Err }

// An Artifact is what the manifest of a release says, before any of its layers was fetched.
type Artifact struct {
	ID, Version  string
	Architecture string // "" if the release does not say
	RootHash     []byte
	Descriptor   ocispec.Descriptor // of the manifest
	Config       ocispec.Descriptor
	Layers       []ocispec.Descriptor // of the types that this package knows, in the order of the manifest

	manifest []byte
	byType   map[string][]ocispec.Descriptor
}

// Read fetches manifest and config of the release that d names, and holds both against their digests. The size in d counts if it is not
// negative.
func Read(ctx context.Context, src BlobSource, d ocispec.Descriptor) (*Artifact, error) {
	b, err := document(ctx, src, d)
	if err != nil {
		return nil, err
	}
	a := &Artifact{Descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: ArtifactType, Digest: d.Digest, Size: int64(len(b))}, manifest: b}
	fail := func(err error) (*Artifact, error) {
		return nil, &FormatError{"manifest", d.Digest, err}
	}
	var m ocispec.Manifest
	if err := strictjson.Unmarshal(b, &m); err != nil {
		return fail(err)
	}
	if m.ArtifactType != ArtifactType {
		return fail(fmt.Errorf("it is a %q, not a %q", m.ArtifactType, ArtifactType))
	}
	if m.MediaType != ocispec.MediaTypeImageManifest {
		return fail(fmt.Errorf("media type %q: an index must be narrowed down to one architecture first", m.MediaType))
	}
	if a.byType, err = layers(&m); err != nil {
		return fail(err)
	}
	for _, l := range m.Layers {
		if _, known := a.byType[l.MediaType]; known {
			a.Layers = append(a.Layers, l)
		}
	}
	a.Config = m.Config
	if err := a.readConfig(ctx, src); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *Artifact) readConfig(ctx context.Context, src BlobSource) error {
	d := a.Config
	if d.MediaType != MediaTypeConfig {
		return &FormatError{"manifest", a.Descriptor.Digest, fmt.Errorf("config of type %q, want %q", d.MediaType, MediaTypeConfig)}
	}
	if d.Size < 0 {
		return &FormatError{"manifest", a.Descriptor.Digest, fmt.Errorf("config of %d bytes", d.Size)}
	}
	b, err := document(ctx, src, d)
	if err != nil {
		return err
	}
	fail := func(format string, args ...any) error {
		return &FormatError{"config", d.Digest, fmt.Errorf(format, args...)}
	}
	var c config
	if err := strictjson.Unmarshal(b, &c); err != nil {
		return fail("%w", err)
	}
	if c.Schema != Schema {
		return fail("schema %q, want %q", c.Schema, Schema)
	}
	if c.ID == "" || c.Version == "" {
		return fail("no ID or no version")
	}
	if a.RootHash, err = hex.DecodeString(c.RootHash); err != nil || len(a.RootHash) == 0 {
		return fail("root hash %q is not hexadecimal", c.RootHash)
	}
	a.ID, a.Version, a.Architecture = c.ID, c.Version, c.Architecture
	return nil
}

// Layer is the one layer of a type; false if there is none. Of the types that may be there more than once it is the first.
func (a *Artifact) Layer(mediaType string) (ocispec.Descriptor, bool) {
	if list := a.byType[mediaType]; len(list) > 0 {
		return list[0], true
	}
	return ocispec.Descriptor{}, false
}

// Size is what has to be fetched for all layers, in bytes; a layer that stands there twice counts once.
func (a *Artifact) Size() int64 {
	var n int64
	seen := map[digest.Digest]bool{}
	for _, l := range a.Layers {
		if !seen[l.Digest] {
			n += l.Size
		}
		seen[l.Digest] = true
	}
	return n
}
