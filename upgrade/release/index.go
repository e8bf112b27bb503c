package release

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith/internal/ocilayout"
	"github.com/osmith-dev/osmith/internal/strictjson"
)

// ErrNoArchitecture says that an index has no release for an architecture.
var ErrNoArchitecture = errors.New("no release for this architecture")

// PackIndex joins releases of the same version for several architectures, which are in the layout in dir already, under one
// name. manifests are what Pack returned, by architecture. The same manifests give the same digest.
func PackIndex(dir, ref string, manifests map[string]ocispec.Descriptor) (ocispec.Descriptor, error) {
	fail := func(err error) (ocispec.Descriptor, error) {
		return ocispec.Descriptor{}, fmt.Errorf("release: pack: %w", err)
	}
	if len(manifests) == 0 {
		return fail(errors.New("an index needs a release"))
	}
	w, err := ocilayout.Create(dir)
	if err != nil {
		return fail(err)
	}
	index := ocispec.Index{ArtifactType: ArtifactType}
	for architecture, d := range manifests {
		if architecture == "" {
			return fail(errors.New("an index needs the architecture of each release"))
		}
		index.Manifests = append(index.Manifests, ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageManifest, Digest: d.Digest, Size: d.Size, ArtifactType: ArtifactType,
			Platform: &ocispec.Platform{OS: "linux", Architecture: architecture},
		})
	}
	slices.SortFunc(index.Manifests, func(a, b ocispec.Descriptor) int {
		return strings.Compare(a.Platform.Architecture, b.Platform.Architecture)
	})
	d, err := w.WriteIndex(index, ref)
	if err != nil {
		return fail(err)
	}
	return d, nil
}

// Select returns the descriptor of the release for an architecture: of an index, whose bytes are held against d, the entry; d itself if
// it names a release and not an index, whose own architecture is then Read's to compare. The digest of d is what a signature
// vouches for, and through it for the entry.
func Select(ctx context.Context, src BlobSource, d ocispec.Descriptor, architecture string) (ocispec.Descriptor, error) {
	fail := func(err error) (ocispec.Descriptor, error) {
		return ocispec.Descriptor{}, &FormatError{"index", d.Digest, err}
	}
	b, err := document(ctx, src, d)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	var head struct {
		Manifests    []ocispec.Descriptor `json:"manifests"`
		ArtifactType string               `json:"artifactType"`
		Config       *ocispec.Descriptor  `json:"config"`
	}
	if err := strictjson.Unmarshal(b, &head); err != nil {
		return fail(err)
	}
	switch {
	case head.Manifests == nil:
		return d, nil
	case head.Config != nil:
		return fail(errors.New("it is an index and a manifest at once"))
	case head.ArtifactType != ArtifactType:
		return fail(fmt.Errorf("it is a %q, not a %q", head.ArtifactType, ArtifactType))
	}
	var found []ocispec.Descriptor
	var others []string
	for _, m := range head.Manifests {
		switch {
		case m.Platform == nil || m.ArtifactType != ArtifactType:
		case m.Platform.Architecture == architecture:
			found = append(found, m)
		default:
			others = append(others, m.Platform.Architecture)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return fail(fmt.Errorf("%w: %q; there are %s", ErrNoArchitecture, architecture, strings.Join(others, ", ")))
	}
	return fail(fmt.Errorf("%d releases for %q", len(found), architecture))
}

// digestOf is a descriptor of something of which only the digest is known.
func digestOf(d digest.Digest) ocispec.Descriptor {
	return ocispec.Descriptor{Digest: d, Size: unknownSize}
}
