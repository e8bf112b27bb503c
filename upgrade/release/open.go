package release

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/ocilayout"
)

// Release is a release that was read and checked. Close it after use.
type Release struct {
	Contents
	Digest digest.Digest // of the manifest
	files  []fs.File
}

// Close closes the layers.
func (r *Release) Close() error {
	var errs []error
	for _, f := range r.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// Open reads the release whose manifest has digest d from an OCI layout, and verifies every byte of it against its
// digest before it hands any layer out. The files of fsys must implement [io.ReaderAt], as those of [os.DirFS] do.
func Open(ctx context.Context, fsys fs.FS, d digest.Digest) (*Release, error) {
	r := &Release{Digest: d}
	if err := r.open(ctx, fsys); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Release) open(ctx context.Context, fsys fs.FS) error {
	a, err := Read(ctx, layoutFS{fsys}, digestOf(r.Digest))
	if err != nil {
		return err
	}
	r.ID, r.Version, r.RootHash, r.Architecture = a.ID, a.Version, a.RootHash, a.Architecture
	single := map[string]*osmith.Source{
		MediaTypeUKI: &r.UKI, MediaTypeRoot: &r.Root, MediaTypeTree: &r.Tree, MediaTypeRootHashSignature: &r.RootHashSignature,
		MediaTypeLoader: &r.Loader, MediaTypePCRs: &r.PCRs,
	}
	for _, l := range a.Layers {
		src, err := r.layer(ctx, fsys, l)
		if err != nil {
			return err
		}
		name := l.Annotations[ocispec.AnnotationTitle]
		switch to := single[l.MediaType]; {
		case to != nil:
			*to = src
		case l.MediaType == MediaTypeAddon:
			r.Addons = append(r.Addons, File{name, src})
		default:
			r.SBOMs = append(r.SBOMs, Document{l.MediaType, name, src})
		}
	}
	return nil
}

// layer opens a blob and reads it once against its digest.
func (r *Release) layer(ctx context.Context, fsys fs.FS, d ocispec.Descriptor) (osmith.Source, error) {
	if err := ocilayout.CheckDescriptor("release", d); err != nil {
		return nil, err
	}
	f, err := fsys.Open(blobPath(d.Digest))
	if err != nil {
		return nil, fmt.Errorf("release: blob %s: %w", d.Digest, err)
	}
	r.files = append(r.files, f)
	ra, ok := f.(io.ReaderAt)
	if !ok {
		return nil, fmt.Errorf("release: blob %s: the layout's files cannot be read at an offset", d.Digest)
	}
	if _, err := io.Copy(io.Discard, ocilayout.CheckedReader(ctx, f, d, "release")); err != nil {
		return nil, err
	}
	return io.NewSectionReader(ra, 0, d.Size), nil
}
