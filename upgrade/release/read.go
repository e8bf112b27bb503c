package release

import (
	"context"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/ocilayout"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/strictjson"
	"github.com/osmith-dev/osmith/upgrade/extension"
	"github.com/osmith-dev/osmith/verity"
)

// A formatError says what is wrong with a document that has the digest by which it was named: it is
// no release, or its author has made a mistake.
func formatError(document string, d digest.Digest, err error) error {
	return &osmith.FormatError{Offset: -1, Field: document + " " + string(d), Err: err}
}

// ErrNoArchitecture says that an index has no release for an architecture.
var ErrNoArchitecture = errors.New("no release for this architecture")

// An Artifact is what the manifest of a release says, before any of its layers was fetched.
type Artifact struct {
	ID, Version  string
	Architecture string // "" if the release does not say
	Variant      string // as well
	RootHash     []byte

	SupportedUntil Date     // the last day of support; "" if the release does not say
	Fixes          []string // such as CVE-2026-1234

	Descriptor ocispec.Descriptor // of the manifest
	Config     ocispec.Descriptor
	// of the types that this package knows, in the order of the manifest
	Layers []ocispec.Descriptor

	manifest []byte
	byType   map[string][]ocispec.Descriptor
}

// Read fetches manifest and config of the release that d names, and checks both against their
// digests. The size in d counts if it is not negative.
func Read(ctx context.Context, src BlobSource, d ocispec.Descriptor) (*Artifact, error) {
	a, err := read(ctx, src, d)
	return a, prefix.Error("release", err)
}

func read(ctx context.Context, src BlobSource, d ocispec.Descriptor) (*Artifact, error) {
	b, err := document(ctx, src, d)
	if err != nil {
		return nil, err
	}
	a := &Artifact{Descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: ArtifactType, Digest: d.Digest, Size: int64(len(b))}, manifest: b}
	fail := func(err error) (*Artifact, error) {
		return nil, formatError("manifest", d.Digest, err)
	}
	var m ocispec.Manifest
	if err := strictjson.Unmarshal(b, &m); err != nil {
		return fail(err)
	}
	if m.ArtifactType != ArtifactType {
		return fail(fmt.Errorf("got a %q, want a %q", m.ArtifactType, ArtifactType))
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
		return formatError("manifest", a.Descriptor.Digest, fmt.Errorf("config of type %q, want %q", d.MediaType, MediaTypeConfig))
	}
	if d.Size < 0 {
		return formatError("manifest", a.Descriptor.Digest, fmt.Errorf("config of %d bytes", d.Size))
	}
	b, err := document(ctx, src, d)
	if err != nil {
		return err
	}
	fail := func(format string, args ...any) error {
		return formatError("config", d.Digest, fmt.Errorf(format, args...))
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
	if a.RootHash, err = hex.DecodeString(c.RootHash); err != nil {
		return fail("root hash %q is not hexadecimal", c.RootHash)
	}
	if err := checkSupport(c.SupportedUntil, c.Fixes); err != nil {
		return fail("%w", err)
	}
	_, hasTree := a.Layer(MediaTypeTree)
	switch {
	case hasTree && len(a.RootHash) == 0:
		return fail("no root hash of the root file system")
	case !hasTree && len(a.RootHash) != 0:
		return fail("root hash %s of a root file system that is not there", c.RootHash)
	}
	a.ID, a.Version, a.Architecture, a.Variant = c.ID, c.Version, c.Architecture, c.Variant
	a.SupportedUntil, a.Fixes = c.SupportedUntil, c.Fixes
	return nil
}

// Layer is the one layer of a type; false if there is none. Of the types that may be there more
// than once it is the first.
func (a *Artifact) Layer(mediaType string) (ocispec.Descriptor, bool) {
	if list := a.byType[mediaType]; len(list) > 0 {
		return list[0], true
	}
	return ocispec.Descriptor{}, false
}

// Size is what has to be fetched for all layers, in bytes; a layer that is listed twice counts
// once.
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

// Select returns the descriptor of the release for an architecture: of an index, whose bytes are
// checked against d, the entry; d itself if it names a release and not an index, whose own
// architecture [Artifact.Matches] compares. The digest of d is what a signature vouches for, and
// through it for the entry.
func Select(ctx context.Context, src BlobSource, d ocispec.Descriptor, architecture string) (ocispec.Descriptor, error) {
	found, err := selectFrom(ctx, src, d, architecture)
	return found, prefix.Error("release", err)
}

