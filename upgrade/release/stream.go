package release

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// Stream opens a release whose root file system stays where it is: everything else is fetched into the OCI layout in dir, as by [Pull], and the root file system is read in ranges while it is
// written to a slot, so that it is written once and takes no other room. Nothing of it is verified by this package. Package upgrade holds every block against the hash tree before it is
// written, and reads only those that the running set does not have, if it is asked to (PlanOptions.Delta). Anything else that reads Root must do the same.
//
// The context is that of reading Root, too. A source that has whole blobs only is [ErrNoRanges] when Root is read. A release that is a UKI alone is fetched in full. Close the release after use. [Open] refuses the
// layout in dir, as it lacks a layer; a later Pull adds it.
func Stream(ctx context.Context, src RangeSource, a *Artifact, dir string, o PullOptions) (*Release, error) {
	o.Skip = append(slices.Clone(o.Skip), MediaTypeRoot)
	if err := pull(ctx, src, a, dir, o); err != nil {
		return nil, prefix.Error("release", err)
	}
	r, fsys := new(Release), os.DirFS(dir)
	err := r.openLayers(a, func(l ocispec.Descriptor) (osmith.Source, error) {
		if l.MediaType != MediaTypeRoot {
			return r.layer(ctx, fsys, l)
		}
		remote, err := NewBlobReader(ctx, src, l)
		if err != nil {
			return nil, err
		}
		return io.NewSectionReader(remote, 0, l.Size), nil
	})
	if err != nil {
		return nil, prefix.Error("release", errors.Join(err, r.Close()))
	}
	return r, nil
}