func selectFrom(ctx context.Context, src BlobSource, d ocispec.Descriptor, architecture string) (ocispec.Descriptor, error) {
	fail := func(err error) (ocispec.Descriptor, error) {
		return ocispec.Descriptor{}, formatError("index", d.Digest, err)
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
		return fail(errors.New("both an index and a manifest"))
	case head.ArtifactType != ArtifactType:
		return fail(fmt.Errorf("got a %q, want a %q", head.ArtifactType, ArtifactType))
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

// Open reads the release whose manifest d names from an OCI layout, and verifies every byte of it
// against its digest before it hands any layer out. d is what cosign.Verify returns as the subject,
// or what [Select] has chosen from it; a negative size in it does not count. Of a root file system
// and a tree that are larger than the tree's superblock says, as partitions are, the release has as
// much as that. The files of fsys must implement [io.ReaderAt], as those of [os.DirFS] do. Close
// the release after use.
func Open(ctx context.Context, fsys fs.FS, d ocispec.Descriptor) (*Release, error) {
	r := new(Release)
	if err := r.open(ctx, fsys, d); err != nil {
		for _, f := range r.files {
			err = errors.Join(err, f.Close())
		}
		return nil, prefix.Error("release", err)
	}
	return r, nil
}

func (r *Release) open(ctx context.Context, fsys fs.FS, d ocispec.Descriptor) error {
	a, err := read(ctx, layoutFS{fsys}, d)
	if err != nil {
		return err
	}
	return r.openLayers(a, func(l ocispec.Descriptor) (osmith.Source, error) {
		if l.MediaType == MediaTypeUKI {
			return r.layerOfUKI(ctx, fsys, l, nil)
		}
		return r.layer(ctx, fsys, l)
	})
}

// openLayers fills a release with its layers.
func (r *Release) openLayers(a *Artifact, open func(ocispec.Descriptor) (osmith.Source, error)) error {
	r.ID, r.Version, r.RootHash, r.Architecture, r.Variant, r.Descriptor = a.ID, a.Version, a.RootHash, a.Architecture, a.Variant, a.Descriptor
	r.SupportedUntil, r.Fixes = a.SupportedUntil, a.Fixes
	single := r.single()
	for _, l := range a.Layers {
		src, err := open(l)
		if err != nil {
			return err
		}
		name := l.Annotations[ocispec.AnnotationTitle]
		switch to := single[l.MediaType]; {
		case to != nil:
			*to = src
		case l.MediaType == MediaTypeUKISections:
		case l.MediaType == MediaTypeAddon:
			r.Addons = append(r.Addons, Addon{name, src})
		case isExtension(l.MediaType):
			x := extension.File{Name: name, Content: src}
			if text, ok := l.Annotations[AnnotationExtensionRelease]; ok {
				x.Release = []byte(text)
			}
			r.Extensions = append(r.Extensions, x)
		default:
			r.SBOMs = append(r.SBOMs, SBOM{l.MediaType, name, src})
		}
	}
	r.narrow()
	return nil
}

// narrow leaves out what stands behind the file system and the tree, by the tree's superblock: a
// partition that an image builder has written is larger than what is in it, and nothing vouches for
// the rest. A tree that cannot be read is [Release.Check]'s to refuse.
func (r *Release) narrow() {
	if r.Tree == nil {
		return
	}
	superblock, err := verity.ReadSuperblock(r.Tree, 0)
	if err != nil {
		return
	}
	size, err := verity.TreeSize(superblock.DataSize(), superblock.Params(0))
	if err != nil {
		return
	}
	for _, part := range []struct {
		src  *osmith.Source
		size int64
	}{{&r.Root, superblock.DataSize()}, {&r.Tree, size}} {
		if part.size < (*part.src).Size() {
			// whose holes can be told, as those of a file can
			file, off, _ := (*part.src).(*io.SectionReader).Outer()
			*part.src = io.NewSectionReader(file, off, part.size)
		}
	}
}

// layer opens a blob and reads it once against its digest.
func (r *Release) layer(ctx context.Context, fsys fs.FS, d ocispec.Descriptor) (osmith.Source, error) {
	src, f, err := r.blob(fsys, d)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, ocilayout.CheckedReader(ctx, f, d)); err != nil {
		return nil, err
	}
	return src, nil
}

// layerOfUKI is layer of the UKI, whose digests are taken at the same time.
func (r *Release) layerOfUKI(ctx context.Context, fsys fs.FS, d ocispec.Descriptor, hashes []crypto.Hash) (osmith.Source, error) {
	src, f, err := r.blob(fsys, d)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	if err := ocilayout.CheckDigest(d, d.Digest, info.Size()); err != nil {
		return nil, err
	}
	found, err := hashUKI(ctx, pinUKI(src), hashes, nil)
	if err == nil {
		err = found.verify(d)
	}
	if err != nil {
		return nil, err
	}
	r.UKIDigests = found
	return src, nil
}

// blob opens a blob, of which nothing is verified yet.
func (r *Release) blob(fsys fs.FS, d ocispec.Descriptor) (osmith.Source, fs.File, error) {
	if err := ocilayout.CheckDescriptor(d); err != nil {
		return nil, nil, err
	}
	f, err := fsys.Open(blobPath(d.Digest))
	if err != nil {
		return nil, nil, fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	r.files = append(r.files, f)
	ra, ok := f.(io.ReaderAt)
	if !ok {
		return nil, nil, fmt.Errorf("blob %s: the layout's files cannot be read at an offset", d.Digest)
	}
	return io.NewSectionReader(ra, 0, d.Size), f, nil
}
